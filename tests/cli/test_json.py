"""Every command that changes nothing prints JSON too, which follows the schema that is published for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from clienthv.cli import cli

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOSTS = REPOSITORY / "tests" / "hosts"
PC = str(HOSTS / "desk-x570-3rdgen-rx580-gt710-b.json")
OTHER = str(HOSTS / "fa-laptop-fw16-7840hs.json")

Run = Callable[..., subprocess.CompletedProcess[str]]

CHANGES_SOMETHING = {"up", "down", "attach", "detach", "recover", "export", "import", "migrate", "new"}
IS_NO_DOCUMENT = {
    "render": "a domain's XML", "report": "a page in HTML", "screenshot": "a picture", "console": "a terminal",
    "completion": "a shell's script",
}  # fmt: skip
OF_VMS = {"list", "status", "view"}
"""Those that need a libvirt: tests/libvirt/test_documents.py reads what they print."""

ARGUMENTS: dict[str, list[list[str]]] = {
    "inspect": [["--connect", "nonsense", "inspect"]],
    "plan": [["plan", "performance", "--host", PC], ["plan", "portable", "balanced", "--host", PC]],
    "explain": [["explain", "performance", "gpu", "--host", PC]],
    "profiles": [["profiles"]],
    "profiles show": [["profiles", "show", "windows-gaming"]],
    "profiles check": [["profiles", "check", str(REPOSITORY / "profiles" / "mixed.toml")]],
    "fleet": [["fleet", PC, OTHER]],
    "migrate-check": [
        ["migrate-check", "desk.xml", "--from", PC, "--to", OTHER],
        ["migrate-check", "desk.xml", "--from", PC, "--to", OTHER, "--to", "none.json", "--summary"],
        ["migrate-check", "desk.xml", "--from", PC, "--to", OTHER, "--baseline"],
    ],
}
"""What a command is called with where ``NAME --host FILE`` is not enough."""


def reading() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand but those that change something or print no document."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if name not in CHANGES_SOMETHING | IS_NO_DOCUMENT.keys():
            yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", c) for sub, c in command.commands.items())


READING = dict(reading())


@pytest.mark.parametrize("name", READING)
def test_a_command_that_changes_nothing_has_json(name: str) -> None:
    flags = {option for p in READING[name].params if isinstance(p, click.Option) and p.is_flag for option in p.opts}
    assert "--json" in flags


def test_the_exceptions_are_commands_that_there_are() -> None:
    there = set(cli.list_commands(click.Context(cli)))
    assert there >= CHANGES_SOMETHING | IS_NO_DOCUMENT.keys() | OF_VMS
    assert READING.keys() >= ARGUMENTS.keys()


def follows_its_schema(document: Any) -> str:
    """The kind of a document, which names its schema. A profile's text is a person's, and has no kind."""
    kind = document.get("kind", "profile")
    jsonschema.validate(document, json.loads((REPOSITORY / "docs" / "schemas" / f"{kind}.json").read_text()))
    assert document["schema"] >= 1
    return str(kind)


CALLS = [call for name in READING.keys() - OF_VMS for call in ARGUMENTS.get(name, [[*name.split(), "--host", PC]])]


@pytest.mark.parametrize("call", sorted(CALLS), ids=lambda call: " ".join(Path(word).name for word in call))
def test_what_it_prints_follows_the_published_schema(clienthv: Run, tmp_path: Path, call: list[str]) -> None:
    (tmp_path / "desk.xml").write_bytes(
        (REPOSITORY / "tests/golden/balanced" / f"{Path(PC).stem}.domain.xml").read_bytes()
    )
    shown = clienthv(*call, "--json")
    assert shown.stdout, shown.stderr
    lines = shown.stdout.splitlines() if "--summary" in call else [shown.stdout]
    assert len({follows_its_schema(json.loads(line)) for line in lines}) == 1
    unread = [line for line in lines if "--summary" in call and json.loads(line)["verdict"] is None]
    assert (shown.returncode == 0) == (not unread), shown.stderr

"""The man pages: one for each command, which man renders without a word and apropos finds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import click
import pytest

from clienthv.cli import cli
from clienthv.errors import FAMILIES

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SEEN_BY_OTHERS = {"COMP_WORDS", "LIBVIRT_LOG_OUTPUTS"}
"""Variables that are read and not for people: what the shells' scripts set, and what is set for libvirt."""


@pytest.fixture(scope="module")
def manpages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manpages", REPOSITORY / "scripts" / "manpages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(manpages: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.stem: path for path in manpages.write(tmp_path_factory.mktemp("man"))}


def names() -> set[str]:
    found, context = {"clienthv"}, click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        below = command.commands if isinstance(command, click.Group) else {}
        found |= {f"clienthv-{name}", *(f"clienthv-{name}-{sub}" for sub in below)}
    return found


def test_every_command_has_a_page(written: dict[str, Path]) -> None:
    assert written.keys() == names()


def test_man_renders_every_page_without_a_warning_and_apropos_finds_it(written: dict[str, Path]) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    strict = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    for name, path in written.items():
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(path)]
        shown = subprocess.run(command, env=strict, capture_output=True, text=True, check=False)
        assert (shown.returncode, shown.stderr) == (0, ""), name
    found = subprocess.run(["lexgrog", *map(str, written.values())], capture_output=True, text=True, check=True).stdout
    assert re.findall(r': "(\S+) - \S', found) == list(written)


def read(path: Path) -> str:
    """A page as a person reads it."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "400", "MAN_KEEP_FORMATTING": "", "MANPAGER": "cat"}
    shown = subprocess.run(["man", "-l", str(path)], env=environment, capture_output=True, text=True, check=True)
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", shown.stdout)


def test_a_page_says_what_the_command_says_and_how_it_ends(written: dict[str, Path]) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    text = read(written["clienthv-up"])
    command = cli.get_command(click.Context(cli), "up")
    assert command is not None
    for option in (p for p in command.params if isinstance(p, click.Option) and not p.hidden):
        assert option.opts[0] in text
        assert option.help
        assert option.help in text
    assert 'clienthv up balanced --name desk --new-disk "40 GiB" --cdrom debian.iso --wait' in text
    codes = re.findall(r"^ +(\d+)(?:, \d+)? ", text.partition("EXIT STATUS")[2], re.MULTILINE)
    assert {str(family.code) for family in FAMILIES} | {"0", "1", "130", "141"} <= set(codes)


def test_every_variable_that_clienthv_reads_is_on_its_page(manpages: ModuleType) -> None:
    source = "".join(path.read_text() for path in sorted((REPOSITORY / "clienthv").rglob("*.py")))
    used = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source))
    told = {name for names in manpages.ENVIRONMENT for name in names.split(", ")}
    assert used - SEEN_BY_OTHERS <= told


@pytest.mark.parametrize(
    ("text", "roff"),
    [("a-b", "a\\-b"), (".so /etc/passwd", "\\&.so /etc/passwd"), ("'x", "\\&'x"), ("a\\fBb", "a\\efBb")],
)
def test_no_text_is_taken_for_a_request(manpages: ModuleType, text: str, roff: str) -> None:
    assert manpages.escaped(text) == roff

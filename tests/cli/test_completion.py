"""Completion in the shells themselves, as a person meets it: keys are pressed, and the line is read."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from clienthv.cli import cli
from clienthv.cli.shells import SCRIPTS
from clienthv.inspect import at_hand
from clienthv.inspect.files import Tree

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SLOWEST = 60.0  # seconds, on a PC that is busy with other things

PCI = [device.word for device in at_hand.pci(Tree())]
LINES = {
    "clienthv st": "clienthv status",
    "clienthv --connect qemu:///sy": "clienthv --connect qemu:///system",
    "clienthv --connect=qemu:///sy": "clienthv --connect=qemu:///system",
    "clienthv status de": "clienthv status desk-of-mine",
    "clienthv up windows-g": "clienthv up windows-gaming",
    "clienthv up desk": "clienthv up desk-of-mine",
    "clienthv plan my-o": "clienthv plan my-own",
    "clienthv attach desk-of-mine tp": "clienthv attach desk-of-mine tpm",
    "clienthv up --upgr": "clienthv up --upgrade",
    "clienthv plan --host my-p": "clienthv plan --host my-pc.json",
    "clienthv explain balanced firm": "clienthv explain balanced firmware",
    "clienthv completion fi": "clienthv completion fish",
    **({f"clienthv attach desk-of-mine {PCI[-1][:-1]}": f"clienthv attach desk-of-mine {PCI[-1]}"} if PCI else {}),
}
"""What is typed before the Tab key, and what the line is then."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user with a VM of the embedded driver, a profile and a host document of their own, and clienthv installed."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "clienthv"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -W ignore -m clienthv "$@"\n')
    program.chmod(0o755)
    for file in (
        "state/clienthv/embed/etc/qemu/desk-of-mine.xml",
        "config/clienthv/profiles/my-own.toml",
        "my-pc.json",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for shell, script in SCRIPTS.items():
        (tmp_path / f"completion.{shell}").write_text(script)
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home}/bin:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TERM": "vt100",
        "LC_ALL": "C.UTF-8",
    }


class Typing:
    """An interactive shell, and somebody at its keyboard."""

    def __init__(self, command: list[str], home: Path) -> None:
        self._ours, theirs = pty.openpty()
        self._line = home / "line"
        self._shell = subprocess.Popen(
            command, env=environment(home), cwd=home, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""

    def enter(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def completed(self, typed: str) -> str:
        """The line after Tab was pressed once: with Ctrl-A and Ctrl-E it is made the argument of a printf."""
        self._line.unlink(missing_ok=True)
        os.write(self._ours, f"{typed}\t\x01printf '%s\\n' '\x05' > line.new; mv line.new line\n".encode())
        deadline = time.monotonic() + SLOWEST
        while not self._line.exists():
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.02)[0]:
                self.shown += os.read(self._ours, 4096).decode(errors="replace")
        return self._line.read_text().removesuffix("\n")

    def end(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._ours)


INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ["source completion.bash"]),
    "zsh": (["zsh", "-f", "-i"], ["autoload -U compinit", "compinit -u -D", "source completion.zsh"]),
}


@pytest.fixture(params=INTERACTIVE)
def typing(request: pytest.FixtureRequest, home: Path) -> Iterator[Typing]:
    command, before = INTERACTIVE[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    shell = Typing(command, home)
    for line in before:
        shell.enter(line)
    yield shell
    shell.end()


def test_tab_completes_commands_options_vms_profiles_devices_files_and_connections(typing: Typing) -> None:
    assert {typed: typing.completed(typed).rstrip() for typed in LINES} == LINES
    assert "Traceback" not in typing.shown


def test_no_name_is_offered_that_the_shell_would_run_or_read_otherwise(home: Path, typing: Typing) -> None:
    evil = "$(touch${IFS}made-by-a-name)"
    for file in (f"state/clienthv/embed/etc/qemu/evil{evil}.xml", f"config/clienthv/profiles/evil{evil}.toml"):
        (home / file).touch()
    (home / f"file{evil}").touch()
    for typed in ("clienthv status evil", "clienthv plan evil"):
        assert typing.completed(typed) == typed
    assert typing.completed("echo done; clienthv plan --host file") != "echo done; clienthv plan --host file"
    typing.completed("clienthv plan --host $(touch${IFS}made-by-a-name)/")
    assert not (home / "made-by-a-name").exists()


def test_what_cannot_be_completed_stays_and_says_nothing(typing: Typing) -> None:
    for typed in ("clienthv nosuch de", "clienthv --connect qemu+ssh://me@far/system status de"):
        assert typing.completed(typed) == typed
    assert "Error" not in typing.shown
    assert "Traceback" not in typing.shown


@pytest.fixture
def fish(home: Path) -> Path:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    return home


def offered(home: Path, *typed: str) -> list[list[list[str]]]:
    """What fish offers for each line: words, each with what it is."""
    asked = "; ".join(f"complete -C {shlex.quote(line)}; echo =" for line in typed)
    command = ["fish", "--no-config", "-c", f"source completion.fish; {asked}"]
    shown = subprocess.run(command, env=environment(home), cwd=home, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    return [[line.split("\t") for line in part.splitlines() if line] for part in shown.stdout.split("=\n")[:-1]]


def test_fish_offers_the_same(fish: Path) -> None:
    found = [[words[0] for words in one] for one in offered(fish, *LINES)]
    assert found == [[line.split()[-1]] for line in LINES.values()]


def test_fish_says_what_each_is_and_stays_silent_where_nothing_is_known(fish: Path) -> None:
    vms, far = offered(fish, "clienthv up ", "clienthv --connect qemu+ssh://far/system up d")
    about = dict(vms)
    assert about["desk-of-mine"] == "VM"
    assert about["my-own"] == "user profile"
    assert about["balanced"] == "profile"
    assert ["desk-of-mine", "VM"] not in far


def test_a_name_from_elsewhere_is_one_answer_and_commands_nothing(home: Path) -> None:
    folder = home / "state/clienthv/embed/etc/qemu"
    for name in ("de\nplain\tevil", "de\x1b[2J", "de sk", "$(touch hacked)"):
        (folder / f"{name}.xml").touch()
    asked = {**environment(home), "_CLIENTHV_COMPLETE": "bash_complete", "COMP_WORDS": "clienthv status "}
    shown = subprocess.run(["clienthv"], env=asked, cwd=home, capture_output=True, text=True, check=True)
    assert shown.stdout == "plain\tdesk-of-mine\tVM\n"
    assert not (home / "hacked").exists()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_script_and_where_it_goes(shell: str) -> None:
    printed = click.testing.CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert printed.output == SCRIPTS[shell]
    assert f"clienthv completion {shell} > " in printed.output

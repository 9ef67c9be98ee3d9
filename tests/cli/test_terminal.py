"""What a person sees on a terminal: colours, lines that fit, progress; and what a pipe gets."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import at_a_terminal

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOSTS = REPOSITORY / "tests" / "hosts"
PC = HOSTS / "desk-x570-3rdgen-rx580-gt710-b.json"
LAPTOP = HOSTS / "fa-laptop-fw13-13thgen.json"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WIDTHS = (80, 40)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A domain with the graphics card of a PC."""
    home = tmp_path_factory.mktemp("definition")
    with at_a_terminal("render", "performance", "--host", str(PC), home=home) as terminal:
        code, shown = terminal.finish()
    assert code == 0
    path = home / "desk.xml"
    path.write_text(shown)
    return path


def seen(home: Path, *arguments: str, columns: int = 80, **environment: str) -> str:
    with at_a_terminal(*arguments, columns=columns, home=home, environment=environment) as terminal:
        code, shown = terminal.finish()
    assert code == 0, shown
    return shown


COMMANDS = [
    ("plan", "performance", "--explain", "--host", str(PC)),
    ("plan", "performance", "balanced", "--host", str(PC)),
    ("devices", "--host", str(PC)),
    ("migrate-check", "DEFINITION", "--from", str(PC), "--to", str(LAPTOP)),
    ("fleet", str(PC), str(LAPTOP)),
]


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_on_a_terminal_every_line_fits_and_what_is_copied_stays_whole(
    command: tuple[str, ...], columns: int, clienthv: Run, tmp_path: Path, definition: Path
) -> None:
    command = tuple(str(definition) if word == "DEFINITION" else word for word in command)
    piped = clienthv(*command).stdout
    shown = seen(tmp_path, *command, columns=columns, NO_COLOR="1")
    words = r"\[[a-z0-9-]+\]|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|(?:select|allow|model) = [\[\"]\S+"
    assert set(re.findall(words, shown)) == set(re.findall(words, piped))
    copied = [word for word in piped.split() if len(word) > columns - 12] + re.findall(r"[a-z]+ = \S+.*?\]", piped)
    too_long = [line for line in shown.replace("\x1b[K", "").splitlines() if len(line) > columns]
    assert [line for line in too_long if not any(word in line for word in copied)] == []


def test_through_a_pipe_each_record_is_a_line_however_narrow_the_terminal_was(clienthv: Run) -> None:
    shown = clienthv("devices", "--host", str(PC), COLUMNS="40").stdout
    wide = clienthv("devices", "--host", str(PC), COLUMNS="400").stdout
    assert shown == wide
    assert re.search(r"^  0000:2e:00\.0 .* yes, with 0000:2e:00\.1$", shown, re.MULTILINE)
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_and_no_color_takes_them_away(
    environment: dict[str, str], coloured: bool, tmp_path: Path
) -> None:
    shown = seen(tmp_path, "plan", "performance", "--host", str(PC), **environment)
    assert bool(COLOUR.search(shown)) is coloured


def test_colours_are_beside_the_text_and_never_in_place_of_it(tmp_path: Path) -> None:
    command = ("plan", "performance", "--explain", "--host", str(PC))
    assert COLOUR.sub("", seen(tmp_path, *command)) == seen(tmp_path, *command, NO_COLOR="1")


def test_colours_can_be_asked_for_and_refused_before_and_after_the_command(clienthv: Run) -> None:
    command = ("plan", "performance", "--host", str(PC))
    assert COLOUR.search(clienthv(*command, "--color", "always").stdout)
    assert COLOUR.search(clienthv("--color", "always", *command).stdout)
    assert COLOUR.search(clienthv(*command, CLICOLOR_FORCE="1").stdout)
    assert not COLOUR.search(clienthv("--color", "never", *command, CLICOLOR_FORCE="1").stdout)


def test_an_address_and_a_rung_that_was_refused_have_colours_of_their_own(clienthv: Run) -> None:
    shown = clienthv("plan", "performance", "--host", str(PC), "--color", "always").stdout
    gpu = next(line for line in shown.splitlines() if line.startswith("  gpu "))
    cpu = next(line for line in shown.splitlines() if line.startswith("  cpu "))
    nic = next(line for line in shown.splitlines() if line.startswith("  nic "))
    of = [re.findall(r"\x1b\[([0-9;]+)m(?:hardware-virt|paravirtual|0000:2e:00\.0)", line) for line in (cpu, nic, gpu)]
    assert len({code for codes in of for code in codes}) == 3


def test_an_error_on_a_narrow_terminal_hangs_below_its_word(tmp_path: Path) -> None:
    with at_a_terminal("plan", "balancd", columns=40, home=tmp_path, environment={"NO_COLOR": "1"}) as terminal:
        code, shown = terminal.finish()
    assert code == 5
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert re.search(r"^Hint: did you mean 'balanced'\?.*\n {6}\S", shown, re.MULTILINE)


def test_quiet_leaves_results_and_errors(clienthv: Run, tmp_path: Path) -> None:
    listing = tmp_path / "pc.txt"
    listing.write_text("00:02.0 VGA compatible controller [0300]: Intel Corporation Device [8086:4692]\n")
    loud = clienthv("plan", "balanced", "--host", str(listing))
    assert "unknown: " in loud.stderr
    for command in (
        ("--quiet", "plan", "balanced", "--host", str(listing)),
        ("plan", "balanced", "--host", str(listing), "-q"),
    ):
        done = clienthv(*command)
        assert (done.stdout, done.stderr) == (loud.stdout, "")
    assert "[bad-profile]" in clienthv("-q", "plan", "nosuch").stderr


@pytest.mark.parametrize("after", [True, False])
def test_verbose_says_what_is_read(clienthv: Run, after: bool) -> None:
    command = ["plan", "windows-11", "--host", str(PC)]
    quiet, done = clienthv(*command), clienthv(*(["-v"] * (not after)), *command, *(["-v"] * after))
    assert done.stdout == quiet.stdout
    assert f"read {PC}: {PC.stat().st_size} bytes" in done.stderr
    assert re.search(r"read the profile \S+/windows-11\.toml\n.*read the profile \S+/balanced\.toml", done.stderr)


def test_verbose_says_which_programs_ran_and_how_they_ended(clienthv: Run, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    done = clienthv("migrate-check", str(image), "--no-inspect", "--to", str(PC), "--verbose")
    assert re.search(r"qemu-img info .*disk\.qcow2: ended with 0 after \d+\.\d\d s", done.stderr), done.stderr


def test_verbose_says_what_libvirt_refused(clienthv: Run) -> None:
    done = clienthv("--connect", "qemu+unix:///system?socket=/nowhere/sock", "-v", "list")
    assert done.returncode == 3
    assert re.search(r"libvirt: connect to \S+: refused, error \d+: ", done.stderr), done.stderr


def test_one_cannot_be_quiet_and_verbose(clienthv: Run) -> None:
    for command in (("-q", "-v", "profiles"), ("-q", "profiles", "-v"), ("profiles", "show", "demo", "-q", "-v")):
        done = clienthv(*command)
        assert (done.returncode, "not both" in done.stderr) == (2, True), command


def test_the_check_of_a_fleet_shows_how_far_it_is_and_leaves_whole_lines(tmp_path: Path, definition: Path) -> None:
    command = ("migrate-check", str(definition), "--from", str(PC), "--summary", "--to", str(HOSTS))
    shown = seen(tmp_path, *command, columns=200, NO_COLOR="1")
    count = len([p for p in HOSTS.iterdir() if p.suffix in (".json", ".txt")])
    assert re.search(rf"checking \S+  \[#*·*\] +\d+ %  \d+ of {count} targets", shown)
    left = [re.sub(r".*\x1b\[K", "", line) for line in shown.splitlines()]
    assert sum(line.startswith(str(HOSTS)) for line in left) == count
    assert left[-1].startswith(f"{count} targets: ")


def test_without_a_terminal_and_in_a_quiet_run_nothing_moves(clienthv: Run, tmp_path: Path, definition: Path) -> None:
    command = ("migrate-check", str(definition), "--from", str(PC), "--summary", "--to", str(LAPTOP), str(PC))
    assert "\r" not in clienthv(*command).stderr
    assert "\x1b" not in seen(tmp_path, *command, "--quiet", NO_COLOR="1")
    assert "\x1b" not in seen(tmp_path, *command, TERM="dumb")

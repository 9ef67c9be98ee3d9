"""When there are colours, and what the line says that tells how far long work is."""

from __future__ import annotations

import io

import pytest

from clienthv.cli import progress, terminal
from clienthv.cli.terminal import coloured
from clienthv.errors import HostError
from clienthv.report import style


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "color", "environment", "expected"),
    [
        (_Terminal(), "auto", {}, True),
        (_Terminal(), "auto", {"NO_COLOR": ""}, True),
        (_Terminal(), "auto", {"NO_COLOR": "1"}, False),
        (_Terminal(), "auto", {"NO_COLOR": "0"}, False),
        (_Terminal(), "auto", {"TERM": "dumb"}, False),
        (_Terminal(), "never", {"CLICOLOR_FORCE": "1"}, False),
        (io.StringIO(), "auto", {}, False),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "1"}, True),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "0"}, False),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
        (io.StringIO(), "always", {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_go_to_terminals_that_show_them_unless_somebody_says_otherwise(
    stream: io.StringIO, color: str, environment: dict[str, str], expected: bool
) -> None:
    assert coloured(stream, color, environment) is expected  # type: ignore[arg-type]


def test_a_closed_stream_gets_no_colours() -> None:
    stream = io.StringIO()
    stream.close()
    assert coloured(stream, "auto", {}) is False


@pytest.mark.parametrize(
    ("share", "bar"), [(-1.0, "·" * 24), (0.5, "#" * 12 + "·" * 12), (1.0, "#" * 24), (7.0, "#" * 24)]
)
def test_a_bar_is_filled_by_its_share_and_never_beyond(share: float, bar: str) -> None:
    assert progress.drawn("exporting desk", share, "x", 80).startswith(f"exporting desk  [{bar}]")


def test_a_narrow_line_has_the_numbers_first_and_no_bar() -> None:
    assert progress.drawn("exporting a-long-name", 0.5, "1.0 of 2.0 GiB", 40) == "1.0 of 2.0 GiB: exporting a-long-name"


def test_bytes_are_told_in_the_unit_of_the_whole() -> None:
    assert progress.amount(1 << 20, 3 << 30) == "0.0 of 3.0 GiB"
    assert progress.amount(512, 2048) == "0.5 of 2.0 KiB"


def test_the_time_left_is_told_when_there_is_something_to_tell_it_from() -> None:
    assert progress.left(1.0, 1, 100) == ""
    assert progress.left(10.0, 0, 100) == ""
    assert progress.left(30.0, 25, 100) == ", 1:30 left"


def a_screen(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """A terminal for what is said, of 60 columns. No fixture: pytest sets the streams anew when a test begins."""
    shown = _Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(terminal, "_manner", terminal.Manner())
    return shown


def lines(shown: _Terminal) -> list[str]:
    """What a terminal shows at the end: a line that moved is overwritten or erased."""
    return [line.rpartition("\r")[2].replace("\x1b[K", "") for line in shown.getvalue().split("\n")]


def test_a_note_takes_the_place_of_the_line_that_moves_and_that_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = a_screen(monkeypatch)
    with progress.counted("checking desk", 3, "targets") as told:
        told(1)
        terminal.say("one of them is old")
        told(2)
    assert "checking desk" in screen.getvalue()
    assert "2 of 3 targets" in screen.getvalue()
    assert lines(screen) == ["one of them is old", ""]


def test_the_line_that_moves_is_shorter_than_the_terminal_whatever_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_screen(monkeypatch)
    with progress.counted("checking " + "漢" * 200 + "\x1b[2J", 2, "targets"):
        pass
    moved = [piece.removesuffix("\x1b[K") for piece in screen.getvalue().split("\r") if piece.strip("\x1b[K")]
    assert moved
    assert all(style.breadth(piece) < 60 for piece in moved)
    assert "\x1b[2J" not in screen.getvalue()


def test_bytes_move_the_line_too_but_not_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_screen(monkeypatch)
    clock = iter([0.0, 0.1, 0.2, 5.0, 5.1])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.moved("exporting desk") as told:
        for done in (1, 2, 3, 4):
            told(done << 20, 8 << 20)
    drawn = [piece for piece in screen.getvalue().split("\r") if "exporting" in piece]
    assert len(drawn) == 1
    assert "3.0 of 8.0 MiB, 0:08 left" in drawn[0]
    assert lines(screen) == [""]


def test_an_error_is_told_in_a_quiet_run_and_a_note_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_screen(monkeypatch)
    monkeypatch.setattr(terminal, "_manner", terminal.Manner(quiet=True))
    terminal.say("by the way")
    terminal.tell(HostError("no libvirt\x1b[2J", hint="install it", detail="line one\nline two"))
    assert lines(screen) == [
        r"Error: no libvirt\x1b[2J [host-unfit]", "Hint: install it", "Detail: line one", "  line two", "",
    ]  # fmt: skip


def test_no_line_of_an_error_can_pass_for_a_hint_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.tell(HostError("pc\nHint: sudo evil has no card", hint="there are: a\nError: b", detail="x\nHint: y"))
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.startswith(("Hint:", "Error:"))] == ["Error: pc", "Hint: there are: a"]

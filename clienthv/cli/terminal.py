"""The terminal: what is said beside the output and how much of it, colours, folding, and the one line that moves."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, Literal, NamedTuple

import click

from clienthv.cli.text import visible
from clienthv.errors import ClienthvError
from clienthv.report import folding, style
from clienthv.report.style import Line, Role

_PAINT: Final[Mapping[Role, Mapping[str, Any]]] = {
    Role.GOOD: {"fg": "green"},
    Role.WORSE: {"fg": "yellow"},
    Role.BAD: {"fg": "red"},
    Role.WARNING: {"fg": "yellow", "bold": True},
    Role.UNKNOWN: {"fg": "magenta"},
    Role.ADDRESS: {"fg": "cyan"},
    Role.CODE: {"dim": True},
    Role.COMMAND: {"bold": True},
    Role.HEADING: {"bold": True},
    Role.FAINT: {"dim": True},
}
_LEAST: Final = 20  # columns; a terminal that says fewer is taken for one of these
_ERASED: Final = "\r\x1b[K"

When = Literal["auto", "always", "never"]


class Manner(NamedTuple):
    """How this run of clienthv speaks: nothing but results and errors, or all that it does; and with colours when."""

    quiet: bool = False
    verbose: bool = False
    color: When = "auto"


_manner = Manner()
_writing = threading.RLock()
_moving: list[str] = []  # the line that is overwritten, while it is on the screen


def speak(manner: Manner) -> None:
    """Set how this run speaks. With ``verbose`` the log of all rooms is said."""
    global _manner
    _manner = manner
    log = logging.getLogger("clienthv")
    for handler in [h for h in log.handlers if isinstance(h, _Log)]:
        log.removeHandler(handler)
    log.setLevel(logging.DEBUG if manner.verbose else logging.WARNING)
    if manner.verbose:
        log.addHandler(_Log())


def manner() -> Manner:
    """How this run speaks."""
    return _manner


class _Log(logging.Handler):
    """Says what the rooms log, with the seconds since clienthv began; what is asked again and again but once."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._asked = set[object]()

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record. Of level DEBUG the first is said that has its first argument."""
        if record.levelno == logging.DEBUG:
            what = record.args[0] if isinstance(record.args, tuple) else record.msg
            if what in self._asked:
                return
            self._asked.add(what)
        gone = f"{time.monotonic() - self._began:7.2f} s  "
        say(Line(style.Part(gone + record.getMessage(), Role.FAINT), hang=len(gone)))


def is_terminal(stream: IO[Any]) -> bool:
    """Whether a stream is a terminal; one that is closed is none."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def coloured(stream: IO[Any], color: When, environment: Mapping[str, str]) -> bool:
    """Whether colours go to a stream: as asked, else by NO_COLOR, CLICOLOR_FORCE and whether a terminal shows them.

    NO_COLOR counts when it is not empty (https://no-color.org); CLICOLOR_FORCE when it is neither empty nor 0
    (https://bixense.com/clicolors).
    """
    if color != "auto":
        return color == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and environment.get("TERM") != "dumb"


def width_of(stream: IO[Any]) -> int | None:
    """The columns of the terminal that a stream is; None for all else, where no line is folded."""
    if not is_terminal(stream):
        return None
    with suppress(OSError, ValueError):
        if not os.environ.get("COLUMNS", "").isdecimal() and (wide := os.get_terminal_size(stream.fileno())[0]):
            return max(_LEAST, wide)
    return max(_LEAST, shutil.get_terminal_size()[0])


def put(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines for a person: folded where a terminal is narrower, with colours where they are wanted.

    Control characters, which names from elsewhere may hold, are shown, not obeyed. A line that moves makes room.
    """
    stream = sys.stderr if err else sys.stdout
    width, colour = width_of(stream), coloured(stream, _manner.color, os.environ)
    safe = (style.marked(line).mapped(visible) for line in lines)
    shown = (row for line in safe for row in (folding.folded(line, width) if width else (line,)))
    text = "\n".join(_painted(row) if colour else str(row) for row in shown)
    with _writing:
        _erase()
        if err:
            _beside(text, colour=colour)
        else:
            click.echo(text, color=colour)


def write(text: str | bytes) -> None:
    """Print a text for a program, as it is, where a line may move."""
    with _writing:
        _erase()
        click.echo(text)


def _beside(text: str, *, nl: bool = True, colour: bool = True) -> None:
    """Write beside the output. Where nobody listens any more, a closed terminal or pipe, that is no reason to stop."""
    try:
        click.echo(text, err=True, nl=nl, color=colour)
    except OSError:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)


def _painted(line: str) -> str:
    return "".join(
        click.style(part.text, **_PAINT[part.role]) if part.role is not None else part.text
        for part in style.marked(line).parts
    )


def say(text: str) -> None:
    """A line for the person, beside the output; nothing in a quiet run."""
    if not _manner.quiet:
        put(text.split("\n") if not isinstance(text, Line) else (text,), err=True)


def tell(error: ClienthvError) -> None:
    """An error: what is wrong, the next step, and another program's own words.

    Lines after the first go in, so that no text from elsewhere can pass for a hint of ours.
    """
    detail = (error.detail or "").strip()
    for name, role, text in (
        ("Error: ", Role.BAD, f"{error.message} [{error.ref}]"),
        ("Hint: ", Role.GOOD, error.hint or ""),
        ("Detail: ", Role.FAINT, detail if detail not in error.message else ""),
    ):
        first, *more = text.split("\n")
        if text:
            lead = Line(style.Part(name, role), style.marked(first), hang=len(name))
            put([lead, *map(_inside, more)], err=True)


def _inside(text: str) -> str:
    return text if text.startswith("  ") or not text else f"  {text}"


def _erase() -> None:
    if _moving:
        _moving.clear()
        _beside(_ERASED, nl=False)


def move(text: str) -> None:
    """Overwrite the line at the bottom of the terminal, which must be one."""
    with _writing:
        _moving[:] = [_cut(visible(text), columns() - 1)]
        _beside(f"\r{_moving[0]}\x1b[K", nl=False)


def columns() -> int:
    """The columns of the terminal on which a line moves."""
    return width_of(sys.stderr) or 80


def _cut(text: str, width: int) -> str:
    """A text of at most so many columns."""
    if style.breadth(text) <= width:
        return text
    text = text[:width]
    while style.breadth(text) >= width:
        text = text[:-1]
    return f"{text}…"


@contextmanager
def ticking() -> Iterator[bool]:
    """Whether a line may move now; it is gone when the block ends."""
    try:
        yield not _manner.quiet and is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    finally:
        with _writing:
            _erase()

"""How far long work is: one line at the bottom of a terminal, with a bar where it is known how much there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from clienthv.cli import terminal

_EVERY: Final = 0.25  # seconds between two drawings of a bar
_BAR: Final = 24  # columns
_UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_FORESEEN: Final = 3.0  # seconds before which nothing is said of the time that is left


@contextmanager
def progress(doing: str, at_most: float | None = None) -> Iterator[None]:
    """The seconds gone by, for what takes longer than one; ``at_most`` is when it is given up."""
    with terminal.ticking() as may_move:
        if not may_move:
            yield
            return
        began, done = time.monotonic(), threading.Event()

        def tick() -> None:
            while not done.wait(1):
                gone = time.monotonic() - began
                if at_most is None:
                    terminal.move(f"{doing} … {gone:.0f} s")
                else:
                    terminal.move(
                        drawn(doing, gone / at_most, f"{gone:.0f} of at most {at_most:.0f} s", terminal.columns())
                    )

        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            yield
        finally:
            done.set()
            clock.join()


@contextmanager
def counted(doing: str, total: int, things: str) -> Iterator[Callable[[int], None]]:
    """A bar for several things, one after another. What is yielded is told how many are done."""
    if total < 2:
        yield lambda _: None
        return
    with _drawing(doing, lambda done, total: f"{done} of {total} {things}", 0.0) as told:
        told(0, total)
        yield lambda done: told(done, total)


@contextmanager
def moved(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for bytes. What is yielded is told how many are done, and how many there are."""
    with _drawing(doing, amount, _EVERY) as told:
        yield told


@contextmanager
def _drawing(doing: str, said: Callable[[int, int], str], every: float) -> Iterator[Callable[[int, int], None]]:
    """A bar that is drawn every so many seconds at most. What is yielded is told how much of how much is done."""
    with terminal.ticking() as may_move:
        began = last = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if may_move and now - last >= every:
                last = now
                words = said(done, total) + left(now - began, done, total)
                terminal.move(drawn(doing, done / total if total else 0.0, words, terminal.columns()))

        yield told


def amount(done: int, total: int) -> str:
    """So many bytes of so many, in the unit that fits the whole."""
    unit, size = next((u for u in _UNITS if total >= u[1]), _UNITS[-1])
    return f"{done / size:.1f} of {total / size:.1f} {unit}"


def left(gone: float, done: int, total: int) -> str:
    """The time that is left when it goes on as it did for ``gone`` seconds; nothing while that tells little."""
    if gone < _FORESEEN or not 0 < done <= total:
        return ""
    seconds = int(gone * (total - done) / done)
    return f", {seconds // 60}:{seconds % 60:02} left"


def drawn(doing: str, share: float, words: str, width: int) -> str:
    """The line: what is done, a bar filled by ``share`` (0 to 1), and words. Where it is too narrow, without a bar."""
    bounded = min(1.0, max(0.0, share))
    full = round(bounded * _BAR)
    whole = f"{doing}  [{'#' * full}{'·' * (_BAR - full)}] {int(bounded * 100):3} %  {words}"
    return whole if len(whole) < width else f"{words}: {doing}"

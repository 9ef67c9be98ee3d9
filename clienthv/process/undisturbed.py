"""Work that no signal may leave half done: what a program of another's does for us, and taking things back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the signals that end a program away until the work is done; then they are heard.

    What the work starts is deaf to them. Blocked alone they would not be: another thread, such as libvirt's events or
    the clock of a terminal, would take what the main thread blocks, and Python then interrupts the main thread all the
    same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        with heard_later(lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask)):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def heard_later(before: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Note the signals that end a program, and hear them when the work is done and ``before`` was called."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers: dict[signal.Signals, Any] = {s: signal.signal(s, lambda number, _: came.append(number)) for s in _ENDING}
    try:
        yield
    finally:
        before()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

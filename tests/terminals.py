"""A program on a terminal of its own, of so many columns, and a person at it who answers what is asked."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

LATEST = 60.0  # seconds


class Terminal:
    """Our end of a terminal, and the program at the other."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self.process = process
        self.shown = ""

    def read_until(self, words: str) -> str:
        """What was shown since the last answer, once it holds the words. Fails when the program ends before."""
        seen, deadline = len(self.shown), time.monotonic() + LATEST
        while words not in self.shown[seen:] and self._read(deadline):
            pass
        assert words in self.shown[seen:], f"{words!r} is not in {self.shown[seen:]!r}"
        return self.shown[seen:]

    def answer(self, question: str, text: str) -> str:
        """Wait for a question and type an answer; what was shown up to the question."""
        shown = self.read_until(question)
        self.type(f"{text}\n")
        return shown

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C until the program ends: while it begins to wait for a line, Python loses an interrupt."""
        deadline = time.monotonic() + LATEST
        while self.process.poll() is None and time.monotonic() < deadline:
            self.type("\x03")
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        return self.finish()

    def finish(self) -> tuple[int, str]:
        """The exit code, and all that was shown."""
        deadline = time.monotonic() + LATEST
        while self._read(deadline):
            pass
        return self.process.wait(LATEST), self.shown

    def _read(self, deadline: float) -> bool:
        if time.monotonic() > deadline:
            return False
        if not select.select([self._ours], [], [], 0.2)[0]:
            return True
        try:
            piece = os.read(self._ours, 1 << 16)
        except OSError:  # the program has ended, and its end of the terminal with it
            return False
        self.shown += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


@contextmanager
def at_a_terminal(
    *arguments: str, columns: int = 80, home: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run clienthv with a terminal for all three of its streams, until the block ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR", "CLICOLOR_FORCE", "LIBVIRT_DEFAULT_URI")
    }
    folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "STATE", "DATA", "CACHE")}
    process = subprocess.Popen(
        [sys.executable, "-m", "clienthv", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, start_new_session=True,
        env={**inherited, **folders, "TERM": "xterm-256color", **(environment or {})},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

"""dd: files of the kernel's, whose reader or writer may be kept waiting."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from clienthv.process.running import NOTHING, WRITES_TO, find, run

_NUMBERS: Final = {os.strerror(number): number for number in errno.errorcode}


def write_file(path: str, value: str, within: float, device: str = "") -> None:
    """Write a line to a file that is there, in one piece. Raises OSError, and TimeoutError after ``within`` seconds.

    A process of its own does it. The kernel may keep whoever writes waiting, deaf even to SIGKILL: then that process is
    left to it, and what it wrote may still come to pass. Its environment names the ``device``, for ``inspect`` to see
    that it is still there. A signal that ends clienthv does not reach it, and is heard when it has ended.
    """
    _dd(path, [f"of={path}", "conv=nocreat,notrunc", "oflag=nofollow"], within, f"{value}\n", {WRITES_TO: device})


def read_file(path: str, within: float) -> str:
    """The text of a file of the kernel's, whose reader may have to wait as well. Raises OSError, TimeoutError."""
    return _dd(path, [f"if={path}"], within)


def _dd(path: str, words: list[str], within: float, given: str | None = None, more: Mapping[str, str] = NOTHING) -> str:
    """What dd prints, its failure as the system's own. Raises OSError, TimeoutError."""
    code, text, told = run([find("dd", "install coreutils"), *words, "status=none"], within, given, more)
    if code != 0:
        reason = told.strip().rpartition(": ")[2] or f"dd ended with {code}"
        raise OSError(_NUMBERS.get(reason, 0), reason, path)
    return text

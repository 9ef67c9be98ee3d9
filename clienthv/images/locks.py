"""Whether a process has an image open to write, by the locks that QEMU and its tools hold on it."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

# QEMU, block/file-posix.c: RAW_LOCK_PERM_BASE; include/block/block-common.h: BLK_PERM_WRITE is bit 1. A byte is locked
# for each permission that is held, by open file descriptions (F_OFD_SETLK).
_WRITING: Final = 100 + 1
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of x86_64 (fcntl(2)); the process must be 0 with F_OFD_GETLK


def is_written(path: Path) -> bool | None:
    """Whether somebody has it open to write, with locks as QEMU has them by default.

    None where nobody can tell: it is not there, may not be opened, or its file system has no such locks. A program
    that locks nothing is not seen.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITING, 1, 0)
        found, *_ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    except OSError:
        return None
    finally:
        os.close(handle)
    return bool(found != fcntl.F_UNLCK)

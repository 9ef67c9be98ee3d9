"""What was found in images, kept in a folder of the user's: a file for each image as it was looked at."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from clienthv.model.contents import SCHEMA, ImageContents

_END: Final = 64 << 10
_MOST: Final = 1 << 20


class NotAFileError(Exception):
    """What was to be looked at is not an ordinary file."""


def key(path: Path, image_format: str) -> str:
    """What tells one state of one image from another: where it lies, its size and times, and its two ends.

    Whoever writes to a disk's middle changes the times too; that of the last change of status is nobody's to set
    (man 7 inode). Raises OSError, NotAFileError.
    """
    with _opened(path) as file:
        status = os.fstat(file.fileno())
        ends = hashlib.sha256(file.read(_END))
        file.seek(max(0, status.st_size - _END))
        ends.update(file.read(_END))
    times = (status.st_mtime_ns, status.st_ctime_ns)
    parts = (status.st_dev, status.st_ino, status.st_size, *times, ends.hexdigest(), image_format, SCHEMA)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def recall(folder: Path, name: str) -> ImageContents | None:
    """What was kept under a key; None where there is nothing, or nothing that can be understood."""
    try:
        with _opened(folder / f"{name}.json", follow=False) as file:
            text = file.read(_MOST + 1)
        found = msgspec.json.decode(text, type=ImageContents) if len(text) <= _MOST else None
    except (OSError, NotAFileError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found is not None and found.schema == SCHEMA else None


def keep(folder: Path, name: str, contents: ImageContents) -> bool:
    """Keep what was found, in one piece, for its user alone; False where the folder cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        handle, new = tempfile.mkstemp(prefix=".new-", dir=folder)  # with mode 0600
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(contents))
        Path(new).replace(folder / f"{name}.json")
    except OSError:
        with suppress(OSError):
            Path(new).unlink()
        return False
    return True


def _opened(path: Path, *, follow: bool = True) -> BinaryIO:
    """An ordinary file, open for reading: a pipe would keep us waiting. Raises OSError, NotAFileError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotAFileError
    return os.fdopen(handle, "rb")

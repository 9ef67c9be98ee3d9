"""An image file that is open for reading, and what its header says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from clienthv.errors import DiskError
from clienthv.model.image import Format
from clienthv.model.refusals import Refusal, refuse

MOST_BYTES: Final = 64 << 40
"""The largest disk a guest may see, 64 TiB: NTFS, ext4 and XFS of desktops stay below, and no PC has that much."""


class Header(NamedTuple):
    """What the header of an image says. ``virtual_size`` is in bytes, None where only qemu-img can tell.

    ``backing`` is the file that the image adds to, as named in it, ``backing_format`` its format where that is named
    too, ``data`` are the files its content lies in. ``unclean`` says that the image was not closed, so that its
    reference counts are stale until QEMU opens it.
    """

    format: Format
    virtual_size: int | None = None
    backing: str | None = None
    backing_format: str | None = None
    data: tuple[str, ...] = ()
    unclean: bool = False


class ImageFile(NamedTuple):
    """A regular file that is open. Sizes are in bytes: its length, and what it takes of the disk below it."""

    path: Path
    descriptor: int
    size: int
    allocated: int

    def at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer, or none, past the end. Raises DiskError."""
        if offset >= self.size:
            return b""
        try:
            return os.pread(self.descriptor, min(length, self.size - offset), offset)
        except OSError as e:
            raise _unreadable(self.path, e) from e


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """Open an image, and nothing that is no regular file (man 2 open). Raises DiskError, RefusedError."""
    try:
        # A pipe would keep its reader waiting, and a device may do something when it is opened.
        _refuse_others(path, path.stat().st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise _unreadable(path, e) from e
    try:
        status = os.fstat(descriptor)
        _refuse_others(path, status.st_mode)
        yield ImageFile(path, descriptor, status.st_size, status.st_blocks * 512)
    finally:
        os.close(descriptor)


def _refuse_others(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = (
        (stat.S_ISDIR, "a folder"), (stat.S_ISBLK, "a disk"), (stat.S_ISCHR, "a device"),
        (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    )  # fmt: skip
    kind = next((words for is_kind, words in kinds if is_kind(mode)), "no file")
    raise refuse(Refusal.NOT_A_FILE, f"{path} is {kind}; an image is a file", "give the path of an image file")


def _unreadable(path: Path, e: OSError | ValueError) -> DiskError:
    msg = f"cannot read disk image {path}: {getattr(e, 'strerror', None) or e}"
    return DiskError(msg, hint="check the path and its permissions")


def refuse_size(path: Path, size: int) -> None:
    """Refuse a disk that is larger than any is. Raises RefusedError."""
    if size > MOST_BYTES:
        msg = f"{path} says that its disk has {size} bytes, {size >> 40} TiB; at most {MOST_BYTES >> 40} are taken"
        raise refuse(Refusal.ABSURD_SIZE, msg, "get the image again from where it came from, or do without it")

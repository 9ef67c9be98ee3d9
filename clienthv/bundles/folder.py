"""Where a bundle is taken apart: a fresh folder of this user's alone, which stays only when all of it is right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from clienthv.errors import DiskError

_PIECE: Final = 1 << 16  # bytes; zeros of this size, on its boundaries, become a hole
_ZEROS: Final = bytes(_PIECE)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class File(NamedTuple):
    """A new file that is all holes yet."""

    handle: int

    def put(self, data: bytes, at: int) -> None:
        """Write data at a place, and leave long zeros out. Raises OSError."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            piece = view[done : done + _PIECE - (at + done) % _PIECE]
            done += len(piece) if piece == _ZEROS[: len(piece)] else os.pwrite(self.handle, piece, at + done)


class Folder:
    """An open folder. Files are made relative to it, and never where there is something."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @contextmanager
    def file(self, name: str, length: int) -> Iterator[File]:
        """A new file of so many bytes, on the disk when it is left (fsync). Raises OSError.

        The name has been checked: a plain one, or one in one folder.
        """
        folder, _, base = name.rpartition("/")
        where = self._below(folder) if folder else os.dup(self._handle)
        try:
            handle = os.open(base, _NEW, 0o600, dir_fd=where)
            try:
                os.ftruncate(handle, length)
                yield File(handle)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.fsync(where)
        finally:
            os.close(where)

    def _below(self, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._handle)
        return os.open(name, _FOLDER, dir_fd=self._handle)


@contextmanager
def fresh(path: Path) -> Iterator[Folder]:
    """A new folder (mode 0700), which is gone again with all in it when anything fails, also on an interrupt.

    Raises DiskError when it is there already, cannot be made, or cannot be written to.
    """
    try:
        path.mkdir(mode=0o700)
    except OSError as e:
        raise _unwritable(path, e) from e
    try:
        handle = os.open(path, _FOLDER)
        try:
            yield Folder(handle)
            os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException as e:
        shutil.rmtree(path)
        if isinstance(e, OSError):
            raise _unwritable(path, e) from e
        raise


def _unwritable(path: Path, error: OSError) -> DiskError:
    msg = f"cannot take the bundle apart in {path}: {error.strerror}"
    hint = "is there room, and may you write there? clienthv import --disk PATH takes it to another place"
    return DiskError(msg, hint=hint)

"""Configuration files as they are, to the byte, and how one takes the place of another."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

LIMIT: Final = 1 << 20
"""Bytes. No file that people configure a PC with is longer."""


class LeftAloneError(Exception):
    """A file that is not touched; the message says which, and why."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file: its bytes, mode and owner."""

    data: bytes
    mode: int
    uid: int
    gid: int

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(f"{self.mode:o} {self.uid} {self.gid}\n".encode() + self.data).hexdigest()


def real(path: str, root: str) -> Path:
    """Where a path of the PC lies. Raises LeftAloneError for one whose folder is reached by a link."""
    base = Path(os.path.realpath(root))
    there = base / path.lstrip("/")
    if Path(os.path.realpath(there.parent)) != there.parent:
        msg = f"{path}: its folder is a link to another place"
        raise LeftAloneError(msg)
    return there


def read(path: str, root: str = "/") -> Content | None:
    """A file; None where there is none. Raises LeftAloneError for what is no plain file of its own, or too long."""
    try:
        handle = os.open(real(path, root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        why = "is a link" if e.errno == errno.ELOOP else f"cannot be read: {e.strerror}"
        msg = f"{path}: {why}"
        raise LeftAloneError(msg) from e
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            msg = f"{path}: is no regular file" if about.st_nlink == 1 else f"{path}: has other names (hard links)"
            raise LeftAloneError(msg)
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        msg = f"{path}: is longer than {LIMIT >> 20} MiB"
        raise LeftAloneError(msg)
    return Content(data=data, mode=stat.S_IMODE(about.st_mode), uid=about.st_uid, gid=about.st_gid)


def text_of(content: Content, path: str) -> str:
    """The text of a file. Raises LeftAloneError for one that is none."""
    try:
        text = content.data.decode("utf-8")
    except UnicodeDecodeError as e:
        msg = f"{path}: is not UTF-8 text"
        raise LeftAloneError(msg) from e
    if "\0" in text:
        msg = f"{path}: has NUL characters in it"
        raise LeftAloneError(msg)
    return text


def put(path: str, content: Content | None, root: str = "/") -> None:
    """Let a file be this, or not be there: whole or not at all, and on the disk (fsync).

    Raises OSError, LeftAloneError. It keeps the security label and access control list of the file that it replaces.
    """
    there = real(path, root)
    if content is None:
        there.unlink(missing_ok=True)
        _sync(there.parent)
        return
    handle, name = tempfile.mkstemp(dir=there.parent, prefix=".clienthv-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.data)
            about = os.fstat(handle)
            if (about.st_uid, about.st_gid) != (content.uid, content.gid):
                os.fchown(handle, content.uid, content.gid)
            if stat.S_IMODE(about.st_mode) != content.mode:
                _set_mode(handle, content.mode)
            _keep_attributes(there, handle)
            file.flush()
            os.fsync(handle)
        os.replace(name, there)  # noqa: PTH105
        _sync(there.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _set_mode(handle: int, mode: int) -> None:
    """Set a file's mode; FAT has one for all its files and refuses another."""
    try:
        os.fchmod(handle, mode)
    except PermissionError:
        if os.geteuid() != 0:
            raise


def _keep_attributes(there: Path, handle: int) -> None:
    with suppress(OSError):
        for name in os.listxattr(there, follow_symlinks=False):
            os.setxattr(handle, name, os.getxattr(there, name, follow_symlinks=False))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno != errno.EINVAL:  # FAT has nothing to sync of a folder
            raise
    finally:
        os.close(handle)


def difference(path: str, before: Content | None, after: Content | None) -> Iterator[str]:
    """A unified diff, line by line."""
    old, new = (c.data.decode("utf-8", "replace") if c is not None else "" for c in (before, after))
    yield from (
        line.rstrip("\n") if line.endswith("\n") or line.startswith(("---", "+++", "@@")) else f"{line} (no newline)"
        for line in difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True),
            fromfile=path if before is not None else "/dev/null", tofile=path if after is not None else "/dev/null",
        )
    )  # fmt: skip

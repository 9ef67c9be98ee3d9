"""What clienthv has changed in a PC's set-up, written down before it is done, so that it can be undone to the byte.

A file of JSON lines that only grows until all of it is undone; each line is on the disk before the change is made.
What a file holds now tells whether its change was made: so a crash between the two does no harm.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv import journal
from clienthv.errors import DocumentError, HostError
from clienthv.hostfiles.files import Content
from clienthv.model.installation import Group, Regenerate
from clienthv.process import Packager

SCHEMA: Final = 1
_MODE: Final = 0o600
_LONGEST: Final = 64 << 20  # bytes

# Undoing writes to what stands here, as root: so it is one of the files that are edited, whoever wrote the record.
Path_ = Annotated[
    str,
    Meta(
        pattern=r"^/(etc/default/grub(\.d/[^/\0]+\.cfg)?|etc/kernel/cmdline|etc/kernelstub/configuration"
        r"|etc/(modules-load|modprobe|security/limits)\.d/clienthv\.conf"
        r"|(boot|efi|boot/efi)/loader/entries/[^/\0]+\.conf)$(?!\n)",
        max_length=4096,
    ),
]
PackageName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_:~-]{0,120}$(?!\n)")]
AccountName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$(?!\n)")]


class FileStep(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A file is about to be another: what it was (None: not there), and the digest of what it becomes."""

    path: Path_
    before: Content | None
    after: str


class MenuStep(msgspec.Struct, frozen=True, kw_only=True, tag="menu"):
    """The boot menu is about to be made anew, by this command; the same makes it anew after an undo."""

    command: Regenerate


class PackagesStep(msgspec.Struct, frozen=True, kw_only=True, tag="packages"):
    """Packages are about to be installed, or were: those that were not there before."""

    packager: Packager
    names: tuple[PackageName, ...]


class GroupStep(msgspec.Struct, frozen=True, kw_only=True, tag="group"):
    """An account is about to join a group that it is not in."""

    account: AccountName
    group: Group


Step = FileStep | MenuStep | PackagesStep | GroupStep


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """One step, by its number, and the advice it was made for."""

    schema: Literal[1] = SCHEMA
    number: Annotated[int, Meta(ge=1)]
    advice: str
    step: Step


class _Undone(msgspec.Struct, frozen=True, kw_only=True, tag="undone"):
    number: int


class Record:
    """The steps that are not undone, in the order they were made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = {e.number: e for e in read(path)}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every step that is not undone."""
        return tuple(self._entries.values())

    def add(self, advice: str, step: Step) -> Entry:
        """Write a step down; it is on the disk when this returns. Raises HostError."""
        entry = Entry(number=max(self._entries, default=0) + 1, advice=advice, step=step)
        self._append(entry)
        self._entries[entry.number] = entry
        return entry

    def forget(self, entry: Entry) -> None:
        """Strike out a step that is undone; the file goes with the last one. Raises HostError."""
        del self._entries[entry.number]
        if self._entries:
            self._append(_Undone(number=entry.number))
            return
        with _writing(self._path):
            self._path.unlink(missing_ok=True)

    def _append(self, line: Entry | _Undone) -> None:
        with _writing(self._path):
            there = self._path.exists()
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
            try:
                size = os.fstat(handle).st_size
                # What a crash has cut off is ended, so that it takes no other line with it.
                ended = not size or os.pread(handle, 1, size - 1) == b"\n"
                text = (b"" if ended else b"\n") + msgspec.json.encode(line) + b"\n"
                if os.write(handle, text) != len(text):
                    raise OSError(28, "the file system is full")
                os.fsync(handle)
            finally:
                os.close(handle)
            if not there:
                journal.sync_folder(self._path.parent)


def read(path: Path) -> tuple[Entry, ...]:
    """The steps that are not undone. Raises DocumentError for a record that is damaged, HostError.

    Half a line was never a step: what it announced was not done.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _check_own(path, os.fstat(file.fileno()))
            _check_own(path.parent, path.parent.stat())
            data = file.read(_LONGEST)
    except FileNotFoundError:
        return ()
    except OSError as e:
        msg = f"cannot read the record of edited files {path}: {e.strerror}"
        raise HostError(msg, hint="run it as root: sudo clienthv doctor --undo") from e
    found: dict[int, Entry] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line, type=Entry | _Undone)
        except msgspec.ValidationError as e:
            msg = f"{path}, line {number} is no step that this clienthv knows: {e}"
            raise DocumentError(msg, hint="it was written by another version, or edited; undo with that version") from e
        except msgspec.DecodeError:
            continue
        if isinstance(said, Entry):
            found[said.number] = said
        else:
            found.pop(said.number, None)
    return tuple(found.values())


def _check_own(path: Path, about: os.stat_result) -> None:
    """Refuse, as root, a record that another account could have written. Raises HostError."""
    if os.geteuid() != 0:
        return
    by_group = about.st_mode & stat.S_IWGRP and about.st_gid != 0
    if about.st_uid != 0 or about.st_mode & stat.S_IWOTH or by_group:
        msg = f"{path} can be written by others than root, so root follows no record of edited files in it"
        raise HostError(msg, hint="run it without XDG_STATE_HOME (sudo --preserve-env passes a user's on), or chown it")


@contextmanager
def held(path: Path) -> Iterator[Record]:
    """The record, with every other clienthv kept out of it. Raises HostError when one is at it."""
    with _writing(path):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_own(path.parent, path.parent.stat())
        lock = path.with_name(f"{path.name}.lock")
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = "another clienthv doctor changes this PC just now"
            raise HostError(msg, hint=f"wait for it to end; it holds {lock}") from None
        yield Record(path)
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        msg = f"cannot write the record of edited files {path}: {e.strerror}"
        raise HostError(msg, hint="nothing is changed without it: check the permissions and the free space") from e

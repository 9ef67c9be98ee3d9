"""What clienthv has changed on the host and for which VMs, written down before it is done: so that it can be undone.

One small JSON document, replaced whole. A line of it stands for a setting that may have been changed; whoever takes it
back compares the setting with what is written here, so that a crash between writing and changing does no harm.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from clienthv.errors import DocumentError, HostError
from clienthv.model.change import Change, Setting, check

SCHEMA: Final = 1
_LIMIT: Final = 1 << 20  # bytes; a PC has a few dozen lines at most
_LOCK_WAIT: Final = 60.0  # seconds; another start or stop of a VM is done sooner
_MODE: Final = 0o600


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A VM that needs a change: its name, and the connection it belongs to."""

    vm: Annotated[str, Meta(max_length=64)]
    uri: Annotated[str, Meta(max_length=1024)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change, the VMs that need it, and the boot of the kernel that it was made in."""

    change: Change
    owners: tuple[Owner, ...]
    boot: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = SCHEMA
    kind: Literal["host-changes"] = "host-changes"
    entries: tuple[Entry, ...] = ()


class Where(NamedTuple):
    """The journal's file, and the kernel's name for the present boot."""

    path: Path
    boot: str


def read(where: Where) -> tuple[Entry, ...]:
    """The changes of this boot in the order they were made; those of another are gone with it.

    Raises DocumentError for a file that clienthv did not write like this, naming it and the next step.
    """
    data = _bytes(where.path)
    if data is None:
        return ()
    try:
        document = msgspec.json.decode(data, type=_Document)
        for entry in document.entries:
            check(entry.change)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as e:
        msg = f"the journal of host changes {where.path} is damaged: {e}"
        raise DocumentError(msg, hint=_HINT.format(path=where.path)) from e
    return tuple(e for e in document.entries if e.boot == where.boot)


_HINT: Final = "nothing is undone by it: move {path} away and set back by hand what it names, or restart the PC"


def _bytes(path: Path) -> bytes | None:
    """The file's bytes; None when there is none. It must be a plain file of this user's or root's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        msg = f"cannot read the journal of host changes {path}: {e.strerror}"
        raise DocumentError(msg, hint=_HINT.format(path=path)) from e
    try:
        status = os.fstat(handle)
        problem = (
            "it is not a plain file"
            if not stat.S_ISREG(status.st_mode)
            else "it belongs to another user"
            if status.st_uid not in (0, os.geteuid())
            else "it is too large"
            if status.st_size > _LIMIT
            else None
        )
        if problem is not None:
            msg = f"the journal of host changes {path} cannot be used: {problem}"
            raise DocumentError(msg, hint=_HINT.format(path=path))
        return _all_of(handle)
    finally:
        os.close(handle)


def _all_of(handle: int) -> bytes:
    chunks: list[bytes] = []
    while chunk := os.read(handle, _LIMIT):
        chunks.append(chunk)
    return b"".join(chunks)


class Journal:
    """The journal, held by this process alone: see ``held``."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._entries = list(read(where))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The changes of this boot, in the order they were made."""
        return tuple(self._entries)

    def find(self, setting: Setting) -> Entry | None:
        """What is written down about a setting."""
        return next((e for e in self._entries if e.change.setting == setting), None)

    def of(self, owner: Owner) -> tuple[Entry, ...]:
        """The changes that a VM needs or has left behind."""
        return tuple(e for e in self._entries if owner in e.owners)

    def record(self, change: Change, owner: Owner) -> None:
        """Write down a change that is about to be made. It is on the disk when this returns.

        A setting that is written down already keeps the value it had first, unless somebody else has set it since;
        the VM joins those that need it.
        """
        check(change)
        known = self.find(change.setting)
        if known is None:
            self._entries.append(Entry(change=change, owners=(owner,), boot=self._where.boot))
        else:
            ours = change.before in (known.change.before, known.change.after)
            first = known.change.before if ours else change.before
            kept = msgspec.structs.replace(change, before=first)
            self._replace(known, msgspec.structs.replace(known, change=kept, owners=_joined(known.owners, owner)))
        self._write()

    def join(self, settings: Collection[Setting], owner: Owner) -> None:
        """Let a VM be one of those that need changes made for others."""
        for entry in self.entries:
            if entry.change.setting in settings and owner not in entry.owners:
                self._replace(entry, msgspec.structs.replace(entry, owners=_joined(entry.owners, owner)))
                self._write()

    def release_to(self, setting: Setting, owners: Collection[Owner]) -> None:
        """Let a change belong to these VMs alone: the ones that still need it."""
        entry = self.find(setting)
        if entry is not None:
            self._replace(entry, msgspec.structs.replace(entry, owners=tuple(sorted(owners))))
            self._write()

    def forget(self, setting: Setting) -> None:
        """Strike out a change that has been taken back, or that there is nothing left of."""
        self._entries = [e for e in self._entries if e.change.setting != setting]
        self._write()

    def _replace(self, old: Entry, new: Entry) -> None:
        self._entries[self._entries.index(old)] = new

    def _write(self) -> None:
        """Replace the file: whole or not at all, and on the disk (fsync of file and folder). Raises HostError."""
        path = self._where.path
        data = msgspec.json.format(msgspec.json.encode(_Document(entries=self.entries)), indent=1) + b"\n"
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except BaseException as e:
            part.unlink(missing_ok=True)
            if not isinstance(e, OSError):
                raise
            msg = f"cannot write the journal of host changes {path}: {e.strerror}"
            raise HostError(msg, hint="nothing is changed without it: check the permissions and the free space") from e


def _joined(owners: tuple[Owner, ...], owner: Owner) -> tuple[Owner, ...]:
    return tuple(sorted({*owners, owner}))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def held(where: Where, waiting: Callable[[str], None] | None = None) -> Iterator[Journal]:
    """The journal, with every other process kept out of it. Raises HostError after a minute, DocumentError.

    ``waiting`` is told when another process has it.
    """
    lock_path = where.path.with_name(f"{where.path.name}.lock")
    try:
        where.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except OSError as e:
        msg = f"cannot open the lock {lock_path} of the journal of host changes: {e.strerror}"
        raise HostError(msg, hint="set XDG_STATE_HOME to a folder you may write to") from e
    try:
        _wait_for(handle, lock_path, waiting)
        yield Journal(where)
    finally:
        os.close(handle)


def _wait_for(handle: int, path: Path, waiting: Callable[[str], None] | None) -> None:
    deadline, told = time.monotonic() + _LOCK_WAIT, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                msg = f"another process has held {path} for {_LOCK_WAIT:.0f} seconds"
                raise HostError(msg, hint="look for another clienthv that starts or stops a VM") from None
            if waiting is not None and not told:
                waiting("another clienthv changes the host's settings: waiting for it to finish")
                told = True
            time.sleep(0.1)
        else:
            return

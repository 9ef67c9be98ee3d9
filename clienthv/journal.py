"""What clienthv has changed on the host and for which VMs, written down before it is done: so that it can be undone.

A file of JSON lines that only grows: one says that a setting is about to be changed and what it was, another that this
was undone. Whoever takes a change back compares the setting with what is written here, so that a crash between writing
and changing does no harm; nor does one while writing, since what was announced by half a line was never done.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from clienthv.errors import DocumentError, HostError
from clienthv.model.change import OF_A_START, Change, Setting, What, check

SCHEMA: Final = 2
_LIMIT: Final = 1 << 24  # bytes; a VM's start writes some ten lines, and an empty journal starts anew
_ROOMY: Final = 1 << 18  # bytes from which on a journal is written anew without what was undone
LOCK_WAIT: Final = 600.0
"""Seconds that one waits for others to finish. Each start ends in time, and they go one after another."""
_MODE: Final = 0o600


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A VM that needs a change: its name, and the connection it belongs to."""

    vm: Annotated[str, Meta(max_length=64)]
    uri: Annotated[str, Meta(max_length=1024)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="changes", tag_field="event"):
    """One change, the VMs that need it, and the boot of the kernel that it was made in.

    ``by`` is the VM for whose start it is being made, until that has started; ``at`` is when, in seconds of Unix time.
    A later line on the same setting takes the place of an earlier one.
    """

    schema: Literal[2] = SCHEMA
    change: Change
    owners: tuple[Owner, ...]
    boot: str
    by: Owner | None = None
    at: float = 0.0


class _Undone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="undone", tag_field="event"):
    """A setting that has its old value again, or of which there is nothing left."""

    schema: Literal[2] = SCHEMA
    setting: Setting


class _Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="started", tag_field="event"):
    """A VM that runs: what was made for its start stays."""

    schema: Literal[2] = SCHEMA
    owner: Owner


_Line: TypeAlias = Entry | _Undone | _Started
_DECODER: Final = msgspec.json.Decoder(_Line)


class NotWrittenError(HostError):
    """A line could not be written: what it announces is not to be done, what it strikes out is looked at again."""


class Where(NamedTuple):
    """The journal's file, the kernel's name for the present boot, and the lock, where it is not beside the file."""

    path: Path
    boot: str
    lock: Path | None = None


def read(where: Where) -> tuple[Entry, ...]:
    """The changes that stand, in the order they were made; settings of another boot are gone with it.

    Raises DocumentError for a file that clienthv did not write like this, naming it and the next step.
    """
    return _of_now(_standing(_bytes(where.path) or b"", where), where)


def _of_now(entries: Iterable[Entry], where: Where) -> tuple[Entry, ...]:
    """What is not gone with another boot, as far as the kernel's name for a boot was told, then and now."""
    here = (where.boot, "")
    return tuple(e for e in entries if not where.boot or e.boot in here or e.change.setting.what in OF_A_START)


def _standing(data: bytes, where: Where) -> tuple[Entry, ...]:
    entries: dict[Setting, Entry] = {}
    number, text = 0, b""
    try:
        for text in data.split(b"\n")[:-1]:  # what follows the last line break is half a line
            number += 1
            _follow(_DECODER.decode(text), entries)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as e:
        if (schema := _schema_of(text)) > SCHEMA:
            msg = f"line {number} of the journal of host changes {where.path} is a newer clienthv's, of schema {schema}"
            raise DocumentError(
                msg, hint=f"run clienthv recover with that clienthv: it undoes what {where.path} says"
            ) from e
        msg = f"the journal of host changes {where.path} is damaged in line {number}: {e}"
        raise DocumentError(msg, hint=_HINT.format(path=where.path)) from e
    return tuple(entries.values())


class _Versioned(msgspec.Struct):
    """What every line has, whatever clienthv wrote it."""

    schema: int = 0


def _schema_of(text: bytes) -> int:
    """The schema of a line; 0 where it has none."""
    try:
        return msgspec.json.decode(text, type=_Versioned).schema
    except (ValueError, RecursionError):
        return 0


def _follow(line: _Line, entries: dict[Setting, Entry]) -> None:
    """Let one line come into effect. Raises ValueError for a change that clienthv does not make."""
    match line:
        case Entry():
            entries[check(line.change).setting] = line
        case _Undone():
            entries.pop(line.setting, None)
        case _Started():
            for setting, entry in tuple(entries.items()):
                if setting.what in OF_A_START and line.owner in entry.owners:
                    del entries[setting]
                elif entry.by == line.owner:
                    entries[setting] = msgspec.structs.replace(entry, by=None)


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
        data = _bytes(where.path) or b""
        standing = _standing(data, where)
        self._entries = {e.change.setting: e for e in _of_now(standing, where)}
        self._whole = (data.endswith(b"\n") or not data) and len(self._entries) == len(standing)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The changes that stand, in the order they were made."""
        return tuple(self._entries.values())

    def find(self, setting: Setting) -> Entry | None:
        """What is written down about a setting."""
        return self._entries.get(setting)

    def of(self, owner: Owner) -> tuple[Entry, ...]:
        """The changes that a VM needs or has left behind."""
        return tuple(e for e in self.entries if owner in e.owners)

    def record(self, change: Change, owner: Owner) -> None:
        """Write down a change that is about to be made. It is on the disk when this returns.

        A setting that is written down already keeps the value it had first, unless somebody else has set it since;
        the VM joins those that need it.
        """
        setting = check(change).setting
        known = self.find(setting)
        owners: tuple[Owner, ...] = (owner,)
        if known is not None:
            ours = change.before in (known.change.before, known.change.after)
            first = known.change.before if ours else change.before
            change = msgspec.structs.replace(change, before=first)
            owners = tuple(sorted({*known.owners, owner}))
        self._append(Entry(change=change, owners=owners, boot=self._where.boot, by=owner, at=time.time()))

    def join(self, settings: Collection[Setting], owner: Owner) -> None:
        """Let a VM be one of those that need changes made for others."""
        for entry in self.entries:
            if entry.change.setting in settings and owner not in entry.owners:
                self._append(msgspec.structs.replace(entry, owners=tuple(sorted({*entry.owners, owner})), by=owner))

    def release_to(self, setting: Setting, owners: Collection[Owner]) -> None:
        """Let a change belong to these VMs alone: the ones that still need it."""
        entry = self.find(setting)
        if entry is not None:
            by = entry.by if entry.by in owners else None
            self._append(msgspec.structs.replace(entry, owners=tuple(sorted(owners)), by=by))

    def lower(self, change: Change) -> None:
        """Let what was counted on top of a change count from below it: huge pages of other VMs, once its are gone."""
        size, less = change.setting.pages_kib, int(change.after) - int(change.before)
        for entry in self.entries:
            other = entry.change
            same_pool = other.setting.what is What.HUGEPAGES and other.setting.pages_kib == size
            if same_pool and other.setting != change.setting and int(other.before) >= int(change.after):
                before, after = str(int(other.before) - less), str(int(other.after) - less)
                lowered = msgspec.structs.replace(other, before=before, after=after)
                self._append(msgspec.structs.replace(entry, change=lowered))

    def started(self, owner: Owner) -> None:
        """A VM runs: its definition and its image stay, and the rest until it stops."""
        if any(e.by == owner for e in self.entries):
            self._append(_Started(owner=owner))

    def forget(self, setting: Setting) -> None:
        """Strike out a change that has been taken back, or that there is nothing left of."""
        self._append(_Undone(setting=setting))

    def _append(self, line: _Line) -> None:
        """Add a line that is on the disk when this returns. One that changes all to nothing empties the file."""
        after = dict(self._entries)
        _follow(line, after)
        whole, self._whole = self._whole, False  # if this is interrupted, the file may end in anything
        if not whole or not after or self._size() > _ROOMY:
            _replace(self._where.path, after.values())
        else:
            _extend(self._where.path, _text(line))
        self._entries, self._whole = after, True

    def _size(self) -> int:
        with suppress(OSError):
            return self._where.path.stat().st_size
        return 0


def _text(line: _Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        msg = f"cannot write the journal of host changes {path}: {e.strerror}"
        hint = "nothing is changed without it: check the permissions and the free space"
        raise NotWrittenError(msg, hint=hint) from e


def _extend(path: Path, text: bytes) -> None:
    """Add to the file, whole or not at all as far as later readers see (fsync). Raises NotWrittenError."""
    with _writing(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            size = os.fstat(handle).st_size
            try:
                if os.write(handle, text) != len(text):
                    raise OSError(28, "the file system is full")
                os.fsync(handle)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)
        if not size:
            sync_folder(path.parent)


def _replace(path: Path, entries: Iterable[Entry]) -> None:
    """Write the file anew: whole or not at all, and on the disk (fsync of file and folder). Raises NotWrittenError."""
    part = path.with_name(f".{path.name}.part")  # whoever holds the journal is alone
    with _writing(path):
        try:
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(b"".join(map(_text, entries)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Have on the disk which files a folder has (fsync). Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def held(where: Where, doing: str, waiting: Callable[[str], None] | None = None) -> Iterator[Journal]:
    """The journal, with every other process kept out of it. Raises HostError after ``LOCK_WAIT``, DocumentError.

    The lock is the kernel's, and so ends with its holder however that ends. ``doing`` is what others are told that
    this process does; ``waiting`` is told who is at it when another process is.
    """
    path = _lock_of(where)
    try:
        for folder in (path.parent, where.path.parent):
            _make_folder(folder)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except OSError as e:
        msg = f"cannot open the lock {path} of the journal of host changes: {e.strerror}"
        raise HostError(msg, hint="set XDG_STATE_HOME to a folder you may write to") from e
    try:
        _wait_for(handle, path, waiting)
        with suppress(OSError):  # who waits is told less on a full disk
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{doing} (process {os.getpid()})\n".encode(), 0)
        yield Journal(where)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each named on the disk by the one above (man 2 fsync). Raises OSError."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _lock_of(where: Where) -> Path:
    return where.lock or where.path.with_name(f"{where.path.name}.lock")


def cut_short(where: Where) -> tuple[Owner, ...]:
    """The VMs whose start, by the journal, neither came to an end nor is under way. Raises DocumentError."""
    if not _begun(where):
        return ()
    try:
        handle = os.open(_lock_of(where), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return _begun(where)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _begun(where)
    except BlockingIOError:
        return ()
    finally:
        os.close(handle)


def _begun(where: Where) -> tuple[Owner, ...]:
    return tuple(sorted({e.by for e in read(where) if e.by is not None}))


def _wait_for(handle: int, path: Path, waiting: Callable[[str], None] | None) -> None:
    deadline, told, before = time.monotonic() + LOCK_WAIT, "", ""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another clienthv"
            if time.monotonic() > deadline:
                msg = f"{holder} has held {path} for {LOCK_WAIT:.0f} seconds"
                raise HostError(msg, hint="look at that process; the lock ends with it") from None
            if waiting is not None and told != holder == before:  # not one that only looks whether it is held
                waiting(f"waiting for {holder} to finish")
                told = holder
            before = holder
            time.sleep(0.05)
        else:
            return

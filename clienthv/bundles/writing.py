"""Makes bundles: one pass over the disks, in constant memory, into anything that takes bytes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple, Protocol

import zstandard

from clienthv.bundles import extents, headers
from clienthv.bundles.progress import Count, Progress
from clienthv.errors import DiskError, RefusedError
from clienthv.model import bundle
from clienthv.model.bundle import Manifest, Member, Role
from clienthv.model.image import RunFormat

_LEVEL: Final = 3
_MOST_THREADS: Final = 4  # the checksums, in one thread, keep no more of them busy
_CHUNK: Final = 1 << 20  # bytes read and compressed at once


class _Output(Protocol):
    def write(self, data: bytes, /) -> int: ...


class DiskPart(NamedTuple):
    """An image that nobody writes to; ``virtual_size`` is what the guest sees, in bytes."""

    path: Path
    format: RunFormat
    virtual_size: int


class Parts(NamedTuple):
    """What a VM consists of: the definition, the firmware's variables, swtpm's files by name, disks in their order.

    ``created_by`` is the program with its version, ``created`` a UTC time as in 2026-02-03T04:05:06Z, ``source`` the
    name of this PC, where that may be told.
    """

    vm: str
    definition: bytes
    created_by: str
    disks: tuple[DiskPart, ...] = ()
    nvram: bytes | None = None
    tpm: Mapping[str, bytes] = MappingProxyType({})
    created: str | None = None
    source: str | None = None


class _OpenDisk(NamedTuple):
    """A disk that is being read, as it was when it was opened."""

    part: DiskPart
    handle: int
    status: os.stat_result
    extents: tuple[extents.Extent, ...]


def write(output: BinaryIO, parts: Parts, progress: Progress | None = None) -> Manifest:
    """Write a bundle; what it then says of itself. ``output`` may be a pipe, and is not closed.

    Raises DiskError when a part cannot be read, changes meanwhile or has no place in a bundle; OSError of ``output``.
    """
    with ExitStack() as stack:
        disks = tuple(stack.enter_context(_opened(part)) for part in parts.disks)
        manifest = _manifest(parts, disks)
        threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=threads, write_checksum=True)
        stream = compressor.stream_writer(output, closefd=False)
        archive = _Archive(stream, Count(progress, manifest.size))
        archive.add(bundle.MANIFEST, bundle.encode(manifest))
        for member, data in zip(manifest.members, _small(parts), strict=False):
            archive.add(member.name, data, counts=True)
        for member, disk in zip(manifest.of(Role.DISK), disks, strict=True):
            archive.add_disk(member, disk)
        archive.finish()
        # On an error the frame is left open: closing it would make a half bundle look like a whole one to zstd.
        stream.flush(zstandard.FLUSH_FRAME)
    return manifest


def _small(parts: Parts) -> list[bytes]:
    """The parts that are held in memory, in the order of members."""
    nvram = [] if parts.nvram is None else [parts.nvram]
    return [parts.definition, *nvram, *(parts.tpm[name] for name in sorted(parts.tpm))]


def _manifest(parts: Parts, disks: tuple[_OpenDisk, ...]) -> Manifest:
    members = [Member(role=Role.DEFINITION, name=bundle.DEFINITION, size=len(parts.definition))]
    if parts.nvram is not None:
        members.append(Member(role=Role.NVRAM, name=bundle.NVRAM, size=len(parts.nvram)))
    members += [Member(role=Role.TPM, name=f"tpm/{n}", size=len(parts.tpm[n])) for n in sorted(parts.tpm)]
    members += [_member(number, disk) for number, disk in enumerate(disks)]
    manifest = Manifest(
        schema=bundle.SCHEMA,
        kind="bundle",
        vm=parts.vm,
        created_by=parts.created_by,
        created=parts.created,
        source=parts.source,
        members=tuple(members),
    )
    try:
        return bundle.decode(bundle.encode(manifest))
    except RefusedError as e:
        msg = f"VM {parts.vm} cannot be put into a bundle: its parts are not such that one could be read again"
        raise DiskError(msg, hint="see docs/reference/bundle.md for what a bundle holds", detail=e.message) from e


def _member(number: int, disk: _OpenDisk) -> Member:
    facts = bundle.Disk(
        format=disk.part.format,
        virtual_size=disk.part.virtual_size,
        length=disk.status.st_size,
        allocated=disk.status.st_blocks * 512,  # man 2 stat: in units of 512 bytes, whatever the file system's are
    )
    size = len(extents.encode(disk.extents)) + sum(e.length for e in disk.extents)
    return Member(role=Role.DISK, name=bundle.disk_name(number, disk.part.format), size=size, disk=facts)


@contextmanager
def _opened(part: DiskPart) -> Iterator[_OpenDisk]:
    with ExitStack() as stack:
        try:
            handle = os.open(part.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                msg = f"disk image {part.path} is not a plain file"
                raise DiskError(msg, hint="bundles hold image files; copy the device into one: qemu-img convert")
            found = extents.of_file(handle, status.st_size)
        except OSError as e:
            raise _unreadable(part.path, e) from e
        yield _OpenDisk(part, handle, status, found)


def _unreadable(path: Path, error: OSError) -> DiskError:
    msg = f"cannot read disk image {path}: {error.strerror}"
    return DiskError(msg, hint="check the path, its permissions and the disk it is on")


class _Archive:
    """The tar archive within the frame, and the checksums of what went into it."""

    def __init__(self, stream: _Output, count: Count) -> None:
        self._stream = stream
        self._count = count
        self._sha256: dict[str, str] = {}

    def add(self, name: str, data: bytes, *, counts: bool = False) -> None:
        """A member that is held in memory; whether it counts among those that progress is about."""
        self._stream.write(headers.header(name, len(data)))
        self._stream.write(data)
        self._stream.write(headers.padding(len(data)))
        self._sha256[name] = hashlib.sha256(data).hexdigest()
        if counts:
            self._count.add(len(data))

    def add_disk(self, member: Member, disk: _OpenDisk) -> None:
        """A disk: its map, then its stretches of data. Raises DiskError when it is not what it was."""
        self._stream.write(headers.header(member.name, member.size, disk.status.st_size))
        digest = hashlib.sha256()
        for chunk in _condensed(disk):
            digest.update(chunk)
            self._stream.write(chunk)
            self._count.add(len(chunk))
        self._stream.write(headers.padding(member.size))
        self._sha256[member.name] = digest.hexdigest()
        now = os.fstat(disk.handle)
        if (now.st_size, now.st_mtime_ns) != (disk.status.st_size, disk.status.st_mtime_ns):
            raise _changed(disk.part.path)

    def finish(self) -> None:
        """The checksums of all that was added, and the end of the archive."""
        self.add(bundle.CHECKSUMS, bundle.encode_checksums(self._sha256))
        self._stream.write(headers.END)


def _condensed(disk: _OpenDisk) -> Iterator[bytes]:
    yield extents.encode(disk.extents)
    for extent in disk.extents:
        at = extent.offset
        while at < extent.end:
            try:
                chunk = os.pread(disk.handle, min(_CHUNK, extent.end - at), at)
            except OSError as e:
                raise _unreadable(disk.part.path, e) from e
            if not chunk:
                raise _changed(disk.part.path)
            yield chunk
            at += len(chunk)


def _changed(path: Path) -> DiskError:
    msg = f"disk image {path} was written to while it was read"
    return DiskError(msg, hint="is the VM running? Stop it, and export it again")


def write_file(path: Path, parts: Parts, progress: Progress | None = None) -> Manifest:
    """Write a bundle to a new file, which has its name only when it is whole and on the disk (fsync).

    Until then it is ``path`` with ``.part`` behind it, which is removed on any failure and on an interrupt. Raises
    DiskError, also when there is such a file already.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        _refuse_existing(path)
        with _claimed(part) as file:
            manifest = write(file, parts, progress)
            file.flush()
            os.fsync(file.fileno())
            _refuse_existing(path)
            part.rename(path)
            _sync(path.parent)
    except OSError as e:
        msg = f"cannot write the bundle {path}: {e.strerror}"
        raise DiskError(msg, hint="check the folder, its permissions and the free space") from e
    return manifest


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        msg = f"{path} exists already and is not overwritten"
        raise DiskError(msg, hint="give another path, or remove it")


@contextmanager
def _claimed(part: Path) -> Iterator[BinaryIO]:
    """An empty file for us alone. What an export that was killed has left is used again."""
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            msg = f"{part} is not a plain file"
            raise DiskError(msg, hint="remove it, or give another path")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            msg = f"another export is writing {part}"
            raise DiskError(msg, hint="wait for it, or give another path") from e
        if not _is_named(part, status):
            msg = f"another export has just written {part}"
            raise DiskError(msg, hint="look at what it made, or give another path")
        try:
            os.ftruncate(handle, 0)
            yield file
        except BaseException:
            if _is_named(part, status):
                part.unlink()
            raise


def _is_named(path: Path, status: os.stat_result) -> bool:
    """Whether a path leads to the very file that a status is of."""
    with suppress(OSError):
        return os.path.samestat(path.lstat(), status)
    return False


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

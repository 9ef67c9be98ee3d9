"""Reads bundles of strangers: first what one says of itself, then, if that is wanted, all of it.

Members come in the order of the manifest and have the sizes that it says, or the bundle is refused. Nothing of a name
or a size in the archive is used for anything but to compare it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from clienthv.bundles import extents, headers
from clienthv.bundles.folder import Folder, fresh
from clienthv.bundles.frame import Frame, cut_short
from clienthv.bundles.headers import Entry
from clienthv.bundles.progress import Count, Progress
from clienthv.errors import RefusedError
from clienthv.model import bundle
from clienthv.model.bundle import AGAIN, Manifest, Member
from clienthv.model.refusals import Refusal, refuse

_CHUNK: Final = 1 << 20


def open_bundle(stream: BinaryIO) -> Reader:
    """Read the head of a bundle: its manifest and the definition. Nothing is written.

    The stream is read from where it is, and never sought in. Raises RefusedError, DiskError.
    """
    frame = Frame(stream)
    entry = headers.next_entry(frame)
    if entry is None or entry.name != bundle.MANIFEST or entry.length is not None:
        msg = f"the bundle does not begin with {bundle.MANIFEST}"
        raise refuse(Refusal.BAD_MANIFEST, msg, hint="give a file that was made by exporting a VM")
    if entry.size > bundle.DOCUMENT_LIMIT:
        msg = f"the bundle's {bundle.MANIFEST} has {entry.size} bytes, more than {bundle.DOCUMENT_LIMIT}"
        raise refuse(Refusal.BAD_MANIFEST, msg, hint=AGAIN)
    data = frame.read(entry.size)
    headers.read_padding(frame, entry.size)
    return Reader(frame, bundle.decode(data), hashlib.sha256(data).hexdigest())


class Reader:
    """A bundle whose head has been read. What follows can be read once: by ``extract`` or ``verify``.

    ``manifest`` keeps to the limits of the format, ``definition`` is the domain's XML as it stands there. Both are what
    a stranger says until ``extract`` or ``verify`` has come to its end, and true only in that nothing was damaged on
    the way then: a bundle does not prove who made it.
    """

    def __init__(self, frame: Frame, manifest: Manifest, sha256: str) -> None:
        self.manifest = manifest
        self._frame = frame
        self._sha256 = {bundle.MANIFEST: sha256}
        self._seen = [bundle.MANIFEST]
        first = manifest.members[0]
        self._expect(first)
        self.definition = frame.read(first.size)
        headers.read_padding(frame, first.size)
        self._sha256[first.name] = hashlib.sha256(self.definition).hexdigest()

    def extract(self, into: Path, progress: Progress | None = None) -> None:
        """Take the bundle apart into a new folder, whose files have the names of the members. Holes stay holes.

        On any failure and on an interrupt the folder is gone again. Raises RefusedError; DiskError when the folder is
        there already or cannot be written.
        """
        with fresh(into) as folder:
            self._read(folder, progress)

    def verify(self, progress: Progress | None = None) -> None:
        """Read the bundle to its end, as ``extract`` does, and write nothing. Raises RefusedError, DiskError."""
        self._read(None, progress)

    def _read(self, folder: Folder | None, progress: Progress | None) -> None:
        count = Count(progress, self.manifest.size)
        definition, *others = self.manifest.members
        with _place(folder, definition.name, definition.size) as put:
            put(self.definition, 0)
        count.add(definition.size)
        for member in others:
            self._expect(member)
            self._member(member, folder, count)
            headers.read_padding(self._frame, member.size)
        self._checksums()
        self._frame.end()

    def _expect(self, member: Member) -> None:
        """Read the header that must follow. Raises RefusedError with what is wrong about it."""
        entry = self._next(member.name)
        self._seen.append(member.name)
        length = member.disk.length if member.disk else None
        if (entry.length is None) != (length is None):
            msg = f"{member.name} in the bundle is{'' if length is None else ' not'} a sparse file"
            raise refuse(Refusal.UNEXPECTED_MEMBER, msg, hint=AGAIN)
        if (entry.size, entry.length) != (member.size, length):
            msg = f"{member.name} in the bundle has {entry.size} bytes, and {member.size} by the manifest"
            raise refuse(Refusal.WRONG_SIZE, msg, hint=AGAIN)

    def _next(self, name: str) -> Entry:
        entry = headers.next_entry(self._frame)
        if entry is None:
            raise cut_short()
        if entry.name == name:
            return entry
        if entry.name in self._seen:
            msg = f"the bundle has {entry.name} twice"
            raise refuse(Refusal.DUPLICATE_MEMBER, msg, hint=AGAIN)
        if entry.name == bundle.CHECKSUMS:
            raise cut_short()
        msg = f"the bundle has {entry.name} where {name} should follow"
        raise refuse(Refusal.UNEXPECTED_MEMBER, msg, hint=AGAIN)

    def _member(self, member: Member, folder: Folder | None, count: Count) -> None:
        digest = hashlib.sha256()
        stretches, data = self._stretches(member, digest, count)
        length = member.disk.length if member.disk else data
        with _place(folder, member.name, length) as put:
            for extent in stretches:
                at = extent.offset
                for chunk in self._chunks(extent.length):
                    digest.update(chunk)
                    put(chunk, at)
                    at += len(chunk)
                    count.add(len(chunk))
        self._sha256[member.name] = digest.hexdigest()

    def _stretches(self, member: Member, digest: hashlib._Hash, count: Count) -> tuple[tuple[extents.Extent, ...], int]:
        """Where a member's data goes, and how much of it there is. A disk's map is read for that."""
        if member.disk is None:
            return (extents.Extent(0, member.size),), member.size
        reader = extents.MapReader(member.name)
        left = member.size
        going_on = True
        while going_on:
            if left < extents.BLOCK:
                raise extents.wrong(member.name)
            block = self._frame.read(extents.BLOCK)
            digest.update(block)
            left -= len(block)
            going_on = reader.feed(block)
        count.add(member.size - left)
        return reader.extents(member.disk.length, left), left

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._frame.read(min(size, _CHUNK))
            size -= len(chunk)
            yield chunk

    def _checksums(self) -> None:
        """Compare the list at the end with what was read. Raises RefusedError."""
        entry = self._next(bundle.CHECKSUMS)
        self._seen.append(bundle.CHECKSUMS)
        if entry.length is not None or entry.size > bundle.DOCUMENT_LIMIT:
            msg = f"{bundle.CHECKSUMS} in the bundle has {entry.size} bytes, more than {bundle.DOCUMENT_LIMIT}"
            raise refuse(Refusal.ABSURD_SIZE, msg, hint=AGAIN)
        told = bundle.decode_checksums(self._frame.read(entry.size))
        headers.read_padding(self._frame, entry.size)
        if wrong := next((n for n in self._seen[:-1] if told.get(n) != self._sha256[n]), None):
            raise _wrong_checksum(wrong)
        if more := next((n for n in told if n not in self._sha256), None):
            raise _wrong_checksum(more)
        self._end()

    def _end(self) -> None:
        entry = headers.next_entry(self._frame)
        if entry is None:
            return
        twice = entry.name in self._seen
        msg = f"the bundle has {entry.name} {'twice' if twice else 'behind its last file'}"
        raise refuse(Refusal.DUPLICATE_MEMBER if twice else Refusal.UNEXPECTED_MEMBER, msg, hint=AGAIN)


def _wrong_checksum(name: str) -> RefusedError:
    msg = f"{name[:120]!r} in the bundle is not what its checksum is of"
    return refuse(Refusal.WRONG_CHECKSUM, msg, hint=AGAIN)


@contextmanager
def _place(folder: Folder | None, name: str, length: int) -> Iterator[Callable[[bytes, int], None]]:
    """What puts data into a member's new file; or nowhere, when there is no folder to make it in."""
    if folder is None:
        yield lambda _, __: None
        return
    with folder.file(name, length) as file:
        yield file.put


def verify(stream: BinaryIO, progress: Progress | None = None) -> Manifest:
    """Read a whole bundle and write nothing; what it says of itself. Raises RefusedError, DiskError."""
    reader = open_bundle(stream)
    reader.verify(progress)
    return reader.manifest

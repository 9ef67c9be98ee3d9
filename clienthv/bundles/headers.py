"""The headers of a bundle's tar archive: written by tarfile, read by a reader that takes no more than the format has.

A reader of all that tar has grown into follows names, links and sizes in six places (POSIX.1-2017, pax, "ustar
Interchange Format" and "pax Extended Header"; GNU tar manual, appendix D). A bundle needs a name, a size and a type
flag, and for disks one extended header, whose records are listed here.
"""

from __future__ import annotations

import re
import tarfile
from typing import Final, NamedTuple

from clienthv.bundles.frame import Frame, not_a_bundle
from clienthv.errors import RefusedError
from clienthv.model.bundle import AGAIN, check_name
from clienthv.model.refusals import Refusal, refuse

BLOCK: Final = tarfile.BLOCKSIZE
END: Final = bytes(2 * BLOCK)
_MODE: Final = 0o600
_PAX_LIMIT: Final = 1 << 12  # bytes; five short records
_REGULAR: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LINKS: Final = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_OF_OTHERS: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_OCTAL: Final = re.compile(rb" *([0-7]{1,12})[ \0]*\Z")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,3}) ([A-Za-z.]{1,32})=([^\n\0]{0,128})\n")
_DECIMAL: Final = re.compile(r"[0-9]{1,15}\Z")
_SPARSE: Final = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
_NAME: Final = "GNU.sparse.name"
_REAL_SIZE: Final = "GNU.sparse.realsize"
_SIZE: Final = "size"


class Entry(NamedTuple):
    """A member as its header has it: ``size`` bytes in the archive, of a file of ``length`` bytes when it is sparse."""

    name: str
    size: int
    length: int | None = None


class _Header(NamedTuple):
    name: str
    size: int
    type: bytes


def header(name: str, size: int, length: int | None = None) -> bytes:
    """The header of a member, without owner and time. With ``length`` it is a sparse file of so many bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _MODE
    if length is not None:
        info.pax_headers = {**_SPARSE, _NAME: name, _REAL_SIZE: str(length)}
    return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")


def padding(size: int) -> bytes:
    """What fills a member up to a whole block."""
    return bytes(-size % BLOCK)


def read_padding(frame: Frame, size: int) -> None:
    """Read past what fills up a member. Raises RefusedError when something is hidden there."""
    if frame.read(-size % BLOCK).strip(b"\0"):
        msg = "the bundle has something between its files"
        raise refuse(Refusal.UNEXPECTED_MEMBER, msg, hint=AGAIN)


def next_entry(frame: Frame) -> Entry | None:
    """The next member's header; None at the end of the archive. Raises RefusedError."""
    block = frame.read(BLOCK)
    if not block.strip(b"\0"):
        if frame.read(BLOCK).strip(b"\0"):
            raise _unexpected("something behind the end of the archive")
        return None
    found = _parse(block)
    if found.type != tarfile.XHDTYPE:
        return Entry(found.name, found.size)
    records = _records(frame.read(found.size))
    read_padding(frame, found.size)
    found = _parse(frame.read(BLOCK))
    if found.type == tarfile.XHDTYPE:
        raise _unexpected("two extended headers for one file")
    return _sparse(found, records)


def _sparse(found: _Header, records: dict[str, str]) -> Entry:
    wanted = {*_SPARSE, _NAME, _REAL_SIZE}
    if records.keys() - {_SIZE} != wanted or any(records[key] != value for key, value in _SPARSE.items()):
        raise _unexpected(f"an extended header before {found.name} that is not one of a sparse file")
    if records[_NAME] != found.name:
        raise _unexpected(f"two names for {found.name}")
    size = _decimal(records[_SIZE]) if _SIZE in records else found.size
    return Entry(found.name, size, _decimal(records[_REAL_SIZE]))


def _decimal(text: str) -> int:
    if not _DECIMAL.match(text):
        raise _absurd()
    return int(text)


def _records(data: bytes) -> dict[str, str]:
    """The records of an extended header, each with its length in front (POSIX.1-2017, pax)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        if match is None or match.end() - at != int(match[1]) or match[2].decode() in found:
            raise _unexpected("an extended header that cannot be read")
        found[match[2].decode()] = match[3].decode("ascii", "replace")
        at = match.end()
    return found


def _parse(block: bytes) -> _Header:
    """One header block: its checksum, then what it is of. Raises RefusedError."""
    told = _OCTAL.match(block[148:156])
    if told is None or int(told[1], 8) != sum(block) - sum(block[148:156]) + 8 * ord(" ") or block[257:262] != b"ustar":
        raise not_a_bundle("what should be the header of a file in a tar archive is none")
    kind = block[156:157]
    name, _, behind = block[:100].partition(b"\0")
    if kind in _LINKS:
        msg = f"the bundle has a link, {name.decode('ascii', 'replace')!r}"
        raise refuse(Refusal.LINK, msg, hint="do not use it: clienthv never writes links")
    size = _OCTAL.match(block[124:136])
    if size is None:
        raise _absurd()
    if kind == tarfile.XHDTYPE or kind in _OF_OTHERS:
        return _extended(kind, int(size[1], 8))
    text = name.decode("ascii", "backslashreplace")
    if kind == tarfile.DIRTYPE:
        text = text.removesuffix("/")
    check_name(text + "\0" if behind.strip(b"\0") or block[345:500].strip(b"\0") else text)
    if kind not in _REGULAR:
        raise _unexpected(f"{text}, which is not a plain file")
    return _Header(text, int(size[1], 8), kind)


def _extended(kind: bytes, size: int) -> _Header:
    """A header about the next one. Its own name means nothing."""
    if size > _PAX_LIMIT:
        msg = f"the bundle has an extended header of {size} bytes"
        raise refuse(Refusal.ABSURD_SIZE, msg, hint="do not use it: it was made to take all memory")
    if kind != tarfile.XHDTYPE:
        raise _unexpected("an extended header for names or for the whole archive")
    return _Header("", size, kind)


def _absurd() -> RefusedError:
    msg = "the bundle has a file whose size no bundle can have"
    return refuse(Refusal.ABSURD_SIZE, msg, hint="do not use it unless you know who made it and how")


def _unexpected(what: str) -> RefusedError:
    return refuse(Refusal.UNEXPECTED_MEMBER, f"the bundle holds {what}", hint=AGAIN)

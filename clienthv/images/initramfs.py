"""The kernel modules in a Linux initial RAM disk (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

It is a sequence of cpio archives, each plain or compressed. Debian and Ubuntu put processor microcode into the first
one and modules into the last; dracut and mkinitcpio do as well.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

import zstandard

_PIECE: Final = 1 << 20
_PACKED: Final = 1 << 10  # bytes unpacked at a time: zstd makes 32 MiB of them at the most
_MOST: Final = 2 << 30  # bytes, decompressed; 700 MiB are seen with firmware of GPUs
_ENTRIES: Final = 200_000
_HEADER: Final = 110
_NAME: Final = 4096
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{104}")
_MODULE: Final = re.compile(r"([^/]+)\.ko(?:\.(?:gz|xz|zst|bz2|lzma))?$")


class UnreadableError(Exception):
    """The initial RAM disk is damaged, too big, or packed in a way that nobody here can read."""


class _Read(Protocol):
    def read(self, size: int, /) -> bytes: ...


def modules(file: BinaryIO) -> frozenset[str]:
    """The names of the modules in an initial RAM disk, with underscores. Raises UnreadableError, OSError."""
    found: set[str] = set()
    budget = _Budget()
    while (at := _next_archive(file)) is not None:
        file.seek(at)
        magic = file.read(6)
        file.seek(at)
        if magic in (b"070701", b"070702"):
            found |= _names(_Counted(file, budget), budget)
        else:
            unpacked = _Unpacked(file, _unpacker(magic))
            found |= _all_names(_Counted(unpacked, budget), budget)
            unpacked.give_back()
    return frozenset(found)


class _Budget:
    """What is left of the bytes and entries that may be read."""

    def __init__(self) -> None:
        self.bytes = _MOST
        self.entries = _ENTRIES


class _Counted:
    def __init__(self, inner: _Read, budget: _Budget) -> None:
        self._inner = inner
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        self._budget.bytes -= size
        if self._budget.bytes < 0:
            msg = "it is larger than any that is known"
            raise UnreadableError(msg)
        return self._inner.read(size)


def _next_archive(file: BinaryIO) -> int | None:
    """Where the next archive begins, after padding with zeros; None at the end."""
    while piece := file.read(_PIECE):
        rest = piece.lstrip(b"\0")
        if rest:
            return file.tell() - len(rest)
    return None


class _Unpacker(Protocol):
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor of gzip, with the limits of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def decompress(self, data: bytes, /) -> bytes:
        return self._inner.decompress(data)


def _unpacker(magic: bytes) -> _Unpacker:
    """What unpacks an archive with this beginning. Raises UnreadableError."""
    known: tuple[tuple[bytes, Callable[[], _Unpacker]], ...] = (
        (b"\x1f\x8b", _Gzip),
        (b"\xfd7zXZ\0", lzma.LZMADecompressor),
        (b"\x5d\0\0", lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)),
        (b"BZh", bz2.BZ2Decompressor),
        (b"\x28\xb5\x2f\xfd", lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()),
    )
    for beginning, make in known:
        if magic.startswith(beginning):
            return make()
    names = {b"\x02\x21\x4c\x18": "lz4", b"\x04\x22\x4d\x18": "lz4", b"\x89LZO": "lzo"}
    msg = f"it is packed with {names.get(magic[:4], 'something unknown')}, which is not read here"
    raise UnreadableError(msg)


class _Unpacked:
    """The unpacked bytes of one compressed archive, as they are asked for."""

    def __init__(self, file: BinaryIO, unpacker: _Unpacker) -> None:
        self._file = file
        self._unpacker = unpacker
        self._ready = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if self._at == len(self._ready) and not self._more():
                break
            part = self._ready[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _more(self) -> bool:
        """Unpack until there is something; False at the end."""
        self._ready, self._at = b"", 0
        while not self._ready and not self._unpacker.eof:
            packed = self._file.read(_PACKED)
            if not packed:
                break
            self._ready = self._unpack(packed)
        return bool(self._ready)

    def _unpack(self, packed: bytes) -> bytes:
        try:
            return self._unpacker.decompress(packed)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError, EOFError) as e:
            msg = f"it is damaged: {e}"
            raise UnreadableError(msg) from e

    def give_back(self) -> None:
        """Put the file where the compressed archive ends."""
        self._file.seek(self._file.tell() - len(self._unpacker.unused_data))


def _all_names(source: _Read, budget: _Budget) -> set[str]:
    """The modules of all cpio archives in an unpacked one: everything up to its end is read."""
    found: set[str] = set()
    while True:
        found |= _names(source, budget)
        pad = source.read(512)
        while pad and not pad.strip(b"\0"):
            pad = source.read(512)
        if not pad:
            return found
        source = _Again(pad.lstrip(b"\0"), source)


class _Again:
    def __init__(self, first: bytes, then: _Read) -> None:
        self._first = first
        self._then = then

    def read(self, size: int, /) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first if len(first) == size else first + self._then.read(size - len(first))


def _names(source: _Read, budget: _Budget) -> set[str]:
    """The modules of one cpio archive in the format newc, up to its trailer. Raises UnreadableError."""
    found: set[str] = set()
    while True:
        budget.entries -= 1
        header = source.read(_HEADER)
        if header[:6] not in (b"070701", b"070702") or not _HEX.fullmatch(header[6:]) or budget.entries < 0:
            msg = "it is damaged: an archive in it ends too early"
            raise UnreadableError(msg)
        size, length = int(header[54:62], 16), int(header[94:102], 16)
        if length > _NAME:
            msg = "it is damaged: a name in it is too long"
            raise UnreadableError(msg)
        padded = (_HEADER + length + 3) // 4 * 4 - _HEADER
        name = source.read(padded)[:length].rstrip(b"\0").decode("utf-8", "replace")
        if name == "TRAILER!!!":
            return found
        module = _MODULE.search(name)
        if module:
            found.add(module[1].replace("-", "_"))
        _skip(source, (size + 3) // 4 * 4)


def _skip(source: _Read, size: int) -> None:
    while size > 0:
        took = len(source.read(min(size, _PIECE)))
        if took == 0:
            msg = "it is damaged: a file in it ends too early"
            raise UnreadableError(msg)
        size -= took

"""Where a disk image has data, and how that is written down: the map of GNU tar's sparse format 1.0.

The map is the head of the member: the number of stretches, then offset and length of each in bytes, one decimal
number a line, filled up with zeros to a block (GNU tar manual, appendix D.2, "Storing Sparse Files").
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.errors import RefusedError
from clienthv.model.bundle import AGAIN, MAP_LIMIT, MOST_EXTENTS
from clienthv.model.refusals import Refusal, refuse

BLOCK: Final = 512
_ALIGNED: Final = 4096
_SHORTEST_HOLE: Final = 1 << 20  # bytes; zeros up to there compress to less than a line of the map costs in time
_NUMBER: Final = re.compile(rb"[0-9]{1,14}\Z")


class Extent(NamedTuple):
    """A stretch of data, in bytes from the start of the file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte that is no longer part of it."""
        return self.offset + self.length


def of_file(handle: int, length: int) -> tuple[Extent, ...]:
    """The stretches of an open file, without holes that are worth leaving out (man 2 lseek, SEEK_HOLE).

    A file system that knows no holes says that all of it is data. Raises OSError.
    """
    found: list[Extent] = []
    shortest = _SHORTEST_HOLE
    for extent in _stretches(handle, length):
        _join(found, extent, shortest)
        while len(found) >= MOST_EXTENTS:
            shortest *= 2
            before, found = found, []
            for each in before:
                _join(found, each, shortest)
    if not found or found[-1].end < length:  # so that whoever reads knows where the file ends, as GNU tar does
        found.append(Extent(length, 0))
    return tuple(found)


def _stretches(handle: int, length: int) -> Iterator[Extent]:
    at = 0
    while at < length:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        at = os.lseek(handle, start, os.SEEK_HOLE)
        first = start // _ALIGNED * _ALIGNED
        last = min(-(-at // _ALIGNED) * _ALIGNED, length)
        if first < last:
            yield Extent(first, last - first)


def _join(found: list[Extent], extent: Extent, shortest: int) -> None:
    if found and extent.offset - found[-1].end < shortest:
        extent = Extent(found[-1].offset, extent.end - found.pop().offset)
    found.append(extent)


def encode(extents: tuple[Extent, ...]) -> bytes:
    """The map as it stands at the head of a member."""
    lines = [len(extents), *(number for extent in extents for number in extent)]
    text = "".join(f"{line}\n" for line in lines).encode()
    return text + bytes(-len(text) % BLOCK)


class MapReader:
    """Takes a map block by block, as it is not said beforehand how long it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._data = bytearray()
        self._lines = 0

    def feed(self, block: bytes) -> bool:
        """Take one block more; whether the map goes on. Raises RefusedError (absurd-size, wrong-size)."""
        self._data += block
        self._lines += block.count(b"\n")
        first, ended, _ = self._data[:16].partition(b"\n")
        if not ended or not _NUMBER.match(first):
            raise wrong(self._name)
        if int(first) > MOST_EXTENTS or len(self._data) > MAP_LIMIT:
            msg = f"{self._name} in the bundle has a map of {int(first)} stretches of data"
            raise refuse(Refusal.ABSURD_SIZE, msg, hint=f"the format has at most {MOST_EXTENTS}; export the VM again")
        return self._lines < 1 + 2 * int(first)

    def extents(self, length: int, data: int) -> tuple[Extent, ...]:
        """The stretches: in order and apart, ``data`` bytes in a file of ``length``.

        Raises RefusedError (wrong-size).
        """
        *lines, filling = bytes(self._data).split(b"\n")
        if filling.strip(b"\0") or not all(map(_NUMBER.match, lines)):
            raise wrong(self._name)
        numbers = [int(line) for line in lines[1:]]
        found = tuple(map(Extent, numbers[::2], numbers[1::2]))
        at = 0
        for extent in found:
            whole = extent.offset % BLOCK == 0 and extent.length % BLOCK == 0
            if extent.offset < at or not (whole or extent.end == length):
                raise wrong(self._name)
            at = extent.end
        if at > length or sum(e.length for e in found) != data or len(numbers) != 2 * int(lines[0]):
            raise wrong(self._name)
        return found


def wrong(name: str) -> RefusedError:
    """The refusal of a map that cannot be true."""
    msg = f"the map of {name} in the bundle does not fit the sizes that its manifest has"
    return refuse(Refusal.WRONG_SIZE, msg, hint=AGAIN)

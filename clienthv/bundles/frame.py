"""The outermost layer of a bundle that is read: one zstd frame, in bounded memory however it was made.

RFC 8878 describes frames. A block of four bytes can become 128 KiB, so that what is decompressed at once is bounded by
how little is given to the decompressor.
"""

from __future__ import annotations

from typing import BinaryIO, Final

import zstandard

from clienthv.errors import DiskError, RefusedError
from clienthv.model.bundle import AGAIN
from clienthv.model.refusals import Refusal, refuse

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_HEADER: Final = 18  # bytes, the longest of a frame (RFC 8878, 3.1.1.1)
LARGEST_WINDOW: Final = 1 << 23
"""Bytes that a decompressor must look back: what RFC 8878 (3.1.1.1.2) wants every decoder to have."""
_AT_ONCE: Final = 1 << 10  # bytes of input: at most 32 MiB of output
_PIECE: Final = 1 << 16
_FILLING: Final = 1 << 20  # zeros behind an archive: GNU tar fills up to its blocking factor


class Frame:
    """What a stream that must be one zstd frame holds. Raises RefusedError, also on each read; DiskError."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._buffer = bytearray()
        self._input = self._head()
        self._at = 0
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()

    def _head(self) -> bytes:
        head = b""
        while len(head) < _HEADER and (piece := self._take(_PIECE)):
            head += piece
        if not head.startswith(_MAGIC):
            raise not_a_bundle("it does not begin with a zstd frame")
        try:
            frame = zstandard.get_frame_parameters(head[:_HEADER])
        except zstandard.ZstdError as e:
            if len(head) < _HEADER:
                raise cut_short() from e
            raise not_a_bundle(f"its zstd frame cannot be read: {e}") from e
        if frame.window_size > LARGEST_WINDOW:
            msg = f"the bundle wants {frame.window_size >> 20} MiB of memory to be decompressed"
            raise refuse(Refusal.ABSURD_SIZE, msg, hint="compress it with zstd -19 or less, without --long")
        if frame.dict_id or not frame.has_checksum:
            raise not_a_bundle("its zstd frame needs a dictionary, or has no checksum")
        return head

    def _take(self, count: int) -> bytes:
        try:
            return self._source.read(count)
        except OSError as e:
            msg = f"the bundle cannot be read on: {e.strerror}"
            raise DiskError(msg, hint="check the disk or the connection it comes from") from e

    def _more(self) -> bool:
        """Decompress a little; whether the frame went on. Raises RefusedError (wrong-checksum)."""
        if self._decompressor.eof:
            return False
        if self._at == len(self._input):
            self._input, self._at = self._take(_PIECE), 0
        piece = memoryview(self._input)[self._at : self._at + _AT_ONCE]
        if not piece:
            return False
        try:
            self._buffer += self._decompressor.decompress(piece)
        except zstandard.ZstdError as e:
            msg = "the bundle is damaged: its compressed data does not fit together"
            raise refuse(Refusal.WRONG_CHECKSUM, msg, hint=AGAIN, detail=str(e)) from e
        self._at += len(piece)
        return True

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises RefusedError (cut-short) when there are fewer."""
        while len(self._buffer) < count:
            if not self._more():
                raise cut_short()
        with memoryview(self._buffer) as view:
            piece = bytes(view[:count])
        del self._buffer[:count]
        return piece

    def end(self) -> None:
        """See that nothing but zeros follows, and they are few. Raises RefusedError."""
        seen = 0
        going_on = True
        while going_on:
            going_on = self._more()
            seen += len(self._buffer)
            if self._buffer.strip(b"\0"):
                raise trailing()
            if seen > _FILLING:
                msg = "the bundle goes on after its end with more zeros than any tar writes"
                raise refuse(Refusal.ABSURD_SIZE, msg, hint="do not use it: it was made to fill a disk or to take time")
            self._buffer.clear()
        if not self._decompressor.eof:
            raise cut_short()
        if self._decompressor.unused_data or self._at < len(self._input) or self._take(1):
            raise trailing()


def not_a_bundle(why: str) -> RefusedError:
    """The refusal of something that is another kind of file."""
    msg = f"this is not a bundle of clienthv: {why}"
    return refuse(Refusal.NOT_A_BUNDLE, msg, hint="give a file that was made by exporting a VM")


def cut_short() -> RefusedError:
    """The refusal of a bundle that ends too early."""
    msg = "the bundle ends before it is complete"
    return refuse(Refusal.CUT_SHORT, msg, hint="copy it again; if it stays so, export the VM again")


def trailing() -> RefusedError:
    """The refusal of something behind the last member."""
    msg = "something follows the bundle's last file"
    return refuse(Refusal.UNEXPECTED_MEMBER, msg, hint=AGAIN)

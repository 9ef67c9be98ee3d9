"""Pictures of a guest's screen as PNG. Newer QEMU gives PNG itself; older gives a portable pixmap."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final

from clienthv.errors import GuestError

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PPM_HEADER: Final = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s", re.ASCII)


def as_png(mime: str, data: bytes, name: str) -> bytes:
    """A picture as PNG, whatever libvirt gave. Raises GuestError for a format that is neither PNG nor PPM."""
    if data.startswith(_PNG):
        return data
    header = _PPM_HEADER.match(data)
    if header is None:
        msg = f"VM {name}'s screen came as {mime}, which is neither PNG nor PPM"
        raise GuestError(msg, hint="is the guest's screen on yet? try again")
    width, height = int(header.group(1)), int(header.group(2))
    pixels = data[header.end() :]
    stride = width * 3
    if len(pixels) < stride * height:
        msg = f"the picture of VM {name}'s screen is cut short"
        raise GuestError(msg, hint="try again")
    rows = b"".join(b"\x00" + pixels[y * stride : (y + 1) * stride] for y in range(height))
    # PNG specification, sections 5 and 11: 8 bits a sample, colour type 2 (RGB), no filter, no interlace
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

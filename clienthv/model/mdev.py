"""The name of a VM's mediated device: made from the VM's, so that whoever cleans up can find it again."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from clienthv.model.particulars import MDEV_TYPE_PATTERN

NO_MDEV: Final = "none"
"""What stands for a mediated device that is not there, where its type would stand."""

_SPACE: Final = b"urn:clienthv:mdev:1"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TYPE: Final = re.compile(MDEV_TYPE_PATTERN)


def uuid_of(vm: str) -> str:
    """The UUID of a VM's mediated device: by name (RFC 9562, version 8: made in one's own way)."""
    digest = bytearray(hashlib.sha256(_SPACE + b"\0" + vm.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as sysfs writes it."""
    return _UUID.match(text) is not None


def is_type_or_none(text: str) -> bool:
    """Whether a text is a type of mediated devices, or stands for none."""
    return text == NO_MDEV or _TYPE.match(text) is not None

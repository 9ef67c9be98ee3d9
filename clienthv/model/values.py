"""Small values with one spelling each: PCI addresses, sizes and names."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

# "$(?!\n)" is the very end in Python and in JSON Schema's dialect alike; "$" alone lets a newline follow in Python.
PCI_ADDRESS_PATTERN: Final = r"^([0-9a-f]{4}|[1-9a-f][0-9a-f]{4,7}):[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$(?!\n)"
_PCI_ADDRESS = re.compile(r"^(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-1][0-9a-fA-F])\.([0-7])\Z")

Address = Annotated[str, Meta(pattern=PCI_ADDRESS_PATTERN)]
HexId = Annotated[str, Meta(pattern=r"^[0-9a-f]{4}$(?!\n)")]
Count = Annotated[int, Meta(ge=0)]

VM_NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}$"
_VM_NAME = re.compile(VM_NAME_PATTERN.rstrip("$") + r"\Z")

_SIZE = re.compile(r"^ *([0-9]{1,9}) *(MiB|GiB|TiB) *\Z")
SIZE_PATTERN: Final = r"^ *[0-9]{1,9} *(MiB|GiB|TiB) *$(?!\n)"
_LAST_ROUTING_ID: Final = 0xFFFF
_MIB_PER: Final = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


class PciAddress(msgspec.Struct, frozen=True, order=True):
    """A PCI function's place: domain, bus, device (slot) and function numbers (PCI Firmware Specification 3.x)."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """Read ``0000:01:00.0`` or ``01:00.0``. Raises ValueError."""
        match = _PCI_ADDRESS.match(text)
        if match is None:
            msg = f"{text!r} is not a PCI address such as 0000:01:00.0"
            raise ValueError(msg)
        domain, bus, device, function = match.groups()
        return cls(int(domain or "0", 16), int(bus, 16), int(device, 16), int(function, 16))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def routing_id(self) -> int:
        """Bus, device and function in 16 bits, as PCI Express requests carry them (PCIe Base Specification, 2.2.4)."""
        return self.bus << 8 | self.device << 3 | self.function

    def further(self, count: int) -> PciAddress | None:
        """The place whose routing id is ``count`` higher, in the same domain; None past the last bus."""
        number = self.routing_id + count
        if not 0 <= number <= _LAST_ROUTING_ID:
            return None
        return PciAddress(self.domain, number >> 8, number >> 3 & 0x1F, number & 0x7)

    @property
    def slot(self) -> str:
        """The address without its function: what the functions of one card share."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}"


def as_json(document: msgspec.Struct | dict[str, Any]) -> bytes:
    """A document as indented JSON with a final newline; the same document gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def text_of(data: bytes) -> str:
    """The text of a file in whichever of the usual encodings; bytes that are none become replacement characters."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def version(text: str) -> tuple[int, ...]:
    """A version in numbers, up to the first part that is none: "10.0.2" is (10, 0, 2)."""
    parts = itertools.takewhile(lambda part: part.isascii() and part.isdecimal(), text.split("."))
    return tuple(int(part[:9]) for part in parts)


def is_vm_name(text: str) -> bool:
    """Whether ``text`` can name a VM: letters, digits and ``_.+-``, at most 64, no leading dot, dash or plus.

    libvirt allows more; what it forbids or mangles (slashes, newlines, control characters) and what a shell or a
    path would misread is left out.
    """
    return _VM_NAME.match(text) is not None


def parse_mib(text: str) -> int:
    """Read a size with its unit, ``"512 MiB"`` or ``"8 GiB"``, as MiB. Raises ValueError."""
    match = _SIZE.match(text)
    if match is None or int(match.group(1)) == 0:
        msg = f'{text!r} is not a size with a unit, such as "512 MiB" or "8 GiB"'
        raise ValueError(msg)
    return int(match.group(1)) * _MIB_PER[match.group(2)]


def format_mib(mib: int) -> str:
    """A size in MiB for a person: ``8 GiB``, ``1536 MiB``."""
    return f"{mib // 1024} GiB" if mib % 1024 == 0 and mib else f"{mib} MiB"


def is_plain_text(text: str) -> bool:
    """Whether XML and a terminal can carry a text as it is: no control characters, nothing that is not Unicode."""
    return not any(ord(c) < ord(" ") or c == "\x7f" or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" for c in text)

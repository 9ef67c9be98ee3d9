"""XML that libvirt gives, of this PC or another: nothing outside it is read, and no entity is followed."""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

from clienthv.errors import HostError
from clienthv.model.values import PCI_ADDRESS_PATTERN, PciAddress

_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,8}\Z")
_DECIMAL: Final = re.compile(r"[0-9]{1,15}\Z")
_ADDRESS: Final = re.compile(PCI_ADDRESS_PATTERN)
_PARTS: Final = ("domain", "bus", "slot", "function")
_LONGEST: Final = 200


def parse(text: str, what: str) -> Any:
    """The root element of one document. ``what`` names it in errors. Raises HostError.

    libvirt writes no document type, and one that another PC sends could have entities that expand to no end.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        if "<!DOCTYPE" in text:
            msg = f"{what} have a document type, which libvirt never writes"
            raise HostError(msg, hint="who answers there is not libvirt")
        return etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        msg = f"{what} are not XML: {e}"
        raise HostError(msg) from e


def number(text: str | None) -> int | None:
    """A whole number as libvirt writes it, decimal or with ``0x``; None for anything else."""
    stripped = (text or "").strip()
    if _HEX.match(stripped):
        return int(stripped, 16)
    return int(stripped) if _DECIMAL.match(stripped) else None


def line(text: str | None) -> str | None:
    """A name on one line without control characters, at most 200 characters; None where nothing is left."""
    words = "".join(c if c.isprintable() else " " for c in text or "").split()
    return " ".join(words)[:_LONGEST].strip() or None


def address(*numbers: int | None) -> str | None:
    """A PCI address from domain, bus, slot and function; None where one of them is none."""
    domain, bus, slot, function = numbers
    if domain is None or bus is None or slot is None or function is None or slot > 0x1F or function > 0x7:
        return None
    text = str(PciAddress(domain, bus, slot, function))
    return text if _ADDRESS.match(text) else None


def address_of(element: Any) -> str | None:
    """The PCI address that an ``<address>`` element has in its attributes (libvirt, basictypes.rng, pciaddress)."""
    return address(*(number(element.get(part)) for part in _PARTS))


def is_address(text: str) -> bool:
    """Whether a folder name is a PCI address."""
    return _ADDRESS.match(text) is not None


def text_of(element: Any) -> str:
    """An element as XML."""
    return str(etree.tostring(element, encoding="unicode", with_tail=False))

"""The devices of a PC by what a person would type for them, found in a moment: no libvirt, udev or roles are asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.inspect.files import Tree
from clienthv.inspect.pciids import USB_FILES, look_up
from clienthv.inspect.places import is_address, is_usb_device

_BRIDGE: Final = "06"  # PCI Code and ID Assignment Specification: base class 06
_HUB: Final = "09"  # USB, defined class codes
_ID: Final = re.compile(r"[0-9a-f]{4}\Z")


class AtHand(NamedTuple):
    """One device: its PCI address, or the USB ids; and its name where a list of ids has one."""

    word: str
    name: str


def pci(tree: Tree) -> tuple[AtHand, ...]:
    """Every PCI function that is no bridge, in address order."""
    here = "/sys/bus/pci/devices"
    found = {}
    for address in tree.names(here) or ():
        code = (tree.attribute(f"{here}/{address}/class") or "").removeprefix("0x")
        if is_address(address) and not code.startswith(_BRIDGE):
            ids = (tree.attribute(f"{here}/{address}/{key}") or "" for key in ("vendor", "device"))
            vendor, device = (text.removeprefix("0x") for text in ids)
            found[address] = (vendor, device)
    names = look_up(found.values())
    return tuple(AtHand(address, _words(names.get(ids, (None, None)), ids)) for address, ids in found.items())


def usb(tree: Tree) -> tuple[AtHand, ...]:
    """Every kind of USB device that is plugged in, hubs left out: two of the same ids are one."""
    found = dict.fromkeys(_plugged_in(tree))
    names = look_up(found, USB_FILES)
    return tuple(AtHand(":".join(ids), _words(names.get(ids, (None, None)), ids)) for ids in found)


def _plugged_in(tree: Tree) -> Iterator[tuple[str, str]]:
    here = "/sys/bus/usb/devices"
    for port in tree.names(here) or ():
        if not is_usb_device(port) or tree.attribute(f"{here}/{port}/bDeviceClass") == _HUB:
            continue
        vendor, product = (tree.attribute(f"{here}/{port}/{key}") or "" for key in ("idVendor", "idProduct"))
        if _ID.match(vendor) and _ID.match(product):
            yield vendor, product


def _words(names: tuple[str | None, str | None], ids: tuple[str, str]) -> str:
    return " ".join(name for name in names if name) or ":".join(ids)

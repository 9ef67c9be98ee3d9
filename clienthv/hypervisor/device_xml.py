"""One of libvirt's node devices (libvirt, "Node devices XML format"): where it hangs, and what it is called."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from clienthv.hypervisor import documents
from clienthv.model.network import INTERFACE

KINDS: Final = frozenset({"system", "pci", "usb_device", "usb", "net", "storage", "drm", "mdev"})
_CARD: Final = re.compile(rf"{INTERFACE}\Z")
_ON_USB: Final = re.compile(r"/usb[0-9]{1,3}/")
_DISK: Final = re.compile(r"[A-Za-z0-9!_.-]{1,32}\Z")
_DRIVER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_UP: Final = frozenset({"up", "dormant"})


class NodeDevice(NamedTuple):
    """One node device: its name, its parent's, where it lies in sysfs, its driver ("" for none) and what it is."""

    name: str
    parent: str | None
    path: str | None
    driver: str | None
    kind: str
    capability: Any

    @property
    def kernel_name(self) -> str:
        """What the kernel calls it: the last part of its path; "" without a path."""
        return (self.path or "").rpartition("/")[2]

    @property
    def order(self) -> str:
        """What devices of one kind are sorted by."""
        return self.path or self.name


def parse_device(xml: str) -> NodeDevice | None:
    """One document; None for a kind that nobody here asks for. Raises HostError."""
    root = documents.parse(xml, "libvirt's node devices")
    capability = next((c for c in root.iterfind("capability") if c.get("type") in KINDS), None)
    if capability is None:
        return None
    path = (root.findtext("path") or "").strip()
    return NodeDevice(
        name=(root.findtext("name") or "").strip(),
        parent=(root.findtext("parent") or "").strip() or None,
        path=path if path.startswith("/") and path.isprintable() else None,
        driver=_driver(root.find("driver")),
        kind=capability.get("type"),
        capability=capability,
    )


def is_up(device: NodeDevice) -> bool | None:
    """Whether an interface is administratively up; None where its state does not tell.

    libvirt gives the operational state. ``up`` needs an interface that is up (kernel, net/core/net-sysfs.c,
    operstate_show); ``down`` is also one without a cable.
    """
    return True if attribute(device.capability, "link", "state") in _UP else None


def is_on_usb(device: NodeDevice) -> bool:
    """Whether a device is on a USB bus: its path goes through a root hub."""
    return _ON_USB.search(device.path or "") is not None


def interface_of(device: NodeDevice) -> str | None:
    """The name of a network interface; None for one that no command line should carry."""
    name = (device.capability.findtext("interface") or "").strip()
    return name if _CARD.match(name) else None


def disk_of(device: NodeDevice) -> str | None:
    """The kernel's name of a whole disk."""
    name = device.kernel_name or (device.capability.findtext("block") or "").strip().removeprefix("/dev/")
    return name if _DISK.match(name) else None


def attribute(element: Any, child: str, name: str) -> str | None:
    """An attribute of an element's first child of a name; None where either is missing."""
    found = element.find(child)
    value = found.get(name) if found is not None else None
    return None if value is None else str(value)


def matched(text: str | None, pattern: re.Pattern[str]) -> str | None:
    """The first group of a pattern in a text, in lower case."""
    match = pattern.match((text or "").strip())
    return match.group(1).lower() if match else None


def _driver(element: Any) -> str | None:
    """The driver's name, "" for none, None for one that no driver is called."""
    if element is None:
        return ""
    name = (element.findtext("name") or "").strip()
    return name if _DRIVER.match(name) else None

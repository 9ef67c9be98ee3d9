"""Which PCI function a device hangs on: its place below /sys/devices tells."""

from __future__ import annotations

import re

from clienthv.model.values import PCI_ADDRESS_PATTERN

_ADDRESS = re.compile(PCI_ADDRESS_PATTERN.rstrip("$") + r"\Z")


def is_address(name: str) -> bool:
    """Whether a folder name is a PCI address, of any domain width (VMD domains have five digits)."""
    return _ADDRESS.match(name) is not None


def addresses(path: str) -> tuple[str, ...]:
    """The PCI functions on the way to a device, root first (Documentation/admin-guide/sysfs-rules.rst)."""
    return tuple(part for part in path.split("/") if is_address(part))


def owner(path: str) -> str | None:
    """The PCI function a device hangs on, directly or through USB, SCSI, NVMe or virtio."""
    found = addresses(path)
    return found[-1] if found else None


def is_on_usb(path: str) -> bool:
    """Whether a device is on a USB bus (its path goes through a root hub, usbN)."""
    return re.search(r"/usb[0-9]+/", path) is not None

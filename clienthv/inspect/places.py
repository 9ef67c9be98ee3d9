"""Which PCI function a device hangs on: its place below /sys/devices tells."""

from __future__ import annotations

import re

from clienthv.model.usb import PORT, PORT_PATTERN
from clienthv.model.values import PCI_ADDRESS_PATTERN

_ADDRESS = re.compile(PCI_ADDRESS_PATTERN.rstrip("$") + r"\Z")
_USB_DEVICE = re.compile(PORT)
_USB_NAME = re.compile(PORT_PATTERN)


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


def is_usb_device(name: str) -> bool:
    """Whether a folder name is a USB device's: ``1-2.3``, or ``usb1`` for a root hub; interfaces have a colon."""
    return _USB_NAME.match(name) is not None


def usb_port(path: str) -> str | None:
    """The USB device that something hangs on, by its port: the last one on the way; root hubs carry nothing."""
    found = [part for part in path.split("/") if _USB_DEVICE.fullmatch(part)]
    return found[-1] if found and is_on_usb(path) else None


def is_on_usb(path: str) -> bool:
    """Whether a device is on a USB bus (its path goes through a root hub, usbN)."""
    return re.search(r"/usb[0-9]+/", path) is not None

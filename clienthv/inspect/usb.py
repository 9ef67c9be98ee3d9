"""Every USB device with what it is, what it hangs on, and what hangs on it. Serial numbers are not read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from clienthv.inspect.anonymise import SCRUBBED
from clienthv.inspect.files import ATTRIBUTE_LIMIT, Tree
from clienthv.inspect.findings import Findings
from clienthv.inspect.pciids import DEVICE_PROPERTY, USB_FILES, VENDOR_PROPERTY, look_up
from clienthv.inspect.places import is_usb_device, owner, usb_port
from clienthv.inspect.storage import Disks
from clienthv.inspect.udev import Device, devices, is_told
from clienthv.model.usb import UsbDevice

DRIVERS: Final = "/sys/bus/usb/drivers"
_ID: Final = re.compile(r"^([0-9a-fA-F]{4})\Z")
_CLASS: Final = re.compile(r"^([0-9a-fA-F]{2})\Z")
_INTERFACE_FILES: Final = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
# systemd, hwdb.d/60-autosuspend-fingerprint-reader.hwdb: libfprint's list of readers, the only one that sets it (to 0).
_PERSIST: Final = "ID_PERSIST"
_LONGEST_NAME: Final = 126  # UTF-16 units in a string descriptor of 255 bytes (USB 2.0 specification, 9.6.7)
_LIKE_A_SERIAL: Final = re.compile(r"\b(?=(?:[^\W_]*[0-9]){6})[^\W_]{10,}\b")


@dataclass(slots=True)
class _Belongings:
    """What hangs on the USB devices, by port; ``None`` where the tree does not tell."""

    disks: dict[str, list[str]] | None
    interfaces: dict[str, list[str]] | None


def read_devices(tree: Tree, disks: Disks, findings: Findings) -> tuple[UsbDevice, ...] | None:
    """Every USB device, hubs too, in the order of their places; ``None`` where the tree does not tell.

    Files: Documentation/ABI/stable/sysfs-bus-usb and testing/sysfs-bus-usb. Only devices have an idVendor,
    interfaces do not. Roles and keyboards are those that ``findings`` already has.
    """
    if not is_told(tree, "usb"):
        return None
    listed = devices(tree, "usb", (VENDOR_PROPERTY, DEVICE_PROPERTY, _PERSIST))
    found = {d.name: d for d in listed if is_usb_device(d.name) and tree.exists(f"{d.path}/idVendor")}
    belongings = _belongings(tree, disks)
    read = tuple(_device(tree, found[port], belongings, findings) for port in sorted(found, key=_place))
    if not any(d.drivers for d in read) and not tree.exists(DRIVERS):
        read = tuple(msgspec.structs.replace(d, drivers=None) for d in read)  # a trimmed tree tells none
    return _named(tree, found, read)


def _place(port: str) -> list[int]:
    """A root hub before what is plugged into it, port 2 before port 10."""
    return [int(number) for number in re.findall(r"[0-9]+", port)]


def _device(tree: Tree, device: Device, belongings: _Belongings, findings: Findings) -> UsbDevice:
    here, port = device.path, device.name
    interfaces = [f"{here}/{name}" for name in tree.names(here) or () if re.fullmatch(r"[0-9.-]+:[0-9]+\.[0-9]+", name)]
    classes = tuple(_interface_class(tree, interface) for interface in interfaces)
    return UsbDevice(
        port=port,
        busnum=_within(tree.number(f"{here}/busnum"), 999),
        devnum=_within(tree.number(f"{here}/devnum"), 127),
        vendor_id=_matched(tree, f"{here}/idVendor", _ID),
        product_id=_matched(tree, f"{here}/idProduct", _ID),
        vendor=plain_name(device.properties.get(VENDOR_PROPERTY)),
        product=plain_name(device.properties.get(DEVICE_PROPERTY)),
        device_class=_matched(tree, f"{here}/bDeviceClass", _CLASS),
        interface_classes=tuple(c for c in classes if c is not None) if None not in classes else None,
        controller=owner(here),
        drivers=tuple(sorted({name for i in interfaces if (name := tree.target(f"{i}/driver")) is not None})),
        block_devices=_of(belongings.disks, port),
        network_interfaces=_of(belongings.interfaces, port),
        keyboard=findings.keyboard_at(port),
        roles=findings.usb_roles(port),
        fingerprint_reader=device.properties.get(_PERSIST) == "0" or msgspec.UNSET,
    )


def _interface_class(tree: Tree, here: str) -> str | None:
    codes = [_matched(tree, f"{here}/{name}", _CLASS) for name in _INTERFACE_FILES]
    return "".join(code for code in codes if code is not None) if None not in codes else None


def _belongings(tree: Tree, disks: Disks) -> _Belongings:
    cards = devices(tree, "net") if is_told(tree, "net") else None
    return _Belongings(
        disks=_by_port(disks.by_name[name] for name in disks.whole()) if disks.told else None,
        interfaces=None if cards is None else _by_port(cards),
    )


def _by_port(found: Iterable[Device]) -> dict[str, list[str]]:
    owned: dict[str, list[str]] = defaultdict(list)
    for device in found:
        if (port := usb_port(device.path)) is not None:
            owned[port].append(device.name)
    return dict(owned)


def _of(owned: dict[str, list[str]] | None, port: str) -> tuple[str, ...] | None:
    return None if owned is None else tuple(sorted(owned.get(port, ())))


def _matched(tree: Tree, inside: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.match(tree.attribute(inside) or "")
    return match.group(1).lower() if match else None


def _within(number: int | None, most: int) -> int | None:
    return number if number is not None and 1 <= number <= most else None


def _named(tree: Tree, found: dict[str, Device], read: tuple[UsbDevice, ...]) -> tuple[UsbDevice, ...]:
    """The devices, named by the USB ID list and last by themselves where the udev database is silent."""
    ids = {(d.vendor_id, d.product_id) for d in read if d.vendor_id and d.product_id and not (d.vendor and d.product)}
    names = look_up(ids, USB_FILES)
    named = []
    for device in read:
        vendor, product = names.get((device.vendor_id or "", device.product_id or ""), (None, None))
        here = found[device.port].path
        vendor = device.vendor or plain_name(vendor) or own_name(tree.text(f"{here}/manufacturer", ATTRIBUTE_LIMIT))
        product = device.product or plain_name(product) or own_name(tree.text(f"{here}/product", ATTRIBUTE_LIMIT))
        named.append(msgspec.structs.replace(device, vendor=vendor, product=product))
    return tuple(named)


def plain_name(text: str | None) -> str | None:
    """A name on one line without control characters: a device says what it likes."""
    words = "".join(c if c.isprintable() else " " for c in text or "").split()
    return " ".join(words)[:_LONGEST_NAME].strip() or None


def own_name(text: str | None) -> str | None:
    """What a device calls itself, without words that look like a serial number, which some put there too."""
    name = plain_name(text)
    return None if name is None else _LIKE_A_SERIAL.sub(SCRUBBED, name)

"""libvirt's node devices of USB as the USB devices of a host document. Their ports stand in their sysfs paths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from clienthv.hypervisor.device_xml import NodeDevice, attribute, disk_of, interface_of, is_on_usb, matched
from clienthv.hypervisor.documents import is_address, line, number
from clienthv.model.usb import PORT, PORT_PATTERN, UsbDevice

_ID: Final = re.compile(r"0x([0-9a-fA-F]{4})\Z")
_PORT: Final = re.compile(PORT_PATTERN)
_BELOW_HUB: Final = re.compile(rf"{PORT}\Z")
_INTERFACE: Final = re.compile(r"[0-9.-]+:[0-9]+\.[0-9]+\Z")
_CODES: Final = ("class", "subclass", "protocol")
_MOST: Final = {"bus": 999, "device": 127}


def usb_devices(
    devices: list[NodeDevice], interfaces: list[NodeDevice], cards: list[NodeDevice], disks: list[NodeDevice]
) -> tuple[UsbDevice, ...] | None:
    """Every USB device, hubs too; None where one cannot be placed: a list with a gap would deny what is there.

    The device's own class, keyboards and roles are not told.
    """
    if any(_PORT.match(device.kernel_name) is None for device in devices):
        return None
    found = {device.kernel_name: device for device in devices}
    if len(found) < len(devices):
        return None
    parts: dict[str, list[NodeDevice]] = defaultdict(list)
    for interface in interfaces:
        if _INTERFACE.match(interface.kernel_name):
            parts[(interface.path or "").split("/")[-2]].append(interface)
    block, net = _by_port(disks, disk_of), _by_port(cards, interface_of)
    return tuple(
        _device(found[port], parts[port], tuple(block.get(port, ())), tuple(net.get(port, ())))
        for port in sorted(found, key=_place)
    )


def _place(port: str) -> list[int]:
    """A root hub before what is plugged into it, port 2 before port 10."""
    return [int(part) for part in re.findall(r"[0-9]+", port)]


def _device(
    device: NodeDevice, interfaces: list[NodeDevice], disks: tuple[str, ...], cards: tuple[str, ...]
) -> UsbDevice:
    told, way = device.capability, [part for part in (device.path or "").split("/") if is_address(part)]
    classes = tuple(map(_class, interfaces))
    return UsbDevice(
        port=device.kernel_name,
        busnum=_within(told.findtext("bus"), "bus"),
        devnum=_within(told.findtext("device"), "device"),
        vendor_id=matched(attribute(told, "vendor", "id"), _ID),
        product_id=matched(attribute(told, "product", "id"), _ID),
        vendor=line(told.findtext("vendor")),
        product=line(told.findtext("product")),
        interface_classes=tuple(c for c in classes if c is not None) if None not in classes else None,
        controller=way[-1] if way else None,
        drivers=tuple(sorted({i.driver for i in interfaces if i.driver})),
        block_devices=disks,
        network_interfaces=cards,
    )


def _class(interface: NodeDevice) -> str | None:
    """Class, subclass and protocol, which libvirt writes in decimal, as six digits."""
    codes = [number(interface.capability.findtext(name)) for name in _CODES]
    written = [f"{code:02x}" for code in codes if code is not None and code <= 0xFF]
    return "".join(written) if len(written) == len(_CODES) else None


def _within(text: str | None, what: str) -> int | None:
    found = number(text)
    return found if found is not None and 1 <= found <= _MOST[what] else None


def _by_port(devices: Iterable[NodeDevice], name_of: Callable[[NodeDevice], str | None]) -> dict[str, list[str]]:
    """What hangs on USB devices, by the port of the nearest one."""
    owned: dict[str, list[str]] = defaultdict(list)
    for device in devices:
        ports = [part for part in (device.path or "").split("/") if _BELOW_HUB.match(part)]
        if ports and is_on_usb(device) and (name := name_of(device)) is not None:
            owned[ports[-1]].append(name)
    return {port: sorted(names) for port, names in owned.items()}

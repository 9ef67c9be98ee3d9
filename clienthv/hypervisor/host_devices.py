"""Devices of the host that a domain hands over: as libvirt has them, and past it by arguments for QEMU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from clienthv.model.domain import HostDevice
from clienthv.model.values import PciAddress

_ADDRESS: Final = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([01][0-9a-fA-F])\.([0-7])\Z")
_MOST: Final = 4096
_HEX: Final = re.compile(r"(0[xX])?[0-9a-fA-F]{1,8}\Z")


def attribute(element: Any, path: str, name: str) -> str | None:
    """An attribute of the first element at a path; None where there is none."""
    found = element.find(path)
    return found.get(name) if found is not None else None


def number(text: str | None) -> int | None:
    """A number as libvirt writes it; None for what is none, or absurd."""
    text = (text or "").strip()
    if text.isascii() and text.isdecimal() and len(text) < 14:
        return int(text)
    if _HEX.match(text) and text[:2].lower() == "0x":
        return int(text, 16)
    return None


def source_of(element: Any) -> str | None:
    """What a device's source names, whichever attribute its type has for it."""
    source = element.find("source")
    if source is None:
        return None
    for key in ("file", "dev", "dir", "network", "bridge", "path", "socket", "mount"):
        if value := source.get(key):
            return str(value)
    if volume := source.get("volume"):
        return f"{source.get('pool', '')}/{volume}"
    if source.get("protocol"):
        return f"{source.get('protocol')}:{source.get('name', '')}"
    return None


def optional(source: Any) -> bool:
    """Whether a VM starts without it (libvirt, formatdomain, ``startupPolicy``)."""
    return source is not None and source.get("startupPolicy", "mandatory") != "mandatory"


def defined(devices: Any) -> Iterator[HostDevice]:
    """The devices of the host that a domain names in libvirt's own words."""
    for element in devices.iterfind("hostdev"):
        source = element.find("source")
        kind = element.get("type", "") if element.get("mode", "subsystem") == "subsystem" else element.get("mode", "")
        named = attribute(element, "source/address", "uuid") or source_of(element) or _scsi(source) or _port(source)
        rom = element.find("rom")
        yield HostDevice(
            type=kind,
            address=_address_of(element) if kind == "pci" else None,
            ids=_ids(source),
            source=named,
            optional=optional(source),
            transient=_is_transient(element),
            as_gpu=kind == "pci" and rom is not None and bool(rom.get("file")),
        )
    for element in devices.iterfind("interface[@type='hostdev']"):
        yield HostDevice(type="pci", address=_address_of(element), interface=True, transient=_is_transient(element))
    for element in devices.iterfind("disk[@type='nvme']"):
        yield HostDevice(type="pci", address=_address_of(element))


def _is_transient(element: Any) -> bool:
    return attribute(element, "teaming", "type") == "transient"


def _address_of(element: Any) -> str | None:
    place = element.find("source/address")
    if place is None:
        return None
    parts = [_part(place, name) for name in ("domain", "bus", "slot", "function")]
    if parts[1] is None or parts[2] is None:
        return None
    domain, bus, slot, function = (part or 0 for part in parts)
    if bus > 0xFF or slot > 0x1F or function > 7:
        return None
    return str(PciAddress(domain, bus, slot, function))


def _part(place: Any, name: str) -> int | None:
    text = place.get(name)
    return found if (found := number(text)) is not None else _hexadecimal(text)


def _hexadecimal(text: str | None) -> int | None:
    return int(text, 16) if text is not None and _HEX.match(text) else None


def _ids(source: Any) -> str | None:
    """A USB device's ids as clienthv writes them, 046d:c52b."""
    if source is None:
        return None
    vendor = _hexadecimal(attribute(source, "vendor", "id"))
    product = _hexadecimal(attribute(source, "product", "id"))
    return f"{vendor:04x}:{product:04x}" if vendor is not None and product is not None else None


def _port(source: Any) -> str | None:
    """A USB device by where it is plugged in, as lsusb counts."""
    place = source.find("address") if source is not None else None
    if place is None or place.get("device") is None:
        return None
    return f"bus {place.get('bus', '?')} device {place.get('device')}"


def _scsi(source: Any) -> str | None:
    return attribute(source, "adapter", "name") if source is not None else None


def handed_over(arguments: tuple[str, ...]) -> Iterator[HostDevice]:
    """The PCI functions that arguments hand over, in QEMU's short form or in JSON."""
    for argument in arguments:
        found = _properties(argument)
        if found.get("driver") not in ("vfio-pci", "vfio-pci-nohotplug"):
            continue
        if (address := _address(found.get("host") or found.get("sysfsdev", "").rpartition("/")[2])) is not None:
            gpu = found.get("x-vga") in ("on", "true") or "romfile" in found
            yield HostDevice(type="pci", address=address, as_gpu=gpu, past_libvirt=True)


def _properties(argument: str) -> dict[str, str]:
    """The driver and properties of a device argument; empty for what is none."""
    if len(argument) > _MOST:
        return {}
    if argument.startswith("{"):
        try:
            told = json.loads(argument)
        except (ValueError, RecursionError):
            return {}
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in told.items()}
    driver, _, rest = argument.partition(",")
    pairs = (part.partition("=") for part in rest.split(","))
    return {name: value for name, _, value in pairs if name} | {"driver": driver.removeprefix("driver=")}


def _address(text: str) -> str | None:
    match = _ADDRESS.match(text)
    if match is None:
        return None
    domain, bus, slot, function = (int(part or "0", 16) for part in match.groups())
    return str(PciAddress(domain, bus, slot, function))

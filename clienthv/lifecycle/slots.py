"""Where the guest sees its devices: PCI slots carried over from the last definition to the next.

libvirt gives out slots in the order of the definition (libvirt, src/qemu/qemu_domain_address.c). A device more or less
would move those behind it, and to Windows a moved network card is a new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from lxml import etree

from clienthv.lifecycle.remembered import parse

SPARE: Final = 4
"""Ports that stay free: for a graphics card with its sound, and two more devices."""


def carry_over(old: str, new: str) -> str:
    """The new definition with the PCI controllers and slots of the old one; as it is where the machine differs.

    What is only in the new one gets a free slot from libvirt.
    """
    before, after = parse(old), parse(new)
    devices = after.find("devices")
    if devices is None or _machine(before) != _machine(after) or devices.find("controller[@type='pci']") is not None:
        return new
    places = {key: address for key, device in _keyed(before) if (address := _slot(device)) is not None}
    for key, device in _keyed(after):
        if key in places and _slot(device) is None:
            device.append(places[key])
    for controller in before.iterfind("devices/controller[@type='pci']"):
        for alias in controller.iterfind("alias"):
            controller.remove(alias)
        devices.append(controller)
    return str(etree.tostring(after, encoding="unicode")) + "\n"


def with_spare_ports(xml: str) -> str | None:
    """A definition, as libvirt keeps it, with ``SPARE`` free ports for what is attached later; None where it has them.

    On q35 a device is plugged into a root port of its own, and there are as many as there are devices, and one more
    (libvirt, docs/pci-hotplug).
    """
    root = parse(xml)
    devices = root.find("devices")
    if _machine(root) != "q35" or devices is None:
        return None
    used = {int(address.get("bus", "0"), 0) for address in devices.iterfind("*/address[@type='pci']")}
    ports = [int(c.get("index", "0")) for c in devices.iterfind("controller[@model='pcie-root-port']")]
    missing = SPARE - sum(index not in used for index in ports)
    for _ in range(missing):
        etree.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    return str(etree.tostring(root, encoding="unicode")) + "\n" if missing > 0 else None


def _machine(root: Any) -> str | None:
    """The kind of machine without its version: slots of a q35 mean nothing to an i440FX."""
    name = root.find("os/type")
    machine = name.get("machine", "") if name is not None else ""
    return "q35" if "q35" in machine else "pc" if machine == "pc" or "i440fx" in machine else machine


def _slot(device: Any) -> Any:
    return device.find("address[@type='pci']")


def _type(device: Any) -> str:
    """The type, where a guest sees it: what a virtual network card is plugged into, it does not."""
    kind: str = device.get("type") or ""
    return "virtual" if device.tag == "interface" and kind != "hostdev" else kind


def _keyed(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every device with what it is to the guest, and its number among those that are the same."""
    seen: Counter[tuple[str, ...]] = Counter()
    for device in root.iterfind("devices/*"):
        if device.tag == "controller" and device.get("type") == "pci":
            continue
        model, target = device.find("model"), device.find("target")
        what = (
            device.tag,
            _type(device),
            device.get("model") or (model.get("type") or model.get("name") or "" if model is not None else ""),
            target.get("bus") or "" if target is not None and device.tag == "disk" else "",
        )
        seen[what] += 1
        yield (*what, str(seen[what])), device

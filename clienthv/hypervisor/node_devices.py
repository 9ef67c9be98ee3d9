"""libvirt's node devices (libvirt, "Node devices XML format") as the PCI functions and USB devices of a host document.

Where a device hangs is told by its sysfs path, or by the chain of its parents where libvirt names no path. What libvirt
does not tell stays None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from clienthv.errors import HostError
from clienthv.hypervisor.device_xml import (
    NodeDevice,
    attribute,
    disk_of,
    interface_of,
    is_on_usb,
    is_up,
    matched,
    parse_device,
)
from clienthv.hypervisor.documents import address, address_of, is_address, line, number
from clienthv.hypervisor.node_usb import usb_devices
from clienthv.model.host import Machine, PciFunction, SrIov
from clienthv.model.network import Card
from clienthv.model.particulars import MDEV_TYPE_PATTERN, Mdev, MdevType, Particulars
from clienthv.model.usb import UsbDevice

MOST_DEVICES: Final = 1 << 18
_FARTHEST: Final = 64  # devices on the way from the root; a PCI hierarchy has 256 buses, and real ones a handful deep
_CLASS: Final = re.compile(r"0x([0-9a-fA-F]{6})\Z")
_ID: Final = re.compile(r"0x([0-9a-fA-F]{4})\Z")
_NODE: Final = re.compile(r"[A-Za-z0-9_.:!@+-]{1,128}\Z")
_MDEV_TYPE: Final = re.compile(MDEV_TYPE_PATTERN)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_DISPLAY: Final = "03"  # PCI Code and ID Assignment Specification: base class 03, display controllers
_NVME: Final = "0108"
_MULTIPATH: Final = "/nvme-subsystem/"


class Devices(NamedTuple):
    """What node devices tell of a PC. ``usb`` is None where one has no port; ``odd`` counts what made no sense."""

    machine: Machine
    pci: tuple[PciFunction, ...]
    usb: tuple[UsbDevice, ...] | None
    cards: tuple[Card, ...]
    odd: int


def read_devices(xmls: Iterable[str]) -> Devices:
    """All of a PC's node devices, each a document of its own. What makes no sense is left out and counted."""
    reading = _Reading()
    for xml in xmls:
        reading.add(xml)
    reading.place()
    pci = tuple(sorted((reading.function(d, a) for a, d in reading.functions.items()), key=lambda f: f.place))
    usb = usb_devices(reading.of("usb_device"), reading.of("usb"), reading.of("net"), reading.of("storage"))
    return Devices(_machine(reading.of("system")), pci, usb, tuple(reading.cards()), reading.odd)


@dataclass(slots=True)
class _Reading:
    """The devices by name, those of each kind, and the PCI functions by address."""

    by_name: dict[str, NodeDevice] = field(default_factory=dict)
    by_kind: dict[str, list[NodeDevice]] = field(default_factory=dict)
    functions: dict[str, NodeDevice] = field(default_factory=dict)
    address_of: dict[str, str] = field(default_factory=dict)
    hanging: dict[tuple[str, str], list[NodeDevice]] = field(default_factory=dict)
    odd: int = 0

    def add(self, xml: str) -> None:
        """Take one document."""
        try:
            device = parse_device(xml)
        except HostError:
            self.odd += 1
            return
        if device is None:
            return
        if not _NODE.match(device.name) or device.name in self.by_name or len(self.by_name) >= MOST_DEVICES:
            self.odd += 1
            return
        self.by_name[device.name] = device

    def place(self) -> None:
        """Find the functions' addresses, and what hangs on each."""
        for device in sorted(self.by_name.values(), key=lambda d: d.order):
            self.by_kind.setdefault(device.kind, []).append(device)
        for device in self.of("pci"):
            here = address(*(number(device.capability.findtext(n)) for n in ("domain", "bus", "slot", "function")))
            if here is None or here in self.functions:
                self.odd += 1
                continue
            self.functions[here] = device
            self.address_of[device.name] = here
        for kind in ("net", "storage", "drm", "mdev"):
            for device in self.of(kind):
                way = self.way(device)
                if way:
                    self.hanging.setdefault((kind, way[-1]), []).append(device)

    def of(self, kind: str) -> list[NodeDevice]:
        """The devices of one kind, in the order of their paths."""
        return self.by_kind.get(kind, [])

    def way(self, device: NodeDevice) -> tuple[str, ...] | None:
        """The PCI functions from the root to a device, itself included; None where its parents are not all known."""
        if device.path is not None:
            return tuple(part for part in device.path.split("/") if is_address(part))
        found: list[str] = []
        for _ in range(_FARTHEST):
            if device.name in self.address_of:
                found.insert(0, self.address_of[device.name])
            if device.parent in (None, "computer"):
                return tuple(found)
            above = self.by_name.get(device.parent or "")
            if above is None:
                return None
            device = above
        return None

    def function(self, device: NodeDevice, here: str) -> PciFunction:
        """One PCI function. A virtual function's, too."""
        told = device.capability
        way = self.way(device)
        class_code = matched(told.findtext("class"), _CLASS)
        cards, nodes = self._drm(here, "primary"), self._drm(here, "render")
        group, numa = told.find("iommuGroup"), told.find("numa")
        return PciFunction(
            address=here,
            class_code=class_code,
            vendor_id=matched(attribute(told, "vendor", "id"), _ID),
            device_id=matched(attribute(told, "product", "id"), _ID),
            vendor=line(told.findtext("vendor")),
            device=line(told.findtext("product")),
            driver=device.driver,
            iommu_group=number(group.get("number")) if group is not None else None,
            numa_node=number(numa.get("node")) if numa is not None else None,
            sriov=self._sriov(told, here),
            physfn=_first_address(told.find("capability[@type='phys_function']")),
            bridge_path=way[:-1] if way and way[-1] == here else None,
            drm_card=cards[0] if cards else None,
            render_node=nodes[0] if nodes else None,
            interfaces=tuple(n for d in self.hanging.get(("net", here), ()) if (n := interface_of(d)) is not None),
            block_devices=self._disks(here, class_code),
            particulars=Particulars(
                mdev_types=_mdev_types(told) if (class_code or "").startswith(_DISPLAY) else None,
                mdevs=self._mdevs(here) or None,
            ),
        )

    def _drm(self, here: str, kind: str) -> list[str]:
        """The DRM devices of a function: ``primary`` are cards, ``render`` are render nodes; a USB display is neither.

        Source: libvirt, src/conf/node_device_conf.c (virNodeDevDRM).
        """
        found = (d for d in self.hanging.get(("drm", here), ()) if not is_on_usb(d))
        names = (d.kernel_name or d.name.removeprefix("drm_") for d in found if d.capability.findtext("type") == kind)
        return [name for name in names if re.fullmatch(r"card[0-9]{1,4}|renderD[0-9]{1,4}", name)]

    def _disks(self, here: str, class_code: str | None) -> tuple[str, ...] | None:
        """The whole disks of a function. Which NVMe function carries a multipath disk, libvirt does not tell."""
        found = sorted(n for d in self.hanging.get(("storage", here), ()) if (n := disk_of(d)) is not None)
        multipath = any(_MULTIPATH in (d.path or "") for d in self.of("storage"))
        return None if not found and multipath and (class_code or _NVME)[:4] == _NVME else tuple(found)

    def _sriov(self, told: Any, here: str) -> SrIov | None:
        """A physical function's virtual ones. Old libvirts have the element for cards without any, and no number."""
        element = told.find("capability[@type='virt_functions']")
        if element is None or (element.get("maxCount") is None and element.find("address") is None):
            return None
        functions = [address_of(e) for e in element.iterfind("address")]
        links = [d for d in self.hanging.get(("net", here), ()) if interface_of(d) is not None]
        return SrIov(
            totalvfs=number(element.get("maxCount")),
            numvfs=len(functions),
            virtfns=tuple(a for a in functions if a is not None),
            link_up=is_up(links[0]) if links else None,
        )

    def _mdevs(self, here: str) -> tuple[Mdev, ...]:
        devices = self.hanging.get(("mdev", here), ())
        found = ((_mdev_uuid(d), attribute(d.capability, "type", "id") or "") for d in devices)
        return tuple(Mdev(uuid=uuid, type=kind) for uuid, kind in found if uuid and _MDEV_TYPE.match(kind))

    def cards(self) -> Iterator[Card]:
        """The network interfaces with hardware behind them."""
        for device in self.of("net"):
            name = interface_of(device)
            virtual = "/virtual/" in (device.path or "") or device.parent in (None, "computer")
            if name is not None and not virtual:
                kind = attribute(device.capability, "capability", "type")
                yield Card(name=name, up=is_up(device), wireless={"80211": True, "80203": False}.get(kind or ""))


def _machine(found: list[NodeDevice]) -> Machine:
    """The PC as DMI names it, without serial numbers and UUID."""
    if not found:
        return Machine()
    told = found[0].capability
    return Machine(vendor=line(told.findtext("hardware/vendor")), product=line(told.findtext("product")))


def _mdev_types(told: Any) -> tuple[MdevType, ...]:
    """What a function can be shared as; none where libvirt, which looks, names none."""
    types = told.iterfind("capability[@type='mdev_types']/type")
    return tuple(
        MdevType(
            id=kind.get("id"),
            name=line(kind.findtext("name")),
            available=number(kind.findtext("availableInstances")),
            api=(line(kind.findtext("deviceAPI")) or "")[:40] or None,
        )
        for kind in types
        if _MDEV_TYPE.match(kind.get("id") or "")
    )


def _mdev_uuid(device: NodeDevice) -> str | None:
    """By its element, which came with libvirt 7.3, else by its path."""
    text = (device.capability.findtext("uuid") or device.kernel_name).strip()
    return text if _UUID.match(text) else None


def _first_address(element: Any) -> str | None:
    found = element.find("address") if element is not None else None
    return address_of(found) if found is not None else None

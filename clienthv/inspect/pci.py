"""Every PCI function with its driver, group, reset methods, virtual functions and what hangs on it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from clienthv.inspect.files import Tree
from clienthv.inspect.holders import with_holders
from clienthv.inspect.iommu import read_reserved
from clienthv.inspect.machine import RELEASE
from clienthv.inspect.mdev import read_mdev_types, read_mdevs
from clienthv.inspect.pciids import DEVICE_PROPERTY, VENDOR_PROPERTY, look_up
from clienthv.inspect.places import addresses, is_address, is_on_usb, owner
from clienthv.inspect.resources import read_framebuffers, read_label, read_mmio64_mib
from clienthv.inspect.sriov import read_sriov
from clienthv.inspect.storage import Disks
from clienthv.inspect.udev import Device, devices, is_told
from clienthv.model.host import Connector, PciFunction
from clienthv.model.particulars import Mdev, Particulars

_ID: Final = re.compile(r"^0x([0-9a-fA-F]{4})\Z")
_CLASS: Final = re.compile(r"^0x([0-9a-fA-F]{6})\Z")
_REVISION: Final = re.compile(r"^0x([0-9a-fA-F]{2})\Z")
_ACCESS_PLATFORM: Final = 33  # include/uapi/linux/virtio_config.h, VIRTIO_F_ACCESS_PLATFORM
_T = TypeVar("_T")
_DISPLAY: Final = "03"  # PCI Code and ID Assignment Specification: base class 03, display controllers


@dataclass(slots=True)
class _Belongings:
    """What hangs on the PCI functions, by address; ``None`` where the tree does not tell."""

    interfaces: dict[str, list[str]] | None = None
    disks: dict[str, list[str]] | None = None
    cards: dict[str, list[Device]] | None = None
    nodes: dict[str, list[Device]] = field(default_factory=dict)
    framebuffers: Mapping[str, str] | None = None
    mdevs: Mapping[str, tuple[Mdev, ...]] = field(default_factory=dict)


def read_functions(tree: Tree, disks: Disks) -> tuple[PciFunction, ...]:
    """Every PCI function, in address order.

    Files: Documentation/ABI/testing/sysfs-bus-pci. Names come from the udev database, else from the PCI ID list.
    """
    found = [d for d in devices(tree, "pci", (VENDOR_PROPERTY, DEVICE_PROPERTY)) if is_address(d.name)]
    belongings = _belongings(tree, disks)
    unique = {device.name: _function(tree, device, belongings) for device in found}
    functions = tuple(sorted(unique.values(), key=lambda f: f.place))
    if not any(f.driver for f in functions) and not tree.exists("/sys/bus/pci/drivers"):
        functions = tuple(msgspec.structs.replace(f, driver=None) for f in functions)  # a trimmed tree tells none
    return _named(with_holders(tree, functions))


def _function(tree: Tree, device: Device, belongings: _Belongings) -> PciFunction:
    here, address = device.path, device.name
    class_code = _matched(tree, f"{here}/class", _CLASS)
    card = next(iter((belongings.cards or {}).get(address, ())), None)
    node = next(iter(belongings.nodes.get(address, ())), None)
    interfaces = _of(belongings.interfaces, address)
    group = _number(tree.target(f"{here}/iommu_group"))
    held = belongings.framebuffers
    return PciFunction(
        address=address,
        class_code=class_code,
        vendor_id=_matched(tree, f"{here}/vendor", _ID),
        device_id=_matched(tree, f"{here}/device", _ID),
        subsystem_vendor_id=_matched(tree, f"{here}/subsystem_vendor", _ID),
        subsystem_device_id=_matched(tree, f"{here}/subsystem_device", _ID),
        vendor=device.properties.get(VENDOR_PROPERTY),
        device=device.properties.get(DEVICE_PROPERTY),
        revision=_matched(tree, f"{here}/revision", _REVISION),
        driver=tree.target(f"{here}/driver") or (None if tree.exists(f"{here}/driver") else ""),
        iommu_group=group,
        boot_vga=tree.switch(f"{here}/boot_vga"),
        reset_methods=_reset_methods(tree, here),
        numa_node=tree.number(f"{here}/numa_node"),
        sriov=read_sriov(tree, here, interfaces),
        physfn=_address(tree.target(f"{here}/physfn")),
        bridge_path=addresses(here)[:-1],
        drm_card=card.name if card else None,
        render_node=node.name if node else None,
        connectors=_connectors(tree, card, class_code) if belongings.cards is not None else None,
        interfaces=interfaces,
        block_devices=_of(belongings.disks, address),
        access_platform=_access_platform(tree, here),
        particulars=Particulars(
            reserved_memory=read_reserved(tree, group),
            mmio64_mib=read_mmio64_mib(tree, here),
            framebuffer=None if held is None else held.get(address, ""),
            firmware_label=read_label(tree, here),
            mdev_types=read_mdev_types(tree, here) if (class_code or "").startswith(_DISPLAY) else None,
            mdevs=belongings.mdevs.get(address),
        ),
    )


def _access_platform(tree: Tree, here: str) -> bool | None:
    """Bit 33 of the features that a virtio device and its driver agreed on (kernel, drivers/virtio/virtio.c).

    The balloon's driver always declines it (drivers/virtio/virtio_balloon.c), so there a 0 says nothing.
    """
    device = next((name for name in tree.names(here) or () if re.fullmatch(r"virtio[0-9]+", name)), None)
    features = tree.attribute(f"{here}/{device}/features") if device is not None else None
    if features is None or re.fullmatch(r"[01]{64,128}", features) is None:
        return None
    agreed = features[_ACCESS_PLATFORM] == "1"
    declines = tree.target(f"{here}/{device}/driver") == "virtio_balloon"
    return None if declines and not agreed else agreed


def _belongings(tree: Tree, disks: Disks) -> _Belongings:
    found = _Belongings(framebuffers=read_framebuffers(tree), mdevs=read_mdevs(tree))
    if is_told(tree, "net"):
        found.interfaces = _by_owner((d.path, d.name) for d in devices(tree, "net"))
    if is_told(tree, "block"):
        found.disks = disks.by_controller()
    if is_told(tree, "drm"):
        # A USB display adapter is a DRM device too, but not what its USB controller is.
        shown = [d for d in devices(tree, "drm") if not is_on_usb(d.path)]
        found.cards = _by_owner((d.path, d) for d in shown if re.fullmatch(r"card[0-9]+", d.name))
        found.nodes = _by_owner((d.path, d) for d in shown if re.fullmatch(r"renderD[0-9]+", d.name))
    return found


def _by_owner(found: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    """Things by the PCI function their path hangs on, in the order given."""
    owned: dict[str, list[_T]] = defaultdict(list)
    for path, thing in found:
        address = owner(path)
        if address is not None:
            owned[address].append(thing)
    return dict(owned)


def _of(owned: dict[str, list[str]] | None, address: str) -> tuple[str, ...] | None:
    return None if owned is None else tuple(owned.get(address, ()))


def _connectors(tree: Tree, card: Device | None, class_code: str | None) -> tuple[Connector, ...] | None:
    """A card's outputs. A display controller without a DRM driver has outputs that nobody can read."""
    if card is None:
        return None if class_code is None or class_code.startswith(_DISPLAY) else ()
    states = {"connected": True, "disconnected": False}
    return tuple(
        Connector(
            name=name.removeprefix(f"{card.name}-"),
            connected=states.get(tree.attribute(f"{card.path}/{name}/status") or ""),
        )
        for name in tree.names(card.path) or ()
        if name.startswith(f"{card.name}-")
    )


def _reset_methods(tree: Tree, here: str) -> tuple[str, ...] | None:
    """The ways to reset a function, best first (Documentation/ABI/testing/sysfs-bus-pci, reset_method).

    Since Linux 5.15 the file is there only for functions with any (drivers/pci/pci.c,
    pci_dev_reset_method_attr_is_visible), as is the older file ``reset``: both missing means that there is none.
    """
    text = tree.attribute(f"{here}/reset_method")
    if text is not None:
        return tuple(text.split())
    release = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", tree.attribute(RELEASE) or "")
    tells = release is not None and (int(release[1]), int(release[2])) >= (5, 15)
    hidden = tree.exists(f"{here}/reset_method") is False and tree.exists(f"{here}/reset") is False
    return () if tells and hidden and tree.exists(f"{here}/vendor") else None


def _matched(tree: Tree, inside: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.match(tree.attribute(inside) or "")
    return match.group(1).lower() if match else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None


def _address(text: str | None) -> str | None:
    return text if text is not None and is_address(text) else None


def _named(functions: tuple[PciFunction, ...]) -> tuple[PciFunction, ...]:
    """The functions, named by the PCI ID list where the udev database is silent: no udevd runs in containers."""
    ids = {(f.vendor_id, f.device_id) for f in functions if f.vendor_id and f.device_id and not (f.vendor and f.device)}
    names = look_up(ids)
    return tuple(_with_names(f, names.get((f.vendor_id or "", f.device_id or ""), (None, None))) for f in functions)


def _with_names(function: PciFunction, names: tuple[str | None, str | None]) -> PciFunction:
    vendor, device = function.vendor or names[0], function.device or names[1]
    if (vendor, device) == (function.vendor, function.device):
        return function
    return msgspec.structs.replace(function, vendor=vendor, device=device)

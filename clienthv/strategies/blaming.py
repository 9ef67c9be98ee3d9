"""Which decisions of a plan a start failed of: what is not tried again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from clienthv.model import faults
from clienthv.model.faults import Fault
from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Plan, Strategy
from clienthv.model.usb import UsbDevice
from clienthv.strategies.frame import Failed

_ADDRESS: Final = re.compile(r"\b(?:[0-9a-f]{4,8}:)[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]\b")
_INTERFACE: Final = re.compile(r"\bPF '([^']{1,15})'|\binterface '?([^' ]{1,15})'?")
_GROUP: Final = re.compile(r"/dev/vfio/([0-9]{1,6})\b")
_LONGEST: Final = 300  # characters; libvirt's longest sentences have two hundred
_USB_IDS: Final = re.compile(r"\b(?:0x)?([0-9a-f]{4}):(?:0x)?([0-9a-f]{4})\b")
# As QEMU, libvirt's two messages, and the device's file have it: bus, device number.
_USB_PLACE: Final = re.compile(
    r"host usb device (\d{1,3}):(\d{1,3})\b|bus:(\d{1,3}) device:(\d{1,3})\b|USB device (\d{3}):(\d{3})\b|"
    r"/dev/bus/usb/(\d{3})/(\d{3})\b"
)


class Blamed(NamedTuple):
    """What is not tried again: decisions, and what the host refused, by address or by size of page."""

    failed: tuple[Failed, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.failed or self.refused)


def blame(fault: str | None, text: str, hint: str | None, plan: Plan, host: Host) -> Blamed:
    """What a failure is laid to, in the words of a person; nothing where no other way would help.

    ``text`` is what libvirt or QEMU said, with the addresses and names that tell one device from another.
    """
    words = f"it could not be started with: {faults.said(text)[:_LONGEST]}"
    if fault == Fault.HUGEPAGES and plan.extras and plan.extras.hugepages_kib:
        return Blamed(refused=((str(plan.extras.hugepages_kib), words),))
    if fault == Fault.PHYSICAL_FUNCTION:
        cards = dict.fromkeys(_cards(text, plan, host))
        return Blamed(refused=tuple((card, words) for card in cards))
    rule = _RULES.get(fault or "")
    decisions = tuple(rule("\n".join(faults.serious(text)), plan, host)) if rule is not None else ()
    return Blamed(failed=tuple(Failed(decision=d, words=words, fix=hint) for d in decisions))


def _passed(plan: Plan) -> list[Decision]:
    return [d for d in plan.decisions if d.strategy in HOST_DEVICES and d.functions]


def _function(text: str, plan: Plan, host: Host) -> Iterator[Decision]:
    """The decisions with the function that the text names, or with its group; where none is named, the only one."""
    named = set(_ADDRESS.findall(text))
    groups = {host.by_address[a].iommu_group for a in named if a in host.by_address} - {None}
    groups |= {int(number) for number in _GROUP.findall(text)}
    passed = _passed(plan)
    hit = [d for d in passed if named.intersection(d.functions)]
    near = [d for d in passed if groups & {host.by_address[a].iommu_group for a in d.functions if a in host.by_address}]
    yield from hit or near or (passed if len(passed) == 1 else ())


def _named_or_all(text: str, plan: Plan, host: Host) -> Iterator[Decision]:
    """The decisions that the text names, by function or group; what names none is about all that is handed over."""
    yield from tuple(_function(text, plan, host)) or _passed(plan)


def _all_passed(_: str, plan: Plan, __: Host) -> Iterator[Decision]:
    yield from _passed(plan)


def _cards(text: str, plan: Plan, host: Host) -> Iterator[str]:
    """The physical functions behind virtual ones: the one whose interface or function is named, or all."""
    of = [d.virtual_function.physfn for d in plan.decisions if d.virtual_function is not None]
    names = {name for pair in _INTERFACE.findall(text) for name in pair if name}
    named = [a for a in of if a in host.by_address and names.intersection(host.by_address[a].interfaces or ())]
    yield from named or of


def _usb(text: str, plan: Plan, host: Host) -> Iterator[Decision]:
    """The devices at a place on the bus that the text names, else those of its ids, else all."""
    numbers = {tuple(int(n) for n in found if n) for found in _USB_PLACE.findall(text)}
    at = [d for d in host.usb or () if (d.busnum, d.devnum) in numbers]
    there = [d for d in plan.all_of(Kind.USB_DEVICE) if d.device is not None]
    named = {f"{vendor}:{product}" for vendor, product in _USB_IDS.findall(text)}
    placed = [d for d in there if any(_means(d.device or "", device) for device in at)]
    yield from placed or [d for d in there if any(ids in (d.device or "") for ids in named)] or there


def _means(name: str, device: UsbDevice) -> bool:
    ids, _, port = name.partition("@")
    return ids == f"{device.vendor_id}:{device.product_id}" and port in ("", device.port)


def _of(kind: Kind, *strategies: Strategy) -> Callable[[str, Plan, Host], Iterator[Decision]]:
    def rule(_: str, plan: Plan, __: Host) -> Iterator[Decision]:
        decision = plan.of(kind)
        if decision.strategy in strategies:
            yield decision

    return rule


_RULES: Final[dict[str, Callable[[str, Plan, Host], Iterator[Decision]]]] = {
    Fault.FUNCTION: _function,
    Fault.VFIO: _named_or_all,
    Fault.MEMLOCK: _all_passed,
    Fault.MDEV: _of(Kind.GPU, Strategy.MDEV),
    Fault.USB: _usb,
    Fault.TPM: _of(Kind.TPM, Strategy.PASSTHROUGH, Strategy.EMULATED),
    Fault.RENDER_NODE: _of(Kind.GPU, Strategy.PARAVIRTUAL_3D),
    Fault.NETWORK: _of(Kind.NIC, Strategy.PARAVIRTUAL, Strategy.EMULATED),
    Fault.EVDEV: _of(Kind.INPUT, Strategy.PASSTHROUGH),
    Fault.KVM: _of(Kind.CPU, Strategy.HARDWARE_VIRTUALIZATION),
    Fault.FIRMWARE: _of(Kind.FIRMWARE, Strategy.UEFI_SECURE_BOOT, Strategy.UEFI),
}

"""Devices of the host: whether the target has the same, one that the same driver drives, another, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clienthv.model.domain import HostDevice
from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction
from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.model.values import PciAddress
from clienthv.portability import today
from clienthv.portability.subject import Findings, Subject, Target, changes, stops_live, unknown, warns

_NAMES: Final = {
    Kind.GPU: "graphics card",
    Kind.NIC: "network card",
    Kind.DISK: "storage controller",
    Kind.AUDIO: "sound card",
    Kind.USB: "USB controller",
}


def findings(subject: Subject, target: Target, functions: Mapping[str, PciFunction]) -> Findings:
    """What becomes of each device of the host that a definition hands over, one finding for each card."""
    if subject.domain is None:
        return
    seen: set[str] = set()
    for device in subject.domain.host_devices:
        if device.address is not None:
            slot = PciAddress.parse(device.address).slot
            if slot not in seen:
                seen.add(slot)
                yield from _function(device, subject, target, functions)
        elif device.type == "usb":
            yield from _usb(device, target)
        elif device.type == "mdev":
            yield stops_live(
                Code.HOST_DEVICE_NONE, device.source or "mdev", "a mediated device does not move with a running guest"
            )
            yield changes(
                Code.HOST_DEVICE_UNKNOWN, device.source or "mdev", "it was made on that PC, by its UUID", None, Kind.GPU
            )
        else:
            named = f"{device.type} {device.source or ''}".strip()
            yield stops_live(Code.HOST_DEVICE_UNKNOWN, named, "a device of the host does not move with a running guest")
            yield changes(Code.HOST_DEVICE_UNKNOWN, named, "a device of the PC below it, which clienthv does not plan")


def _function(device: HostDevice, subject: Subject, target: Target, functions: Mapping[str, PciFunction]) -> Findings:
    address = device.address or ""
    function = functions.get(address)
    kind = today.kind_of(function, device, subject.domain) if subject.domain is not None else None
    what = f"{function.label} ({address})" if function is not None else address
    yield stops_live(
        Code.HOST_DEVICE_SAME, what, "libvirt does not move a running guest with a PCI device of the host", device=None
    )
    if not target.host.pci:
        yield unknown(
            Code.HOST_DEVICE_UNKNOWN, what, f"{target.called} does not tell which devices it has", device=kind
        )
    elif function is None or function.vendor_id is None:
        yield from _unknown_function(address, kind, target)
    else:
        yield from _compared(function, what, kind, target)


def _unknown_function(address: str, kind: Kind | None, target: Target) -> Findings:
    named = f"most likely a {_NAMES[kind]}" if kind in _NAMES else "something"
    there = target.host.by_address.get(address)
    instead = f"at that address {target.called} has {there.label}" if there else f"{target.called} has nothing there"
    yield changes(
        Code.HOST_DEVICE_UNKNOWN,
        address,
        f"{named} of a PC that is not known here; {instead}",
        "give the document of the PC that it runs on: --from FILE (clienthv inspect --save FILE, there)",
        kind,
    )


def _compared(function: PciFunction, what: str, kind: Kind | None, target: Target) -> Findings:
    same = [f for f in target.host.pci if same_model(f, function)]
    if same:
        where = ", ".join(f.address for f in same[:3])
        yield warns(Code.HOST_DEVICE_SAME, what, f"{target.called} has the same model, at {where}", device=kind)
        return
    of_class = [f for f in target.host.pci if f.base_class and f.base_class == function.base_class and not f.is_bridge]
    alike = [f for f in of_class if f.vendor_id == function.vendor_id and _drivers_agree(f, function)]
    if alike:
        yield changes(
            Code.HOST_DEVICE_SAME_DRIVER,
            what,
            f"{target.called} has {alike[0].label} ({alike[0].address}): another model, maybe for the same driver",
            device=kind,
        )
    elif of_class:
        shown = ", ".join(f"{f.label} ({f.address})" for f in of_class[:2])
        yield changes(
            Code.HOST_DEVICE_OTHER, what, f"{target.called} has {shown}: the guest needs another driver", device=kind
        )
    else:
        named = _NAMES.get(kind, "such device") if kind is not None else "such device"
        yield changes(Code.HOST_DEVICE_NONE, what, f"{target.called} has no {named}", device=kind)


def same_model(one: PciFunction, other: PciFunction) -> bool:
    """Whether two functions are the same product: the same ids, those of the card's maker too where both are known."""
    if one.vendor_id is None or (one.vendor_id, one.device_id) != (other.vendor_id, other.device_id):
        return False
    ours, theirs = one.subsystem_vendor_id, other.subsystem_vendor_id
    if ours is None or theirs is None:
        return True
    return (ours, one.subsystem_device_id) == (theirs, other.subsystem_device_id)


def _drivers_agree(one: PciFunction, other: PciFunction) -> bool:
    """Whether nothing speaks against one driver for both: Linux names the same one, or holds one for guests."""
    names = {f.driver for f in (one, other) if f.driver and f.driver not in HELD_FOR_GUESTS}
    return len(names) < 2


def _usb(device: HostDevice, target: Target) -> Findings:
    what = device.ids or device.source or "a USB device"
    there = target.host.usb
    if device.ids is None or there is None:
        yield unknown(Code.USB_DEVICE, what, f"nobody can tell whether {target.called} has it plugged in")
    elif not any(f"{d.vendor_id}:{d.product_id}" == device.ids for d in there):
        tell = warns if device.optional else changes
        yield tell(
            Code.USB_DEVICE,
            what,
            f"{target.called} has no such USB device plugged in, without which a start fails",
            "plug it in there; or startupPolicy='optional' lets the VM start without",
        )
    yield warns(Code.USB_DEVICE, what, "a running guest that moves sees it pulled out and plugged in again")


def functions_of(host: Host | None) -> Mapping[str, PciFunction]:
    """The functions of a PC by address; none of one that is not known."""
    return host.by_address if host is not None else {}

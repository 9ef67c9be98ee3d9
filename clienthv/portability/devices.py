"""Devices of the host: whether the target has the same, one that the same driver drives, another, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from clienthv.model.domain import DomainFacts, HostDevice
from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction
from clienthv.model.plan import Kind
from clienthv.model.portability import Code, Finding
from clienthv.model.profile import Profile
from clienthv.model.values import PciAddress
from clienthv.portability import today
from clienthv.portability.subject import Findings, Subject, Target, changes, info, stops_live, unknown, warns

_NAMES: Final = {
    Kind.GPU: "graphics card",
    Kind.NIC: "network card",
    Kind.DISK: "storage controller",
    Kind.AUDIO: "sound card",
    Kind.USB: "USB controller",
}
_SELECTED: Final = (Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB)
_SHOWN: Final = 6
_READ_IT: Final = "run clienthv inspect --save on that PC"


def findings(subject: Subject, target: Target, functions: Mapping[str, PciFunction]) -> Findings:
    """What becomes of each device of the host that a definition hands over, one finding for each card."""
    domain = subject.domain
    if domain is None:
        return
    yield from _while_it_runs(domain, functions)
    seen: set[str] = set()
    for device in domain.host_devices:
        if device.address is not None:
            slot = PciAddress.parse(device.address).slot
            if slot not in seen:
                seen.add(slot)
                yield from _function(device, subject, target, functions)
        elif device.type == "usb":
            yield from _usb(device, target)
        elif device.type == "mdev":
            yield from _mediated(device, target)
        else:
            named = f"{device.type} {device.source or ''}".strip()
            yield changes(
                Code.HOST_DEVICE_UNKNOWN,
                named or "a device",
                f"a device of the PC below it, which clienthv does not plan: {target.called} must have it by that name",
                "give it anew there, or take <hostdev> out of the definition",
            )


def _while_it_runs(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> Findings:
    """A function that is handed over does not move, unless it was made for that; a card that is pulled out may.

    Source: libvirt, formatdomain, "Teaming a virtio/hostdev NIC pair".
    """
    staying = [d for d in domain.host_devices if d.type != "usb" and not d.transient]
    if staying:
        named = [d.address or _called(d, functions) if len(staying) > 2 else _called(d, functions) for d in staying]
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        yield stops_live(
            Code.NOT_MIGRATABLE,
            ", ".join(named[:_SHOWN]) + more,
            "a running guest that has a device of the host does not move: its state cannot be sent",
            "shut the guest down first; or detach the device while it moves",
        )
    for device in domain.host_devices:
        if device.transient:
            why = "libvirt pulls it out for a move, and the card that it is teamed with goes on"
            yield info(Code.NOT_MIGRATABLE, _called(device, functions), why)


def _called(device: HostDevice, functions: Mapping[str, PciFunction]) -> str:
    if device.address is None:
        return f"{device.type} {device.source or ''}".strip() or "a device"
    function = functions.get(device.address)
    return f"{function.label} ({device.address})" if function is not None else device.address


def _function(device: HostDevice, subject: Subject, target: Target, functions: Mapping[str, PciFunction]) -> Findings:
    address = device.address or ""
    function = functions.get(address)
    kind = today.kind_of(function, device, subject.domain) if subject.domain is not None else None
    what = _called(device, functions)
    if not target.host.pci:
        yield unknown(
            Code.HOST_DEVICE_UNKNOWN, what, f"{target.called} does not tell which devices it has", _READ_IT, device=kind
        )
    elif subject.source is not None and function is None:
        yield changes(
            Code.HOST_DEVICE_UNKNOWN,
            what,
            f"{subject.source.name}, which the definition is said to come from, has no such device",
            "was it taken out, or is --from the document of another PC?",
            kind,
        )
    elif function is None or function.vendor_id is None:
        yield from _unknown_function(what, kind, target, address, known=function is not None)
    else:
        yield from _compared(function, what, kind, subject, target)


def _unknown_function(what: str, kind: Kind | None, target: Target, address: str, *, known: bool) -> Findings:
    named = f"most likely a {_NAMES[kind]}" if kind in _NAMES else "a device"
    there = target.host.by_address.get(address)
    instead = f"at that address {target.called} has {there.label}" if there else f"{target.called} has nothing there"
    yield changes(
        Code.HOST_DEVICE_UNKNOWN,
        what,
        f"{named} whose ids its PC's document does not tell; {instead}"
        if known
        else f"{named} of a PC that is not known here; {instead}",
        "give the document of the PC that it runs on: --from FILE (clienthv inspect --save FILE, there)",
        kind,
    )


def _compared(function: PciFunction, what: str, kind: Kind | None, subject: Subject, target: Target) -> Findings:
    if function.base_class.startswith("01") and subject.source != target.host:
        yield changes(
            Code.DISK_OF_THE_HOST,
            what,
            "what is on the disks of this controller stays on its PC",
            "put the disk into the other PC; or copy it into an image: qemu-img convert -O qcow2 /dev/... IMAGE",
            Kind.DISK,
        )
    same = [f for f in target.host.pci if same_model(f, function)]
    if same:
        yield _same(function, same, what, kind, subject, target)
        return
    of_class = [f for f in target.host.pci if f.base_class and f.base_class == function.base_class and not f.is_bridge]
    alike = [f for f in of_class if f.vendor_id == function.vendor_id and _drivers_agree(f, function)]
    named = _NAMES.get(kind, "device of its kind") if kind is not None else "device of its kind"
    if alike:
        yield changes(
            Code.HOST_DEVICE_SAME_DRIVER,
            what,
            f"{target.called} has {alike[0].label} ({alike[0].address}): another model, maybe for the same driver",
            f"hand that over instead, and look whether the guest's driver knows it: {alike[0].address}",
            kind,
        )
    elif of_class:
        shown = ", ".join(f"{f.label} ({f.address})" for f in of_class[:2])
        yield changes(
            Code.HOST_DEVICE_OTHER,
            what,
            f"{target.called} has {shown}: the guest needs another driver",
            "install that driver in the guest first; or let it use a virtual device there",
            kind,
        )
    else:
        yield changes(
            Code.HOST_DEVICE_NONE,
            what,
            f"{target.called} has no {named}",
            "put one in; or let the guest use a virtual device there",
            kind,
        )


def _same(
    function: PciFunction, same: list[PciFunction], what: str, kind: Kind | None, subject: Subject, target: Target
) -> Finding:
    """The same model; a definition that clienthv did not make names the address, and is started as it is."""
    where = ", ".join(f.address for f in same[:3])
    if subject.ours or any(f.address == function.address for f in same):
        return info(Code.HOST_DEVICE_SAME, what, f"{target.called} has the same model, at {where}", device=kind)
    return changes(
        Code.HOST_DEVICE_SAME,
        what,
        f"{target.called} has the same model at another address, {where}",
        f"name that address in <hostdev>: {same[0].address}",
        kind,
    )


def _mediated(device: HostDevice, target: Target) -> Findings:
    """A part of a GPU: made on its PC, under a UUID that only that PC knows."""
    what = f"mediated device {device.source or ''}".strip()
    types = [(f, f.known.mdev_types) for f in target.host.pci if f.base_class.startswith("03")]
    sharing = [f for f, known in types if known]
    if sharing:
        yield changes(
            Code.HOST_DEVICE_OTHER,
            what,
            f"it was made on its PC; {target.called} can share {sharing[0].label} ({sharing[0].address})",
            "make one there of the same type (mdevctl define), and give its UUID",
            Kind.GPU,
        )
    elif not target.host.pci or any(known is None for _, known in types):
        yield changes(
            Code.HOST_DEVICE_UNKNOWN,
            what,
            f"it was made on its PC, and {target.called} does not tell whether a GPU can be shared there",
            "run clienthv inspect --save on that PC",
            Kind.GPU,
        )
    else:
        yield changes(
            Code.HOST_DEVICE_NONE,
            what,
            f"no GPU of {target.called} can be shared as mediated devices",
            "let the guest use a virtual GPU there",
            Kind.GPU,
        )


def alike(subject: Subject, target: Target, kind: Kind) -> frozenset[str]:
    """The functions of a target that are what a definition has of one kind; none where its PC is not known.

    Of a kind that is selected by address, it is the one that is selected.
    """
    here = functions_of(subject.source)
    wanted = [here[address] for address in _of_kind(subject.domain, here, kind)]
    if kind in _SELECTED and wanted and (chosen := _chosen(wanted[0], target.host)) is not None:
        return frozenset({chosen})
    return frozenset(f.address for f in target.host.pci for w in wanted if same_model(f, w))


def _of_kind(domain: DomainFacts | None, functions: Mapping[str, PciFunction], kind: Kind) -> Iterator[str]:
    if domain is None:
        return
    for device in domain.host_devices:
        function = functions.get(device.address or "")
        if function is None or today.kind_of(function, device, domain) is not kind:
            continue
        if not today.goes_with_a_card(device, domain, functions):
            yield function.address


def selecting(profile: Profile, domain: DomainFacts, source: Host, host: Host) -> Profile:
    """A profile that names a host's devices where its definition names the same models of its own PC.

    Graphics cards are not named: which one a host can do without is for the planner, or a person, to say.
    """
    here, tables = functions_of(source), {}
    for kind in _SELECTED:
        wanted = next(_of_kind(domain, here, kind), None)
        chosen = _chosen(here[wanted], host) if wanted is not None else None
        if chosen is not None:
            tables[kind.value] = msgspec.structs.replace(profile.device(kind), select=(chosen,))
    if not tables:
        return profile
    return msgspec.structs.replace(profile, devices=msgspec.structs.replace(profile.devices, **tables))


def _chosen(function: PciFunction, host: Host) -> str | None:
    """The function of a host that stands for one of another PC: the same model, at the same address if there is."""
    same = [f.address for f in host.pci if same_model(f, function)]
    return function.address if function.address in same else next(iter(same), None)


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
    """A USB device by its ids. One that moves is closed here and opened there (QEMU, hw/usb/host-libusb.c)."""
    what = device.ids or device.source or "a USB device"
    there = target.host.usb
    if device.ids is None:
        yield changes(
            Code.USB_DEVICE,
            what,
            f"the definition names it by where it is plugged in, which is something else on {target.called}",
            "name it by its ids: <vendor id=.../> and <product id=.../>",
        )
    elif there is None:
        yield unknown(
            Code.USB_DEVICE,
            what,
            f"nobody can tell whether {target.called} has it plugged in",
            "plug it in there" + ("" if device.optional else "; startupPolicy='optional' lets the VM start without"),
        )
    elif any(f"{d.vendor_id}:{d.product_id}" == device.ids for d in there):
        yield warns(
            Code.USB_DEVICE,
            what,
            f"{target.called} has one: to a running guest that moves it is pulled out and plugged in again",
            "stop using it in the guest while it moves",
        )
    elif device.optional:
        yield warns(
            Code.USB_DEVICE,
            what,
            f"{target.called} has no such USB device plugged in: the VM starts without it",
            "plug it in there",
        )
    else:
        yield changes(
            Code.USB_DEVICE,
            what,
            f"{target.called} has no such USB device plugged in, without which a start fails",
            "plug it in there; or startupPolicy='optional' lets the VM start without",
        )


def functions_of(host: Host | None) -> Mapping[str, PciFunction]:
    """The functions of a PC by address; none of one that is not known."""
    return host.by_address if host is not None else {}

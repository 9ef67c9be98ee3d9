"""What follows from the choices: the changes they make on the host, and what a user should know of them."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model.host import HELD_FOR_GUESTS, Host, RoleName
from clienthv.model.plan import HOST_DEVICES, Decision, HostChange, Kind, Reason, Strategy, Warned
from clienthv.model.usb import UsbName
from clienthv.strategies import (
    cautions,
    evdev,
    graphics_cards,
    mdev,
    networks,
    others,
    reset,
    size,
    system,
    usb_device,
    vf_changes,
)
from clienthv.strategies.frame import Question


def host_changes(decisions: tuple[Decision, ...], question: Question) -> Iterator[HostChange]:
    """What a virtual function's card needs; then each function that changes its driver while the VM runs, once."""
    host = question.host
    for decision in decisions:
        yield from vf_changes.changes(decision, host, question.profile)
        yield from mdev.changes(decision)
    addresses = sorted({a for d in decisions if d.strategy in HOST_DEVICES for a in d.functions})
    for address in addresses:
        driver = host.by_address[address].driver if address in host.by_address else ""
        if driver in HELD_FOR_GUESTS:
            continue
        was = driver or ("no driver" if driver == "" else "its present driver")
        yield HostChange(
            action="bind-vfio",
            device=address,
            detail=f"{address} goes from {was} to vfio-pci while the VM runs",
            undo=f"libvirt gives it back to {was} when the VM stops (managed='yes')",
        )


def usb_changes(decisions: tuple[Decision, ...], host: Host) -> Iterator[HostChange]:
    """Each single USB device that leaves its drivers. QEMU detaches and attaches them (QEMU, hw/usb/host-libusb.c)."""
    for decision in decisions:
        if decision.kind is Kind.USB_DEVICE and decision.device is not None and not decision.functions:
            device = usb_device.meant(UsbName.parse(decision.device), host)
            drivers = " and ".join((device.drivers if device is not None else None) or ()) or "the host"
            yield HostChange(
                action="take-usb",
                device=decision.device,
                detail=f"{decision.device} goes from {drivers} to QEMU while the VM runs",
                undo=f"QEMU gives it back to {drivers} when the VM stops",
            )


def warnings(decisions: tuple[Decision, ...], question: Question, vcpus: int, memory_mib: int) -> Iterator[Warned]:
    """What a user should know of a plan; ``memory_mib`` is in MiB."""
    host = question.host
    yield from size.warnings(host, question.profile, question.guest, vcpus, memory_mib)
    yield from system.warnings(question.guest, decisions, vcpus, memory_mib)
    yield from cautions.stack_unknown(host)
    yield from others.warnings(decisions, host)
    for decision in decisions:
        if (better := next((r for r in decision.rejected if r.reason is Reason.KEPT), None)) is not None:
            yield Warned(
                code="better-possible",
                detail=f"{decision.name} stays {decision.strategy}, as its guest knows it; {better.strategy} "
                + (f"({better.device}) " if better.device else "")
                + f"is possible: {better.fix}",
            )
    passed = [d for d in decisions if d.strategy in HOST_DEVICES and d.functions and d.kind is not Kind.USB_DEVICE]
    if passed:
        yield from cautions.interrupts_unknown(host, ", ".join(d.name for d in passed))
    cpu = next(d for d in decisions if d.kind is Kind.CPU)
    if cpu.strategy is Strategy.HARDWARE_VIRTUALIZATION and host.cpu.nested_paging is False:
        yield Warned(
            code="no-nested-paging",
            detail="cpu0: the processor has neither EPT nor NPT, or its firmware hides them (/proc/cpuinfo), so KVM "
            "shadows the guest's page tables, which makes it slow",
        )
    if cpu.strategy is Strategy.HARDWARE_VIRTUALIZATION and host.kvm.usable is None:
        yield Warned(code="kvm-unknown", detail="cpu0: hangs on KVM, whose state the host document does not hold")
    for decision in decisions:
        yield from networks.warnings(decision)
        yield from evdev.warnings(decision)
    for decision in passed:
        yield from _risks(decision, question)
    for decision in decisions:
        if decision.kind is Kind.USB_DEVICE and decision.device is not None:
            yield from _usb_risks(decision, UsbName.parse(decision.device), question)


def _risks(decision: Decision, question: Question) -> Iterator[Warned]:
    """What a user should know of a device that moves although something speaks against it, or might."""
    host, wanted = question.host, question.profile.device(decision.kind)
    yield from _card_risks(decision, question)
    for address in decision.functions:
        for role in wanted.allow if address in wanted.select else ():
            if (uses := _uses(role, address, question)) is not None:
                yield Warned(
                    code="allowed-risk",
                    detail=f"{decision.name}: the host {uses} {address} ({role}) and loses it "
                    "while the VM runs, as the profile allows",
                )
        # A virtual function that is not there yet is no graphics card's.
        if (function := host.by_address.get(address)) is not None:
            yield from cautions.usb_with_gpu(host, function, decision.name)
    yield from cautions.unsafe_interrupts(host, decision.name)
    yield from cautions.acs_override(host, decision.name)
    yield from graphics_cards.warnings(decision, question)
    yield from reset.warnings(decision.functions, host, decision.name)


def _usb_risks(decision: Decision, name: UsbName, question: Question) -> Iterator[Warned]:
    for what in usb_device.given_up(usb_device.handed_over(name, question), name, question):
        yield Warned(
            code="allowed-risk",
            detail=f"{decision.name}: {what}; it goes while the VM runs, as the profile names its port",
        )


def _card_risks(decision: Decision, question: Question) -> Iterator[Warned]:
    """What making or trusting a virtual function does to its card's own network."""
    of = decision.virtual_function
    card = question.host.by_address.get(of.physfn) if of is not None else None
    if of is None or card is None:
        return
    if decision.kind is Kind.DISK:
        yield Warned(
            code="shares-namespaces",
            detail=f"{decision.name}: the guest writes the namespaces that {card.address} shows the host too; "
            "mount none of them on the host while the VM runs",
        )
    if decision.kind is Kind.NIC and of.created and not (card.sriov is not None and card.sriov.link_up is False):
        uses = {_uses(r, card.address, question) for r in (RoleName.DEFAULT_ROUTE, RoleName.NETWORK)}
        whose = "the host's network runs over it" if "uses" in uses else "the host may use it" if any(uses) else ""
        yield Warned(
            code="pf-link-interrupted",
            detail=f"{decision.name}: most drivers restart the link of {card.address} when virtual functions are "
            "created or removed; it is away for some seconds" + (f", and {whose}" if whose else ""),
        )
    if of.created and card.driver is None:
        yield Warned(
            code="vf-driver-unknown",
            detail=f"{decision.name}: hangs on the driver of {card.address}, which the host document does not name",
        )
    if decision.kind is Kind.NIC and question.profile.device(Kind.NIC).trust:
        yield Warned(
            code="vf-trusted",
            detail=f"{decision.name}: the guest may take any MAC address and receive what others on the port are sent",
        )


def _uses(role: RoleName, address: str, question: Question) -> str | None:
    """Whether the host uses a function in a role: "uses", "may use", or None."""
    if any(r.role is role for r in question.host.roles_by_address.get(address, ())):
        return "uses"
    boot = question.boot_displays.get(address)
    if role is RoleName.BOOT_DISPLAY:
        return None if boot is None else {True: "uses", None: "may use", False: None}[boot.drives]
    return None if question.host.read(role) else "may use"

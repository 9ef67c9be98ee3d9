"""What the VMs that are there have of the host, running or defined, clienthv's or not.

What a running VM has cannot be had. What a stopped one is defined with can, but that VM will then not start, or do
without: it is taken last, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Reason, Rejected, Warned
from clienthv.model.usb import UsbDevice
from clienthv.strategies.frame import Option, reject


def runs_with(option: Option, address: str, host: Host) -> Rejected | None:
    """An objection to a function that a running VM has."""
    names = ", ".join(vm.name for vm in host.vms if vm.running and address in vm.functions)
    held = (host.stack.guest_functions if host.stack is not None else None) or ()
    if not names and address not in held:
        return None
    return reject(
        option,
        Reason.USED_BY_VM,
        f"{address} is in " + (f"VM {names}, which runs" if names else f"a VM that runs on {host.name}"),
        f"stop that VM (clienthv down {names})" if names else "stop that VM (clienthv list names them)",
    )


def runs_with_usb(option: Option, device: UsbDevice, host: Host) -> Rejected | None:
    """An objection to a USB device that a running VM has."""
    known = {device.ids}
    if device.busnum is not None and device.devnum is not None:
        place = f" {device.busnum} {device.devnum}"
        known |= {device.ids + place, place}  # a domain names it by ids, by its place, or by both
    names = ", ".join(vm.name for vm in host.vms if vm.running and known & set(vm.usb))
    if not names:
        return None
    detail = f"{device.ids} on port {device.port} is in VM {names}, which runs"
    return reject(option, Reason.USED_BY_VM, detail, f"stop that VM (clienthv down {names})")


def runs_with_tpm(option: Option, host: Host) -> Rejected | None:
    """An objection to the TPM that a running VM has: it is opened once (QEMU, docs/specs/tpm.rst)."""
    names = ", ".join(vm.name for vm in host.vms if vm.running and vm.tpm)
    if not names:
        return None
    detail = f"the host's TPM is in VM {names}, which runs"
    return reject(option, Reason.USED_BY_VM, detail, f"stop that VM (clienthv down {names})")


def defined_last(options: Iterable[Option], host: Host) -> tuple[Option, ...]:
    """The options of a rung in their order, those last that a stopped VM is defined with."""
    return tuple(sorted(options, key=lambda option: bool(_defined_with(option.functions, host))))


def _defined_with(functions: Iterable[str], host: Host) -> list[str]:
    moving = frozenset(functions)
    return [vm.name for vm in host.vms if not vm.running and not moving.isdisjoint(vm.functions)]


def warnings(decisions: tuple[Decision, ...], host: Host) -> Iterator[Warned]:
    """The devices that stopped VMs are defined with too."""
    for decision in decisions:
        moves = decision.strategy in HOST_DEVICES and decision.kind is not Kind.USB_DEVICE
        if moves and (names := _defined_with(decision.functions, host)):
            yield Warned(
                code="defined-for-other-vm",
                detail=f"{decision.name}: {decision.device} is in the definition of VM {', '.join(names)} too, which "
                "does not run; they cannot run together",
            )


def promised_mib(host: Host) -> int:
    """MiB that running VMs may still take of what the kernel calls available."""
    return sum(
        max(vm.memory_mib - vm.resident_mib, 0)
        for vm in host.vms
        if vm.running and vm.memory_mib is not None and vm.resident_mib is not None
    )

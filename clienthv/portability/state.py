"""What a VM has beyond its definition, and what its definition says past libvirt."""

from __future__ import annotations

import shlex
from typing import Final

from clienthv.model.domain import DomainFacts
from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.portability.subject import Findings, Subject, Target, changes, info, stops_live, warns

_NVME: Final = "nvme"
_UNSENDABLE: Final = {
    "crypto virtio": "a virtio crypto device",
    "iommu amd": "a virtual IOMMU of AMD's kind",
    "serial usb-serial": "a USB serial port",
    "sound usb": "a USB sound card",
    "interface usb-net": "a USB network card",
    "input passthrough virtio": "an input device of the host (virtio-input-host)",
}
"""What QEMU 10.0 refuses with ``--only-migratable``."""
_READERS: Final = ("smartcard host", "smartcard host-certificates")
_SHOWN: Final = 6


def findings(subject: Subject, target: Target) -> Findings:
    """Snapshots, saved states, what was plugged in, arguments for QEMU, and devices that QEMU cannot send."""
    state, domain = subject.state, subject.domain
    if state.snapshots:
        yield stops_live(
            Code.SNAPSHOTS,
            f"{state.snapshots} snapshot{'s' if state.snapshots > 1 else ''}",
            "libvirt does not move a running VM that has snapshots, and what it knows of them stays behind",
            "virsh snapshot-delete NAME --metadata forgets them; those inside qcow2 images stay usable",
        )
    if state.managed_save:
        yield stops_live(
            Code.MANAGED_SAVE,
            "a saved state",
            "the guest was put to sleep by libvirt (managed save), and wakes on this PC alone",
            f"start and shut it down first; or virsh managedsave-remove {shlex.quote(subject.name)} drops it",
        )
    if state.plugged:
        yield warns(
            Code.PLUGGED_IN,
            ", ".join(state.plugged[:_SHOWN]),
            "plugged into the running guest and not in its definition: gone after the next start, there as here",
            f"virsh attach-device {shlex.quote(subject.name)} FILE --config keeps it",
        )
    if domain is None:
        return
    if not subject.ours:
        yield info(
            Code.NOT_OURS,
            subject.name,
            "not made by clienthv: what it would become there is planned from its definition alone",
        )
    yield from _arguments(domain.arguments, domain.overrides)
    yield from _labels(domain, target)
    for device in domain.others:
        if device in _READERS:
            yield warns(
                Code.HOST_FILE,
                device,
                f"a smart card by the reader or certificates of the PC below it: {target.called} must have the same",
                "<smartcard mode='passthrough' type='spicevmc'/> uses the reader of whoever looks at the screen",
            )
    if any(controller.startswith("nvme") for controller in domain.controllers) or any(
        disk.bus == _NVME for disk in domain.disks
    ):
        yield stops_live(
            Code.NOT_MIGRATABLE,
            "an emulated NVMe controller",
            "QEMU's nvme cannot be sent to another PC while it runs (hw/nvme/ctrl.c, unmigratable)",
            "virtio disks can",
            Kind.DISK,
        )
    yield from _unsendable(domain)
    shared = [name for name in domain.shared_memory if name not in domain.server_memory]
    if shared:
        yield stops_live(
            Code.SHARED_MEMORY,
            ", ".join(shared),
            "libvirt does not move a running VM with shared memory (shmem, which Looking Glass uses)",
            "detach it first, if the guest can do without",
        )


def _unsendable(domain: DomainFacts) -> Findings:
    """Devices whose state QEMU cannot send, whatever PC it is to (QEMU, ``unmigratable`` in their VMState)."""
    named = {
        *domain.others,
        *(f"sound {model}" for model in domain.sounds),
        *(f"interface {nic.model}" for nic in domain.nics),
        *(f"input {words}" for words in domain.inputs),
    }
    for device, words in _UNSENDABLE.items():
        if device in named:
            yield stops_live(
                Code.NOT_MIGRATABLE,
                words,
                "QEMU cannot send it to another PC while the guest runs",
                "shut the guest down first; or take it out of the definition",
            )


def _labels(domain: DomainFacts, target: Target) -> Findings:
    """Security drivers by name: a start fails where libvirt has them not (virSecurityManagerCheckModel).

    Where they are not told, that of file owners is there if libvirt runs as root, and else not
    (src/qemu/qemu_driver.c, qemuSecurityInit).
    """
    stack = target.host.stack
    told = stack.security_models or None if stack is not None else None
    for model in domain.security_models:
        if told is not None:
            is_there: bool | None = model in told
        else:
            is_there = stack.privileged if model == "dac" and stack is not None else None
        if is_there:
            continue
        is_missing = is_there is False
        tell = changes if is_missing else warns
        yield tell(
            Code.SECURITY_LABEL,
            model,
            f"libvirt of {target.called} {'has' if told else 'runs as a user, and has'} no such security driver: "
            "a start fails"
            if is_missing
            else f"the definition has a label of this security driver: a start fails where libvirt of {target.called} "
            "has it not",
            "leave <seclabel> out: libvirt makes labels of its own",
        )


def _arguments(arguments: tuple[str, ...], overrides: tuple[str, ...]) -> Findings:
    if not arguments and not overrides:
        return
    handed = [n for n, a in enumerate(arguments) if _hands_over(a)]
    for n in handed[:_SHOWN]:
        yield warns(
            Code.QEMU_ARGUMENTS,
            arguments[n][:80],
            "a device of the host, handed over past libvirt, which neither binds it nor gives it back",
            "<hostdev managed='yes'> does the same by libvirt",
        )
    words = {*handed, *(n - 1 for n in handed if n and arguments[n - 1] == "-device")}
    rest = [*(a for n, a in enumerate(arguments) if n not in words), *overrides]
    if rest:
        shown = " ".join(rest)
        yield warns(
            Code.QEMU_ARGUMENTS,
            shown if len(shown) <= 100 else shown[:99] + "…",
            "given to QEMU past libvirt: nobody can tell whether another QEMU takes them",
            "say in libvirt's own terms what can be said so",
        )


def _hands_over(argument: str) -> bool:
    """Whether it is a device argument for VFIO, in QEMU's short form or in JSON."""
    return argument.startswith("vfio-pci") or ('"vfio-pci' in argument and argument.startswith("{"))

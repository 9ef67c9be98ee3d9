"""What a VM has beyond its definition, and what its definition says past libvirt."""

from __future__ import annotations

from typing import Final

from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.portability.subject import Findings, Subject, Target, changes, info, stops_live, warns

_NVME: Final = "nvme"
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
            f"start and shut down {subject.name} first",
        )
    if state.plugged:
        yield warns(
            Code.PLUGGED_IN,
            ", ".join(state.plugged[:_SHOWN]),
            "plugged into the running guest and not in its definition: gone after the next start",
        )
    if domain is None:
        return
    if not subject.ours:
        yield info(
            Code.NOT_OURS,
            subject.name,
            "not made by clienthv: what it would become there is planned from its definition alone",
        )
    yield from _arguments(domain.arguments)
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
    if domain.shared_memory:
        yield stops_live(
            Code.SHARED_MEMORY,
            ", ".join(domain.shared_memory),
            "libvirt does not move a running VM with shared memory (shmem, which Looking Glass uses)",
            "detach it first, if the guest can do without",
        )


def _arguments(arguments: tuple[str, ...]) -> Findings:
    if not arguments:
        return
    handed = [a for a in arguments if a.startswith("vfio-pci")]
    for device in handed[:_SHOWN]:
        yield changes(
            Code.QEMU_ARGUMENTS,
            device[:80],
            "a device of the host, handed over past libvirt, which neither binds it nor gives it back",
            "<hostdev managed='yes'> does the same by libvirt",
            Kind.GPU if "x-vga" in device else None,
        )
    rest = [a for a in arguments if a not in handed]
    if rest:
        shown = " ".join(rest)
        yield warns(
            Code.QEMU_ARGUMENTS,
            shown if len(shown) <= 100 else shown[:99] + "…",
            "given to QEMU past libvirt: nobody can tell whether another QEMU takes them",
            "say in libvirt's own terms what can be said so",
        )

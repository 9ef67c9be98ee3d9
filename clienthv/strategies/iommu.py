"""What the IOMMU says against handing a PCI function to a guest: none, none that is on, or one that is gone around."""

from __future__ import annotations

from typing import Final

from clienthv.model.host import HELD_FOR_GUESTS, Host, Iommu, PciFunction
from clienthv.model.plan import Reason, Rejected
from clienthv.strategies.frame import Objections, Option, Question, reject

_VIRTIO: Final = "1af4"
_UNSAFE: Final = "vfio_iommu_type1.allow_unsafe_interrupts"


def objections(option: Option, question: Question, *, named: bool) -> Objections:
    """VFIO isolates by IOMMU groups and interrupt remapping (kernel, Documentation/driver-api/vfio.rst).

    ``named`` is whether the profile names the device itself.
    """
    iommu, host = question.host.iommu, question.host
    if iommu.enabled is not True:
        yield _without_iommu(option, host)
        return
    lone = [a for a in option.functions if host.by_address[a].iommu_group is None]
    if lone:
        known, names = iommu.groups is not None, ", ".join(lone)
        yield reject(
            option,
            Reason.NO_IOMMU_GROUP if known else Reason.IOMMU_GROUP_UNKNOWN,
            f"{names}: in no IOMMU group, so the IOMMU does not cover it"
            if known
            else f"{names}: the host document does not say which IOMMU group it is in",
            "look for the device in the kernel's messages (dmesg | grep -i iommu)"
            if known
            else "run clienthv inspect --save on that PC, or list its IOMMU groups",
        )
    yield from _reserved(option, host)
    if iommu.interrupt_remapping is False and not (named and iommu.unsafe_interrupts is True):
        yield _without_remapping(option, iommu, named=named)
    if iommu.acs_override and not named:
        yield reject(
            option,
            Reason.ACS_OVERRIDE,
            "the kernel runs with pcie_acs_override: groups look smaller than the isolation really is",
            f'accept the risk for this device alone: select = ["{option.device}"] in the profile',
        )
    capabilities = question.capabilities
    if capabilities is not None and "vfio" not in capabilities.pci_backends:
        yield reject(
            option,
            Reason.VFIO_UNAVAILABLE,
            "libvirt's domain capabilities offer no VFIO for PCI devices (hostdev pciBackend is empty)",
            "sudo modprobe vfio-pci",
        )


def _reserved(option: Option, host: Host) -> Objections:
    """The kernel gives VFIO no group with memory that firmware wants mapped one to one.

    Source: kernel, Documentation/ABI/testing/sysfs-kernel-iommu_groups (reserved_regions, type "direct"; that of
    graphics and USB is "direct-relaxable" and does no harm); drivers/iommu/iommu.c, require_direct.
    """
    moving = [host.by_address[a] for a in option.functions if a in host.by_address]
    held = [(f.address, f.known.reserved_memory) for f in moving if f.known.reserved_memory]
    if not held:
        return
    address, ranges = held[0]
    more = f" and {len(ranges) - 1} more" if len(ranges) > 1 else ""
    yield reject(
        option,
        Reason.RESERVED_MEMORY,
        f"{address}: firmware wants the memory {ranges[0]}{more} mapped one to one for its IOMMU group (type direct in "
        "reserved_regions), so the kernel refuses it to guests",
        'turn off "Pre-Boot DMA Protection" in the firmware setup or update the firmware, where it is AMD\'s'
        if host.iommu.kind == "amd-vi"
        else "none by software: the firmware's RMRR for this device has to go, by an update or a setting of it",
    )


def _without_remapping(option: Option, iommu: Iommu, *, named: bool) -> Rejected:
    """The kernel refuses VFIO then, unless told that it may be unsafe (kernel, drivers/vfio/vfio_iommu_type1.c)."""
    detail = "the IOMMU does not remap interrupts: a guest could send the host any interrupt"
    fix = "remove intremap=off from the kernel command line, or turn on x2APIC in the firmware setup"
    if named:
        known = iommu.unsafe_interrupts is False
        detail += f", {'which VFIO does not allow' if known else 'and whether VFIO allows that is unknown'}"
        fix += f"; unsafe: add {_UNSAFE}=1 to the kernel command line"
    elif iommu.unsafe_interrupts is True:
        fix += f'; unsafe: accept the risk for this device alone: select = ["{option.device}"] in the profile'
    return reject(option, Reason.NO_INTERRUPT_REMAPPING, detail, fix)


def _without_iommu(option: Option, host: Host) -> Rejected:
    iommu = host.iommu
    if iommu.enabled is None:
        return reject(
            option,
            Reason.IOMMU_UNKNOWN,
            "the host document does not say whether an IOMMU is active",
            "run clienthv inspect --save on that PC",
        )
    if iommu.acpi_table == "none":
        return reject(
            option,
            Reason.IOMMU_ABSENT,
            "the firmware describes no IOMMU (neither DMAR nor IVRS among the ACPI tables)",
            'turn on "VT-d" or "IOMMU" in the firmware setup, where the processor and board have it',
        )
    return reject(option, Reason.IOMMU_OFF, "no IOMMU group exists: the kernel has no IOMMU active", enable_iommu(host))


def enable_iommu(host: Host) -> str:
    """The smallest change that turns the IOMMU on (kernel, Documentation/admin-guide/kernel-parameters.txt).

    AMD-Vi is on by default and knows no ``amd_iommu=on``; it is off only by a parameter or in the firmware.
    """
    off = [p for p in host.iommu.parameters or () if p in {"iommu=off", "intel_iommu=off", "amd_iommu=off"}]
    if off:
        return f"remove {' '.join(off)} from the kernel command line"
    if host.iommu.acpi_table == "DMAR" or (host.iommu.acpi_table is None and host.cpu.vendor == "GenuineIntel"):
        also = "" if host.iommu.acpi_table == "DMAR" else ', and turn on "VT-d" in the firmware setup'
        return f"add intel_iommu=on to the kernel command line{also}"
    if host.cpu.vendor == "AuthenticAMD":
        return 'turn on "IOMMU" in the firmware setup; the kernel then uses it without a parameter'
    return 'turn on "VT-d" or "IOMMU" in the firmware setup'


def bypassed(option: Option, function: PciFunction) -> Objections:
    """A virtio device without VIRTIO_F_ACCESS_PLATFORM uses physical addresses: a guest's would be the host's memory.

    Source: virtio specification, "Reserved Feature Bits"; QEMU, hw/virtio/virtio-bus.c (iommu_platform).
    """
    if function.vendor_id != _VIRTIO or function.access_platform or function.driver in HELD_FOR_GUESTS:
        return
    known = function.access_platform is False
    yield reject(
        option,
        Reason.BYPASSES_IOMMU if known else Reason.IOMMU_BYPASS_UNKNOWN,
        f"{function.address} is a virtio device that reads and writes past the IOMMU: a guest would reach the memory "
        "of the host through it (no VIRTIO_F_ACCESS_PLATFORM)"
        if known
        else f"the host document does not say whether {function.address}, a virtio device, goes through the IOMMU",
        "iommu_platform=on for that device, on the machine below"
        if known
        else "run clienthv inspect on that PC while virtio-pci drives the device",
    )

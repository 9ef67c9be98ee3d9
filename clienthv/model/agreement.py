"""Whether two descriptions of one PC agree: what both know must be the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clienthv.model.host import Cpu, Host, PciFunction, SrIov
from clienthv.model.x86_64 import LEVELS, flags_of

_FUNCTION: Final = (
    "class_code", "vendor_id", "device_id", "driver", "iommu_group", "numa_node", "physfn", "bridge_path", "drm_card",
    "render_node", "interfaces", "block_devices",
)  # fmt: skip
_SRIOV: Final = ("totalvfs", "numvfs", "virtfns", "link_up")
_CPU: Final = (
    "architecture", "vendor", "sockets", "cores", "threads", "numa_nodes", "virtualization", "nested_paging",
    "hypervisor", "topology",
)  # fmt: skip
_USB: Final = (
    "busnum", "devnum", "vendor_id", "product_id", "interface_classes", "controller", "drivers", "block_devices",
    "network_interfaces",
)  # fmt: skip


def disagreements(one: Host, other: Host) -> Iterator[str]:
    """A sentence for each fact in which two descriptions of one PC differ; what one of them does not know is none.

    What changes from moment to moment, names from lists that differ, and verdicts of one user are left out.
    """
    yield from _compare("processor", one.cpu, other.cpu, _CPU)
    yield from _flags(one.cpu, other.cpu)
    yield from _compare("memory", one.memory, other.memory, ("total_mib",))
    yield from _compare("KVM", one.kvm, other.kvm, ("usable",))
    yield from _compare("IOMMU", one.iommu, other.iommu, ("kind", "enabled"))
    if one.pci and other.pci:
        yield from _places("PCI function", set(one.by_address), set(other.by_address))
        for address in sorted(one.by_address.keys() & other.by_address.keys()):
            yield from _functions(one.by_address[address], other.by_address[address])
    if one.usb is not None and other.usb is not None:
        yield from _places("USB device", set(one.usb_by_port), set(other.usb_by_port))
        for port in sorted(one.usb_by_port.keys() & other.usb_by_port.keys()):
            yield from _compare(f"USB device {port}", one.usb_by_port[port], other.usb_by_port[port], _USB)


def _functions(one: PciFunction, other: PciFunction) -> Iterator[str]:
    yield from _compare(one.address, one, other, _FUNCTION)
    if one.sriov is not None and other.sriov is not None:
        yield from _compare(f"{one.address}, SR-IOV", one.sriov, other.sriov, _SRIOV)
    elif _has_functions(one.sriov) or _has_functions(other.sriov):
        yield f"{one.address}: SR-IOV is {one.sriov} and {other.sriov}"


def _has_functions(sriov: SrIov | None) -> bool:
    """Whether there are virtual functions, or could be: a card without any need not be told to have SR-IOV."""
    return sriov is not None and bool(sriov.totalvfs or sriov.virtfns)


def _flags(one: Cpu, other: Cpu) -> Iterator[str]:
    """Of the processor's flags those of x86-64's levels: not every source has the others."""
    if one.flags is not None and other.flags is not None:
        for flag in flags_of(LEVELS[-1]):
            if (flag in one.flags) is not (flag in other.flags):
                yield f"processor: {flag} is among the flags of one alone"


def _places(what: str, one: set[str], other: set[str]) -> Iterator[str]:
    yield from (f"{what} {place} is only in the first" for place in sorted(one - other))
    yield from (f"{what} {place} is only in the second" for place in sorted(other - one))


def _compare(what: str, one: Any, other: Any, fields: tuple[str, ...]) -> Iterator[str]:
    for name in fields:
        first, second = getattr(one, name), getattr(other, name)
        if first is not None and second is not None and first != second:
            yield f"{what}: {name} is {first!r} and {second!r}"

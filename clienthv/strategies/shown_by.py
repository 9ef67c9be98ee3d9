"""Where a person finds the fact behind a reason: the file or command, and what it says there by the host document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction, RoleName
from clienthv.model.plan import Reason, Rejected, Strategy
from clienthv.strategies import screens

Facts = tuple[Evidence, ...]

_DOMCAPS: Final = "virsh domcapabilities"
_ROLES: Final = {
    Reason.BOOT_DISPLAY: (RoleName.BOOT_DISPLAY, "boot_vga"),
    Reason.CONNECTED_DISPLAY: (RoleName.CONNECTED_DISPLAY, "drm"),
    Reason.MOUNTED_DISK: (RoleName.MOUNTED_DISK, "block"),
    Reason.DEFAULT_ROUTE: (RoleName.DEFAULT_ROUTE, "net"),
    Reason.NETWORK_IN_USE: (RoleName.NETWORK, "net"),
    Reason.HOST_INPUT: (RoleName.INPUT, "usb"),
}
_UNREAD: Final = {
    Reason.BOOT_DISPLAY_UNKNOWN: "boot_vga",
    Reason.IDS_UNKNOWN: "vendor",
    Reason.IOMMU_GROUP_UNKNOWN: "iommu_group",
    Reason.VF_ADDRESS_UNKNOWN: "sriov_offset",
}
_OF_PLACES: Final = {
    Reason.MOUNTED_DISK_UNKNOWN: "/proc/self/mountinfo",
    Reason.NETWORK_UNKNOWN: "/proc/net/route",
    Reason.HOST_INPUT_UNKNOWN: "/proc/bus/input/devices",
    Reason.TPM_UNKNOWN: "/dev/tpm0",
    Reason.RENDER_NODE_UNKNOWN: "/dev/dri",
    Reason.EVENTS_UNKNOWN: "/dev/input/by-path",
    Reason.USB_UNKNOWN: "/sys/bus/usb/devices",
    Reason.NETWORKS_UNKNOWN: "virsh net-list --all",
}


def shown_by(rejected: Rejected, host: Host) -> Facts:
    """The facts behind one refusal; none where the reason is the profile's, the guest's or another VM's."""
    reason, device = rejected.reason, rejected.device or ""
    function = host.by_address.get(device)
    if reason in _PC:
        return _PC[reason](host)
    if reason in _OF_PLACES:
        return (Evidence(file=_OF_PLACES[reason], value="unknown"),)
    if reason is Reason.NOT_IN_QEMU:
        return _not_offered(rejected, host)
    if reason in _NETWORK:
        return _NETWORK[reason](device)
    if function is None:
        return ()
    if reason in _ROLES:
        return _role(reason, function, host)
    if reason in _UNREAD:
        return (_attribute(function, _UNREAD[reason], None),)
    return _FUNCTION[reason](function, host) if reason in _FUNCTION else ()


def said(sentences: Iterable[str], about: str = "") -> Facts:
    """Facts that were written as "FILE: value"; those with ``about`` in them alone."""
    pairs = (s.partition(": ") for s in sentences if about in s)
    return tuple(Evidence(file=file, value=value) for file, colon, value in pairs if colon and " " not in file)


def _value(known: object) -> str:
    return "unknown" if known is None else str(known)


def _attribute(function: PciFunction, name: str, known: object) -> Evidence:
    return Evidence(file=f"/sys/bus/pci/devices/{function.address}/{name}", value=_value(known))


def _flags(host: Host) -> Facts:
    shown = host.cpu.virtualization
    value = "unknown" if shown is None else "no vmx, no svm" if shown == "none" else shown
    return (Evidence(file="/proc/cpuinfo", value=f"flags: {value}"),)


def _all_flags(host: Host) -> Facts:
    known = host.cpu.flags
    return (Evidence(file="/proc/cpuinfo", value="unknown" if known is None else f"flags: {len(known)} of them"),)


def _kvm(host: Host) -> Facts:
    return said(host.kvm.evidence) or (Evidence(file="/dev/kvm", value=_present(host.kvm.device_present)),)


def _present(there: bool | None) -> str:
    return "unknown" if there is None else "present" if there else "absent"


def _iommu(host: Host) -> Facts:
    table, groups = host.iommu.acpi_table, host.iommu.groups
    return said(host.iommu.evidence) or (
        Evidence(file="/sys/firmware/acpi/tables", value=_value(table)),
        Evidence(file="/sys/kernel/iommu_groups", value="unknown" if groups is None else f"{groups} groups"),
    )


def _remapping(host: Host) -> Facts:
    found = [
        e for e in said(host.iommu.evidence) if "interrupts" in e.file or "ecap" in e.file or "intremap" in e.value
    ]
    return tuple(found) or (Evidence(file="/proc/interrupts", value="no chip named IR-..."),)


def _parameters(host: Host) -> Facts:
    return (Evidence(file="/proc/cmdline", value=" ".join(host.iommu.parameters or ()) or "unknown"),)


def _vfio(host: Host) -> Facts:
    offered = host.stack.capabilities if host.stack is not None else None
    backends = ", ".join(offered.pci_backends) if offered is not None else "unknown"
    return (Evidence(file=_DOMCAPS, value=f"hostdev pciBackend: {backends or 'none'}"),)


def _uri(host: Host) -> Facts:
    return (Evidence(file="virsh uri", value=_value(host.stack.uri if host.stack is not None else None)),)


def _render_nodes(host: Host) -> Facts:
    nodes = [f.render_node for f in screens.gpus_of(host) if f.render_node]
    return (Evidence(file="/dev/dri", value=", ".join(nodes) or "no renderD*"),)


def _tpm(host: Host) -> Facts:
    return (Evidence(file="/dev/tpm0", value=_present(host.tpm_device)),)


def _architecture(host: Host) -> Facts:
    return (Evidence(file="uname -m", value=host.cpu.architecture),)


def _mdev_types(host: Host) -> Facts:
    return tuple(
        _attribute(g, "mdev_supported_types", "absent" if g.known.mdev_types is not None else None)
        for g in screens.gpus_of(host)
    )


_PC: Final[dict[Reason, Callable[[Host], Facts]]] = {
    Reason.NO_HARDWARE_VIRTUALIZATION: _flags,
    Reason.VIRTUALIZATION_UNKNOWN: _flags,
    Reason.CPU_LEVEL_MISSING: _all_flags,
    Reason.CPU_LEVEL_UNKNOWN: _all_flags,
    Reason.KVM_NOT_USABLE: _kvm,
    Reason.ARCHITECTURE_DIFFERS: _architecture,
    Reason.IOMMU_ABSENT: _iommu,
    Reason.IOMMU_OFF: _iommu,
    Reason.IOMMU_UNKNOWN: _iommu,
    Reason.NO_INTERRUPT_REMAPPING: _remapping,
    Reason.ACS_OVERRIDE: _parameters,
    Reason.VFIO_UNAVAILABLE: _vfio,
    Reason.NO_PRIVILEGE: _uri,
    Reason.NO_RENDER_NODE: _render_nodes,
    Reason.NO_TPM_DEVICE: _tpm,
    Reason.NO_MDEV_TYPE: _mdev_types,
    Reason.MDEV_UNKNOWN: _mdev_types,
}

_NETWORK: Final[dict[Reason, Callable[[str], Facts]]] = {
    Reason.NO_PASST: lambda _: (Evidence(file="/usr/bin/passt", value="absent"),),
    Reason.NETWORK_INACTIVE: lambda d: (Evidence(file=f"virsh net-info {_name(d)}", value="Active: no"),),
    Reason.NO_NETWORK: lambda _: (Evidence(file="virsh net-list --all", value="absent"),),
    Reason.NO_BRIDGE: lambda d: (Evidence(file=f"/sys/class/net/{_name(d)}/bridge", value="absent"),),
    Reason.NO_INTERFACE: lambda d: (Evidence(file=f"/sys/class/net/{_name(d)}", value="absent"),),
    Reason.LINK_DOWN: lambda d: (Evidence(file=f"/sys/class/net/{_name(d)}/operstate", value="down"),),
    Reason.WIRELESS: lambda d: (Evidence(file=f"/sys/class/net/{_name(d)}/wireless", value="present"),),
}


def _name(device: str) -> str:
    return device.partition(":")[2] or device


def _role(reason: Reason, function: PciFunction, host: Host) -> Facts:
    role, attribute = _ROLES[reason]
    roles = [r for r in host.roles_by_address.get(function.address, ()) if r.role is role]
    shown = tuple(e for r in roles for e in said(r.evidence))
    known = None if function.boot_vga is None else int(function.boot_vga)
    return shown or (_attribute(function, attribute, known if attribute == "boot_vga" else "present"),)


def _group(function: PciFunction, host: Host) -> Facts:
    group = function.iommu_group
    members = host.by_group.get(group, ()) if group is not None else ()
    return (Evidence(file=f"/sys/kernel/iommu_groups/{group}/devices", value=", ".join(f.address for f in members)),)


def _driver(function: PciFunction, host: Host) -> Facts:
    driver = "unknown" if function.driver is None else function.driver or "absent"
    sriov = function.sriov
    more = () if sriov is None else (_attribute(function, "sriov_numvfs", sriov.numvfs),)
    return (_attribute(function, "driver", driver), *more)


def _held(function: PciFunction, host: Host) -> Facts:
    names = ", ".join((function.known.holders or ())[:5])
    opened = (Evidence(file="/proc/*/fd", value=f"open in {names}"),) if names else ()
    return (*_driver(function, host)[:1], *opened)


def _reserved(function: PciFunction, host: Host) -> Facts:
    ranges = function.known.reserved_memory or ("unknown",)
    file = f"/sys/kernel/iommu_groups/{function.iommu_group}/reserved_regions"
    return (Evidence(file=file, value=f"{ranges[0]} direct"),)


def _vfs(function: PciFunction, host: Host) -> Facts:
    sriov = function.sriov
    count = (
        sriov.numvfs if sriov is not None and sriov.numvfs is not None else host.virtual_functions.get(function.address)
    )
    return (_attribute(function, "sriov_numvfs", count),)


def _total(function: PciFunction, host: Host) -> Facts:
    return (_attribute(function, "sriov_totalvfs", function.sriov.totalvfs if function.sriov is not None else None),)


def _access(function: PciFunction, host: Host) -> Facts:
    shown = {True: "bit 33 is 1", False: "bit 33 is 0", None: None}[function.access_platform]
    return (_attribute(function, "virtio*/features", shown),)


def _instances(function: PciFunction, host: Host) -> Facts:
    return (_attribute(function, "mdev_supported_types/*/available_instances", 0),)


_FUNCTION: Final[dict[Reason, Callable[[PciFunction, Host], Facts]]] = {
    Reason.NO_IOMMU_GROUP: lambda f, _: (_attribute(f, "iommu_group", "absent"),),
    Reason.IOMMU_GROUP_STAYS: _group,
    Reason.RESERVED_MEMORY: _reserved,
    Reason.BYPASSES_IOMMU: _access,
    Reason.IOMMU_BYPASS_UNKNOWN: _access,
    Reason.IS_PHYSICAL_FUNCTION: _vfs,
    Reason.IN_USE: _held,
    Reason.NO_SRIOV: _total,
    Reason.NO_VF_CREATED: _driver,
    Reason.VF_NOT_READY: _driver,
    Reason.NO_PF_INTERFACE: lambda f, _: (_attribute(f, "net", "absent"),),
    Reason.MDEV_USED_UP: _instances,
    Reason.IS_PROCESSOR_GRAPHICS: lambda f, _: (_attribute(f, "class", f.class_code),),
}


def _not_offered(rejected: Rejected, host: Host) -> Facts:
    """What libvirt's domain capabilities say of the part that a strategy needs."""
    offered = host.stack.capabilities if host.stack is not None else None
    if offered is None:
        return (Evidence(file=_DOMCAPS, value="unknown"),)
    parts = {
        "firmware": offered.firmware, "video": offered.video_models, "graphics": offered.graphics,
        "tpm": offered.tpm_backends, "cpu": offered.cpu_modes, "disk": offered.disk_buses,
    }  # fmt: skip
    named = next((name for name, word in _WORDS if word in rejected.detail), "")
    part = {Strategy.UEFI: "firmware", Strategy.UEFI_SECURE_BOOT: "firmware"}.get(rejected.strategy, named)
    if not part:
        return ()
    secure = f", secure boot: {'yes' if offered.secure_boot else 'no'}" if part == "firmware" else ""
    return (Evidence(file=_DOMCAPS, value=f"{part}: {', '.join(parts[part]) or 'none'}{secure}"),)


_WORDS: Final = (
    ("graphics", "display"), ("video", "video models"), ("tpm", "TPM"), ("cpu", "CPU modes"), ("disk", "bus"),
)  # fmt: skip

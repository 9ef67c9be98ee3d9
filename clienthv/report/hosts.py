"""A host document as a summary."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model import values
from clienthv.model.host import DomainCapabilities, Host, PciFunction, Role, RoleName, Stack
from clienthv.model.usb import UsbDevice
from clienthv.model.x86_64 import level_of
from clienthv.report.style import Line, Part, marked
from clienthv.report.style import Role as Meaning

_ROLE_WORDS = {
    RoleName.BOOT_DISPLAY: "boot display",
    RoleName.CONNECTED_DISPLAY: "connected screens",
    RoleName.MOUNTED_DISK: "mounted disks",
    RoleName.DEFAULT_ROUTE: "default route",
    RoleName.NETWORK: "network in use",
    RoleName.INPUT: "keyboard and mouse",
}
_KVM = {True: ("usable", Meaning.GOOD), False: ("NOT usable", Meaning.BAD), None: ("unknown", None)}
_WIDTH = 22


def lines(host: Host) -> Iterator[str]:
    """The summary, section by section. Every fact that is not known is called unknown."""
    machine = " ".join(n for n in (host.machine.vendor, host.machine.product) if n)
    chassis = f" ({host.machine.chassis})" if host.machine.chassis else ""
    yield _row("PC", f"{machine or 'unknown'}{chassis}")
    yield _row("kernel", host.kernel.release or "unknown")
    yield from _cpu(host)
    yield from _iommu(host)
    yield from _stack(host.stack)
    yield ""
    yield Line(Part(f"The host itself uses ({len(host.roles)} roles):", Meaning.HEADING))
    yield from _roles(host)
    yield ""
    yield Line(Part(f"PCI functions ({len(host.pci)}):", Meaning.HEADING))
    yield from (_function(f, host) for f in sorted(host.pci, key=lambda f: f.place))
    yield ""
    yield from _usb(host)
    if host.unknown:
        yield ""
        yield Line(Part("Unknown:", Meaning.UNKNOWN))
        yield from (marked(f"  {sentence}", hang=4) for sentence in host.unknown)


def _row(name: str, text: str, meaning: Meaning | None = None) -> Line:
    whole = Meaning.UNKNOWN if text.startswith("unknown") else meaning
    return Line(f"{name:<{_WIDTH}}", marked(text, whole), hang=_WIDTH + 2 * text.startswith("- "))


def _yes(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _cpu(host: Host) -> Iterator[str]:
    cpu, kvm = host.cpu, host.kvm
    shape = ", ".join(
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in (
            (cpu.sockets, "socket"),
            (cpu.cores, "core"),
            (cpu.threads, "thread"),
            (cpu.numa_nodes, "NUMA node"),
        )
        if count is not None
    )
    yield _row("processor", f"{cpu.model or cpu.vendor or 'unknown'} ({shape or cpu.architecture})")
    memory = host.memory
    if memory.total_mib is not None:
        free = f", {values.format_mib(memory.available_mib)} available" if memory.available_mib is not None else ""
        yield _row("memory", f"{values.format_mib(memory.total_mib)}{free}")
    paging = {True: "yes", False: "no", None: "unknown"}[cpu.nested_paging]
    inside = {True: "; this PC is itself a VM", False: "", None: "; whether this PC is a VM: unknown"}[cpu.hypervisor]
    yield _row("level", (level_of(cpu.flags) or "below x86-64-v1") if cpu.flags is not None else "unknown")
    yield _row("virtualization", f"{cpu.virtualization or 'unknown'}, nested paging: {paging}{inside}")
    verdict, good = _KVM[kvm.usable]
    yield _row("KVM", verdict, good)
    yield from (_row("", f"- {sentence}") for sentence in kvm.evidence)


def _iommu(host: Host) -> Iterator[str]:
    iommu = host.iommu
    state = {True: "active", False: "not active", None: "unknown"}[iommu.enabled]
    yield _row(
        "IOMMU",
        f"{state}, kind: {iommu.kind or 'unknown'}, ACPI table: {iommu.acpi_table or 'unknown'}, "
        f"groups: {'unknown' if iommu.groups is None else iommu.groups}, "
        f"interrupt remapping: {_yes(iommu.interrupt_remapping)}, ACS override: {_yes(iommu.acs_override)}"
        + (", unsafe interrupts allowed" if iommu.unsafe_interrupts is True else ""),
    )
    if iommu.parameters:
        yield _row("", f"- kernel parameters: {' '.join(iommu.parameters)}")
    yield from (_row("", f"- {sentence}") for sentence in iommu.evidence)


def _stack(stack: Stack | None) -> Iterator[str]:
    if stack is None:
        yield _row("libvirt and QEMU", "unknown")
        return
    if stack.uri is None:
        yield _row("libvirt and QEMU", f"cannot be used: {stack.problem}", Meaning.BAD)
        return
    yield _row("libvirt and QEMU", f"libvirt {stack.libvirt_version}, QEMU {stack.qemu_version}, {stack.uri}")
    offered = stack.capabilities
    if offered is None:
        yield _row("", f"- what they offer is unknown: {stack.problem}")
        return
    yield _row("", f"- machine types: {len(offered.machine_types)}; firmware: {_firmware(offered)}")
    yield _row("", f"- video: {_all(offered.video_models)}; displays: {_all(offered.graphics)}")
    vfio = _all(offered.pci_backends) if offered.pci_backends else "none: PCI devices cannot be handed over"
    yield _row("", f"- host device backends: {vfio}; TPM: {_all(offered.tpm_backends)}")


def _firmware(offered: DomainCapabilities) -> str:
    if "efi" not in offered.firmware:
        return "BIOS"
    return "BIOS, UEFI with Secure Boot" if offered.secure_boot else "BIOS, UEFI"


def _all(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _roles(host: Host) -> Iterator[str]:
    for name in RoleName:
        found = [r for r in host.roles if r.role is name]
        if not host.read(name) and not found:
            yield _row(f"  {_ROLE_WORDS[name]}", "unknown")
        elif not found:
            yield _row(f"  {_ROLE_WORDS[name]}", "no PCI device")
        for role in found:
            yield _row(f"  {_ROLE_WORDS[name]}", _role(role, host))


def _role(role: Role, host: Host) -> str:
    return f"{role.address} {host.by_address[role.address].label} ({'; '.join(role.evidence)})"


def _function(function: PciFunction, host: Host) -> Line:
    return _used(f"  {function.address}  {_what(function, host)}", _uses(function, host), 43)


def about(function: PciFunction, host: Host) -> str:
    """IOMMU group, driver, ids, name and uses of a PCI function: ``-`` for none, ``?`` for unknown."""
    uses = _uses(function, host)
    return _what(function, host) + (f"  <- {uses}" if uses else "")


def _what(function: PciFunction, host: Host) -> str:
    unread = "?" if host.iommu.groups is None else "-"
    group = unread if function.iommu_group is None else str(function.iommu_group)
    driver = "?" if function.driver is None else function.driver or "-"
    ids = f"{function.vendor_id or '????'}:{function.device_id or '????'}"
    sriov = function.sriov
    vfs = f", {_count(sriov.numvfs)} of {_count(sriov.totalvfs)} VFs" if sriov else ""
    programs = function.known.holders
    opened = f", open in {', '.join(programs)}" if programs else ""
    return f"group {group:>3}  {driver:<14}  [{ids}] {function.label}{vfs}{opened}"


def _uses(function: PciFunction, host: Host) -> str:
    return ", ".join(r.role for r in host.roles_by_address.get(function.address, ()))


def _used(what: str, uses: str, hang: int) -> Line:
    """A device, and after an arrow what the host uses it for."""
    return Line(marked(what), "  " if uses else "", Part(f"<- {uses}" if uses else "", Meaning.WARNING), hang=hang)


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _usb(host: Host) -> Iterator[str]:
    if host.usb is None:
        yield Line("USB devices: ", Part("unknown", Meaning.UNKNOWN))
        return
    yield Line(Part(f"USB devices ({len(host.usb)}):", Meaning.HEADING))
    width = max((len(d.port) for d in host.usb), default=0)
    yield from (_usb_device(d, width) for d in host.usb)


def _usb_device(device: UsbDevice, width: int) -> str:
    drivers = "?" if device.drivers is None else ",".join(device.drivers) or "-"
    on = device.controller or "no PCI controller"
    uses = ", ".join(r.role for r in device.roles)
    keyboard = ", keyboard" if device.keyboard else ""
    what = f"  {device.port:<{width}}  {drivers:<14}  [{device.ids}] {device.label} on {on}{keyboard}"
    return _used(what, uses, width + 20)

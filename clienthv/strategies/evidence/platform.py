"""Where the facts of the PC as a whole stand: processor, KVM, IOMMU, what libvirt and QEMU offer, TPM."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.advice import Evidence
from clienthv.model.host import DomainCapabilities, Host
from clienthv.model.plan import Kind, Strategy
from clienthv.model.x86_64 import LEVELS, level_of, missing
from clienthv.strategies.evidence.facts import CAPABILITIES, About, Facts, fact, group_of, listed, of, stated

CPUINFO: Final = "/proc/cpuinfo, flags"
CMDLINE: Final = "/proc/cmdline"
KVM: Final = "/dev/kvm"
TABLES: Final = "/sys/firmware/acpi/tables"
GROUPS: Final = "/sys/kernel/iommu_groups"
INTERRUPTS: Final = "/proc/interrupts"
UNSAFE: Final = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
ACS_OVERRIDE: Final = "pcie_acs_override"

_INTREMAP: Final = "intremap"


def _document(field: str, value: str) -> Facts:
    """A fact of which the document does not keep where it was read."""
    yield fact(f"host document, {field}", value)


def no_hardware_virtualization(about: About) -> Facts:
    """The flags without vmx and svm; a PC that is a VM has the flag hypervisor."""
    cpu = about.host.cpu
    yield fact(CPUINFO, "neither vmx nor svm" + (", but hypervisor" if cpu.hypervisor else ""))
    if about.host.kvm.device_present:
        yield fact(KVM, "present")


def virtualization_unknown(about: About) -> Facts:
    """Neither flags nor KVM were read."""
    yield fact(CPUINFO, about.host.cpu.virtualization)
    yield fact(KVM, None)


def virtualization(host: Host) -> Facts:
    """What shows that KVM runs guests here, or that it is likely to."""
    if host.kvm.evidence:
        yield from stated(host.kvm.evidence, KVM)
        return
    yield fact(CPUINFO, host.cpu.virtualization)
    yield fact(KVM, "usable" if host.kvm.usable else None)
    if host.cpu.virtualization is None:
        yield fact(GROUPS, "groups" if host.iommu.enabled else None)


def cpu_level(about: About) -> Facts:
    """The level that the flags amount to, and what the next one lacks (AMD64 ABI, "Micro-Architecture Levels")."""
    flags = about.host.cpu.flags
    if flags is None:
        yield fact(CPUINFO, None)
        return
    has = level_of(flags)
    above = LEVELS[LEVELS.index(has) + 1 :] if has is not None else LEVELS
    lacks = f", without {' '.join(missing(above[0], flags))} of {above[0]}" if above else ""
    yield fact(CPUINFO, f"{has or 'below ' + LEVELS[0]}{lacks}")


def kvm(about: About) -> Facts:
    """What asking /dev/kvm gave, in the words of whoever asked."""
    found = about.host.kvm
    if found.evidence:
        yield from stated(found.evidence, KVM)
        return
    state = {
        "is not there": found.device_present,
        "cannot be opened by this user": found.device_openable,
        "opens, but KVM_CREATE_VM fails": found.vm_creatable,
    }
    said = next((words for words, works in state.items() if works is False), None)
    yield from (fact(KVM, said),) if said else _document("kvm.usable", "false")


def architecture(about: About) -> Facts:
    """The host's own architecture."""
    yield fact("uname -m", about.host.cpu.architecture)


def iommu(about: About) -> Facts:
    """Everything that was read of the IOMMU: firmware's tables, the kernel's groups, its command line."""
    found = about.host.iommu
    told = [e for e in stated(found.evidence, "host document, iommu") if not _is_of_remapping(e)]
    files = {e.file for e in told}
    if TABLES not in files:
        yield fact(TABLES, "neither DMAR nor IVRS" if found.acpi_table == "none" else found.acpi_table)
    if GROUPS not in files:
        yield fact(GROUPS, None if found.enabled is None else "groups" if found.enabled else "no group")
    if CMDLINE not in files:
        parameters = found.parameters
        yield fact(CMDLINE, None if parameters is None else " ".join(parameters) or "no IOMMU parameters")
    yield from told


def _is_of_remapping(evidence: Evidence) -> bool:
    return evidence.file == INTERRUPTS or evidence.file.endswith("/ecap")


def iommu_unknown(about: About) -> Facts:
    """Nobody looked for groups."""
    yield fact(GROUPS, None)


def without_group(about: About) -> Facts:
    """The functions that would move and have no link to a group."""
    yield from (group_of(f, about.host) for f in about.card if f.iommu_group is None)


def interrupt_remapping(about: About) -> Facts:
    """What shows that interrupts are not remapped, and whether VFIO does without."""
    found = about.host.iommu
    shown = [e for e in stated(found.evidence, "") if _is_of_remapping(e) or _INTREMAP in e.value]
    yield from shown or _document("iommu.interrupt_remapping", "false")
    unsafe = None if found.unsafe_interrupts is msgspec.UNSET else found.unsafe_interrupts
    yield fact(UNSAFE, {True: "Y", False: "N", None: None}[unsafe])


def acs_override(about: About) -> Facts:
    """The parameter that splits groups."""
    host = about.host
    known = (*(host.iommu.parameters or ()), *(host.kernel.cmdline or ()))
    given = next((p for p in known if p.startswith(ACS_OVERRIDE)), None)
    yield from (fact(CMDLINE, given),) if given else _document("iommu.acs_override", "true")


def vfio(about: About) -> Facts:
    """What libvirt offers for PCI devices (libvirt, "Domain capabilities XML format", hostdev)."""
    offered = _offered(about.host)
    yield fact(f"{CAPABILITIES}, hostdev pciBackend", None if offered is None else listed(offered.pci_backends))


def no_privilege(about: About) -> Facts:
    """A connection that is not root's; else a file that this user cannot write."""
    host, function = about.host, about.function
    stack = host.stack
    if stack is not None and stack.privileged is False:
        yield fact("virsh uri", f"{stack.uri}, without root's rights")
        if (about.device or "").startswith("bridge:") and host.network:
            allows = host.network.helper_allows
            yield fact("/etc/qemu/bridge.conf", None if allows is None else f"allows {listed(allows)}")
    if function is None:
        return
    for card in about.card:
        if card.sriov is not None and card.sriov.writable is False:
            yield of(card.address, "sriov_numvfs", "this user may not write it")
    for kind in function.known.mdev_types or ():
        if kind.writable is False:
            yield of(function.address, f"mdev_supported_types/{kind.id}/create", "this user may not write it")


def not_in_qemu(about: About) -> Facts:
    """The lists of libvirt's domain capabilities in which the rung is not; those of each kind where it is unknown."""
    if about.kind in (Kind.AUDIO, None) and about.strategy is Strategy.PARAVIRTUAL:
        stack = about.host.stack
        yield fact("virsh version, libvirt", stack.libvirt_version if stack is not None else None)
        yield fact("virsh version, QEMU", stack.qemu_version if stack is not None else None)
    if about.strategy is Strategy.MDEV and about.function is not None:
        for kind in about.function.known.mdev_types or ():
            yield of(about.function.address, f"mdev_supported_types/{kind.id}/device_api", kind.api)
        return
    yield from lists(about)


def lists(about: About) -> Facts:
    """What libvirt and QEMU offer of a kind of device; of each kind that has such a rung where it is unknown."""
    offered = _offered(about.host)
    for kinds, name, field in _LISTS:
        if about.kind in kinds if about.kind is not None else about.strategy in _ASKS[name]:
            found = getattr(offered, field) if offered is not None else None
            yield fact(f"{CAPABILITIES}, {name}", _shown(found))


_LISTS: Final = (
    ((Kind.CPU,), "cpu mode", "cpu_modes"),
    ((Kind.FIRMWARE,), "os firmware", "firmware"),
    ((Kind.FIRMWARE,), "os loader secure", "secure_boot"),
    ((Kind.GPU,), "video modelType", "video_models"),
    ((Kind.GPU, Kind.DISPLAY), "graphics type", "graphics"),
    ((Kind.TPM,), "tpm backendModel", "tpm_backends"),
)
_UEFI: Final = (Strategy.UEFI, Strategy.UEFI_SECURE_BOOT)
_VIRTUAL: Final = (Strategy.PARAVIRTUAL_3D, Strategy.PARAVIRTUAL, Strategy.EMULATED)
_ASKS: Final[dict[str, tuple[Strategy, ...]]] = {
    "cpu mode": (Strategy.HARDWARE_VIRTUALIZATION,),
    "os firmware": _UEFI,
    "os loader secure": _UEFI,
    "video modelType": _VIRTUAL,
    "graphics type": _VIRTUAL,
    "tpm backendModel": (Strategy.PASSTHROUGH, Strategy.EMULATED),
}


def _shown(found: tuple[str, ...] | bool | None) -> str | None:
    if isinstance(found, bool):
        return "yes" if found else "no"
    return None if found is None else listed(found)


def no_tpm(about: About) -> Facts:
    """The TPM's devices."""
    yield from (fact(file, "" if about.host.tpm_device is False else None) for file in ("/dev/tpmrm0", "/dev/tpm0"))


def _offered(host: Host) -> DomainCapabilities | None:
    return host.stack.capabilities if host.stack is not None else None

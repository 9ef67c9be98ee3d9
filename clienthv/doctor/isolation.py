"""What keeps devices from being isolated for guests: no IOMMU, one that is off, or half of one."""

from __future__ import annotations

from itertools import count
from typing import Final, Literal

from msgspec.structs import replace

from clienthv.doctor import remedy, wording
from clienthv.doctor.remedy import Met, Remedies, Remedy
from clienthv.model.advice import Advice, After, Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Reason

GROUPS_LATER: Final = (
    "which devices share an IOMMU group is only known after that, and a group that is shared may take a device back"
)
_IF_NOT: Final = "should the PC not start well then, press e in the boot menu and take the parameter back for once"
_OFF: Final = frozenset({"intel_iommu=off", "amd_iommu=off", "iommu=off"})
_NO_REMAPPING: Final = "intremap=off"


def remedies(host: Host, met: Met) -> Remedies:
    """The advice about the IOMMU and VFIO."""
    iommu = host.iommu
    if iommu.enabled is False:
        yield _off(host)
    elif iommu.enabled:
        if iommu.interrupt_remapping is False:
            yield _remapping(host)
        if met.because(Reason.VFIO_UNAVAILABLE):
            yield _module(host)
        if iommu.acs_override:
            yield _acs_override(host)
        if held := met.because(Reason.RESERVED_MEMORY):
            yield _reserved(host, tuple(r.device for r in held if r.device))


def _off(host: Host) -> Remedy:
    iommu = host.iommu
    off = tuple(p for p in iommu.parameters or () if p in _OFF)
    if off:
        return _parameter_off(host, off)
    asked = any(p == "intel_iommu=on" or p.startswith("intel_iommu=on,") for p in iommu.parameters or ())
    if not asked and (iommu.acpi_table == "DMAR" or (iommu.acpi_table is None and wording.is_intel(host))):
        return _parameter(host)
    return _firmware(host)


def parameters_for(code: str, host: Host) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The kernel parameters that an advice adds and removes (kernel, admin-guide/kernel-parameters.txt).

    AMD's IOMMU needs none. Intel's is on by itself only where the kernel was built so.
    """
    present = host.iommu.parameters or ()
    if code == "iommu-parameter":
        return ("intel_iommu=on",), ()
    if code == "iommu-parameter-off":
        off = tuple(p for p in present if p in _OFF)
        return (("intel_iommu=on",) if host.iommu.acpi_table == "DMAR" or wording.is_intel(host) else ()), off
    if code == "remapping-parameter-off":
        return (), (_NO_REMAPPING,)
    return (), ()


def _parameter_off(host: Host, off: tuple[str, ...]) -> Remedy:
    add, remove = parameters_for("iommu-parameter-off", host)
    loader = remedy.boot_loader(host)
    given = (loader.parameters or ()) if loader is not None else ()
    waiting = bool(add) and set(add) <= set(given) and not set(remove) & set(given)
    advice = Advice(
        code="iommu-parameter-off",
        title=f"Restart the PC: {' '.join(add)} is set for the next start"
        if waiting
        else f"Take {' '.join(off)} off the kernel's command line" + (f" and put {' '.join(add)} there" if add else ""),
        detail=f"the PC has an IOMMU and the kernel was told not to use it; {GROUPS_LATER}; {_IF_NOT}",
        evidence=(
            Evidence(file="/proc/cmdline", value=" ".join(off)),
            *remedy.said(host.iommu.evidence, "/sys/kernel/iommu_groups"),
        ),
        steps=("restart the PC",) if waiting else wording.parameters(host, add, remove),
        fixable=wording.can_edit(host) and not waiting,
        after=After.REBOOT,
    )
    return Remedy(advice, with_iommu)


def _parameter(host: Host) -> Remedy:
    loader = remedy.boot_loader(host)
    waiting = loader is not None and "intel_iommu=on" in (loader.parameters or ())
    sure = host.iommu.acpi_table == "DMAR"
    add, remove = parameters_for("iommu-parameter", host)
    advice = Advice(
        code="iommu-parameter",
        title="Restart the PC: intel_iommu=on is set for the next start"
        if waiting
        else "Start the kernel with intel_iommu=on",
        detail=("the PC has an IOMMU (VT-d), and the kernel does not use it" if sure else "the kernel uses no IOMMU")
        + f"; {GROUPS_LATER}; {_IF_NOT}"
        + ("" if sure else f"; where it changes nothing, turn on {wording.iommu_setting(host)} in the firmware setup"),
        evidence=remedy.said(host.iommu.evidence),
        steps=("restart the PC",) if waiting else wording.parameters(host, add, remove),
        fixable=wording.can_edit(host) and not waiting,
        after=After.REBOOT,
    )
    return Remedy(advice, with_iommu)


def _firmware(host: Host) -> Remedy:
    if host.cpu.hypervisor:
        advice = Advice(
            code="iommu-below",
            title="Give this VM an IOMMU on the machine below: this PC is itself a VM",
            detail=f"the firmware describes no IOMMU (neither DMAR nor IVRS among the ACPI tables); {GROUPS_LATER}",
            evidence=remedy.said(host.iommu.evidence),
            steps=("in the VM's libvirt domain: <iommu model='intel'/> and, in <features>, <ioapic driver='qemu'/>",)
            if host.cpu.architecture == "x86_64"
            else ("in the VM's libvirt domain: <iommu model='smmuv3'/>",),
            after=After.REBOOT,
        )
        return Remedy(advice, with_iommu)
    name = wording.iommu_setting(host)
    then = "" if wording.is_amd(host) else "; then look again: Intel's may need intel_iommu=on too"
    advice = Advice(
        code="iommu-firmware",
        title=f"Turn on {name} in the firmware setup, if processor and board have it",
        detail=(
            "the firmware describes no IOMMU"
            if host.iommu.acpi_table == "none"
            else "the kernel was told to use the IOMMU and does not"
            if "intel_iommu=on" in (host.iommu.parameters or ())
            else "the kernel uses no IOMMU"
        )
        + f", and without one no device can be handed to a guest; {GROUPS_LATER}",
        evidence=remedy.said(host.iommu.evidence),
        steps=(wording.setup_key(), f"turn on {name}, save and start{then}"),
        after=After.REBOOT,
    )
    return Remedy(advice, with_iommu)


def with_iommu(host: Host) -> Host:
    """The host with its IOMMU on, at its best: each function in a group of its own, since nobody knows the groups."""
    kind: Literal["vt-d", "amd-vi"] = "amd-vi" if wording.is_amd(host) and host.iommu.acpi_table != "DMAR" else "vt-d"
    fresh = count(max((f.iommu_group for f in host.pci if f.iommu_group is not None), default=-1) + 1)

    def grouped(function: PciFunction) -> PciFunction:
        known = function.iommu_group is not None or function.address in host.bridges
        return function if known else replace(function, iommu_group=next(fresh))

    pci = tuple(map(grouped, host.pci))
    found = host.iommu.kind if host.iommu.kind in ("vt-d", "amd-vi", "other") else kind
    remapped = None if host.iommu.interrupt_remapping is False else host.iommu.interrupt_remapping
    iommu = replace(host.iommu, enabled=True, kind=found, groups=len(pci), interrupt_remapping=remapped)
    return with_vfio(replace(host, iommu=iommu, pci=pci))


def _remapping(host: Host) -> Remedy:
    add, remove = parameters_for("remapping-parameter-off", host)
    risk = (
        "the module option allow_unsafe_interrupts gives devices away all the same: a guest could then send the host "
        "any interrupt, so clienthv never sets it"
    )
    if _NO_REMAPPING in (host.iommu.parameters or ()):
        advice = Advice(
            code="remapping-parameter-off",
            title=f"Take {_NO_REMAPPING} off the kernel's command line",
            detail=f"the IOMMU does not remap interrupts, because the kernel was told not to; {risk}",
            evidence=(Evidence(file="/proc/cmdline", value=_NO_REMAPPING),),
            steps=wording.parameters(host, add, remove),
            fixable=wording.can_edit(host),
            after=After.REBOOT,
        )
    else:
        below = host.cpu.hypervisor
        advice = Advice(
            code="remapping-firmware",
            title="Let the IOMMU of this VM remap interrupts, on the machine below"
            if below
            else 'Turn on "x2APIC" and "Interrupt Remapping" in the firmware setup, or update the firmware',
            detail=f"the IOMMU does not remap interrupts, so VFIO hands no device over; {risk}",
            evidence=remedy.said(host.iommu.evidence),
            steps=("in the VM's libvirt domain: <iommu model='intel'><driver intremap='on'/></iommu>",)
            if below
            else (wording.setup_key(), "turn them on (under CPU, Advanced or North Bridge), save and start"),
            after=After.REBOOT,
        )
    return Remedy(advice, lambda h: replace(h, iommu=replace(h.iommu, interrupt_remapping=True)))


def _module(host: Host) -> Remedy:
    advice = Advice(
        code="vfio-module",
        title="Load the module vfio-pci",
        detail="the IOMMU is on, and libvirt sees no VFIO to hand PCI devices over with",
        evidence=(Evidence(file="virsh domcapabilities", value="hostdev: the enum pciBackend is empty"),),
        steps=("sudo modprobe vfio-pci", "vfio-pci in a file in /etc/modules-load.d loads it at each start"),
        fixable=remedy.account(host) is not None,
    )
    return Remedy(advice, with_vfio)


def with_vfio(host: Host) -> Host:
    """The host with a libvirt that offers VFIO."""
    return remedy.with_capabilities(host, lambda c: replace(c, pci_backends=remedy.adding(c.pci_backends, "vfio")))


def _acs_override(host: Host) -> Remedy:
    return Remedy(
        Advice(
            code="acs-override",
            title="Know the risk: this kernel splits IOMMU groups that the hardware does not separate",
            detail="with pcie_acs_override a guest may reach, by its device, what the host or another guest has in the "
            "same real group; clienthv takes such a device only where a profile names it, and never sets the parameter",
            evidence=remedy.said(host.iommu.evidence, "/proc/cmdline"),
            steps=("take pcie_acs_override off the kernel's command line, and put cards into other slots instead",),
            after=After.REBOOT,
        )
    )


def _reserved(host: Host, devices: tuple[str, ...]) -> Remedy:
    amd = host.iommu.kind == "amd-vi"
    setting = '"Pre-Boot DMA Protection"'
    first = next((f for f in host.pci if f.address in devices), None)
    group = first.iommu_group if first is not None else None
    advice = Advice(
        code="reserved-memory",
        title=f"Turn off {setting} in the firmware setup, or update the firmware" if amd else "Update the firmware",
        detail=f"{', '.join(devices)}: firmware wants memory mapped one to one for its IOMMU group, so the kernel "
        "keeps the device from guests",
        evidence=(Evidence(file=f"/sys/kernel/iommu_groups/{group}/reserved_regions", value="a line of type direct"),),
        steps=(wording.setup_key(), f"turn off {setting}") if amd else ("look for an update at the PC's maker",),
        after=After.REBOOT,
    )

    def free(function: PciFunction) -> PciFunction:
        return replace(function, particulars=replace(function.known, reserved_memory=None))

    change = (lambda h: remedy.with_functions(h, (f.address for f in h.pci), free)) if amd else None
    return Remedy(advice, change)

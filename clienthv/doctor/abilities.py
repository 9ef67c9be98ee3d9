"""What a PC can do for guests as it is: yes, no or unknown, with the facts that show it."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.doctor import remedy
from clienthv.model.advice import Ability, Evidence
from clienthv.model.devices import Device, Devices, Verdict
from clienthv.model.host import Host
from clienthv.model.plan import Kind
from clienthv.strategies import screens, verdicts

_DOMCAPS = "virsh domcapabilities"


def abilities(host: Host) -> Iterator[Ability]:
    """Every ability, in the order they build on each other; a line for each GPU."""
    judged = verdicts.verdicts(host)
    yield from _processor(host)
    yield from _isolation(host)
    yield _sriov(host)
    yield from _gpus(host, judged)
    yield from _stack(host)
    yield from _tpm(host)


def _processor(host: Host) -> Iterator[Ability]:
    cpu, kvm = host.cpu, host.kvm
    yield Ability(
        code="kvm",
        title="KVM",
        able=kvm.usable,
        detail={
            True: "guests run on the processor itself",
            False: "guests run by binary translation, many times slower",
            None: "whether guests run on the processor itself is not known",
        }[kvm.usable],
        evidence=remedy.said(kvm.evidence),
    )
    yield Ability(
        code="nested-paging",
        title="nested paging",
        able=cpu.nested_paging,
        detail={
            True: "the processor translates guests' addresses itself",
            False: "each change of a guest's memory tables is slow",
            None: "not recorded",
        }[cpu.nested_paging],
        evidence=(Evidence(file="/proc/cpuinfo", value=_flag(host)),),
    )


def _flag(host: Host) -> str:
    if host.cpu.nested_paging is None:
        return "unknown"
    shown = [flag for flag in ("ept", "npt") if flag in (host.cpu.flags or ())]
    return f"the flags have {shown[0]}" if shown else "the flags have neither ept nor npt"


def _isolation(host: Host) -> Iterator[Ability]:
    iommu = host.iommu
    yield Ability(
        code="iommu",
        title="IOMMU",
        able=iommu.enabled,
        detail={
            True: "devices can be kept apart" + (f" in {iommu.groups} groups" if iommu.groups is not None else ""),
            False: "devices cannot be kept apart, so none can be handed to a guest",
            None: "not recorded",
        }[iommu.enabled],
        evidence=remedy.said(iommu.evidence),
    )
    remapped = iommu.interrupt_remapping if iommu.enabled is not False else False
    unsafe = " (VFIO was told to do without, which is unsafe)" if iommu.unsafe_interrupts is True else ""
    yield Ability(
        code="interrupt-remapping",
        title="interrupt remapping",
        able=remapped,
        detail={
            True: "a guest's device reaches its own interrupts alone",
            False: "a guest's device could send the host any interrupt" + unsafe
            if iommu.enabled
            else "works with an IOMMU that is on",
            None: "not recorded",
        }[remapped],
        evidence=(
            *remedy.said(iommu.evidence, "/proc/interrupts"),
            *remedy.said(iommu.evidence, "/ecap"),
        ),
    )
    offered = host.stack.capabilities if host.stack is not None else None
    vfio = None if offered is None else "vfio" in offered.pci_backends
    yield Ability(
        code="vfio",
        title="VFIO",
        able=vfio,
        detail={
            True: "libvirt can hand PCI devices over",
            False: "libvirt offers none",
            None: "what libvirt offers is not recorded",
        }[vfio],
        evidence=() if offered is None else (_offer("hostdev pciBackend", offered.pci_backends),),
    )


def _sriov(host: Host) -> Ability:
    cards = [f for f in host.pci if f.sriov is not None and f.sriov.totalvfs]
    later = "; of use once the IOMMU is on" if host.iommu.enabled is False else ""
    return Ability(
        code="sriov",
        title="SR-IOV",
        able=bool(cards) if host.pci else None,
        detail=(
            ", ".join(f"{f.label} ({f.address}): {f.sriov.totalvfs} virtual functions" for f in cards[:4] if f.sriov)
            + later
            if cards
            else "no device here can be shared as virtual functions"
        ),
        evidence=tuple(
            Evidence(file=f"/sys/bus/pci/devices/{f.address}/sriov_totalvfs", value=str(f.sriov.totalvfs))
            for f in cards[:4]
            if f.sriov
        ),
    )


def _gpus(host: Host, judged: Devices) -> Iterator[Ability]:
    by_address = {d.address: d for d in judged.devices}
    gpus = [f for f in screens.gpus_of(host) if f.physfn is None]
    for gpu in gpus:
        device = by_address.get(gpu.address)
        if device is not None and (device.serves_as is Kind.GPU or device.verdict is not Verdict.NO):
            yield Ability(
                code="gpu-passthrough",
                title=f"pass-through of {gpu.label} ({gpu.address})",
                able=_able(device),
                detail=_verdict(device),
                evidence=(
                    Evidence(file=f"/sys/bus/pci/devices/{gpu.address}/driver", value=_driver(gpu.driver)),
                    Evidence(
                        file=f"/sys/bus/pci/devices/{gpu.address}/iommu_group",
                        value="absent" if gpu.iommu_group is None else str(gpu.iommu_group),
                    ),
                ),
            )


def _able(device: Device) -> bool | None:
    """No, if something is known to speak against it; unknown, if all that does is that something is not known."""
    if device.verdict is not Verdict.NO:
        return True
    return None if all(o.reason.endswith("-unknown") for o in device.objections) else False


def _driver(driver: str | None) -> str:
    return "unknown" if driver is None else driver or "absent"


def _verdict(device: Device) -> str:
    match device.verdict:
        case Verdict.YES:
            return "can be handed to a guest"
        case Verdict.YES_WITH:
            return f"can be handed to a guest, with {', '.join(device.along)}"
        case Verdict.NO:
            return "; ".join(f"{o.detail} [{o.reason}]" for o in device.objections[:2])


def _stack(host: Host) -> Iterator[Ability]:
    stack = host.stack
    offered = stack.capabilities if stack is not None else None
    running = None if stack is None else stack.uri is not None
    yield Ability(
        code="libvirt",
        title="libvirt",
        able=running,
        detail="not recorded"
        if stack is None
        else f"libvirt {stack.libvirt_version}, QEMU {stack.qemu_version}, {stack.uri}"
        if running
        else f"cannot be used: {stack.problem}",
        evidence=() if stack is None else (Evidence(file="virsh uri", value=stack.uri or "absent"),),
    )
    efi = None if offered is None else "efi" in offered.firmware
    for code, title, able, yes, no in (
        ("uefi", "UEFI for guests", efi, "guests can start with UEFI", "libvirt finds no UEFI firmware"),
        ("secure-boot", "Secure Boot for guests", None if offered is None else bool(efi and offered.secure_boot),
         "firmware with Secure Boot is there", "no firmware with Secure Boot"),
        ("spice", "SPICE", None if offered is None else "spice" in offered.graphics,
         "a guest's screen with sound and clipboard", "guests' screens come over VNC"),
        ("3d", "3D for guests", None if offered is None else _draws(host),
         "the host's GPU draws for guests", _no_3d(host)),
    ):  # fmt: skip
        detail = "what libvirt offers is not recorded" if able is None else yes if able else no
        yield Ability(code=code, title=title, able=able, detail=detail, evidence=_shown(host, code))


def _draws(host: Host) -> bool:
    return _render_node(host) and "egl-headless" in _graphics(host)


def _render_node(host: Host) -> bool:
    return any(f.render_node for f in screens.gpus_of(host))


def _graphics(host: Host) -> tuple[str, ...]:
    offered = host.stack.capabilities if host.stack is not None else None
    return offered.graphics if offered is not None else ()


def _no_3d(host: Host) -> str:
    lacking = [
        *([] if _render_node(host) else ["no GPU of the host has a render node"]),
        *([] if "egl-headless" in _graphics(host) else ["this QEMU has no OpenGL display"]),
    ]
    return "; ".join(lacking)


def _shown(host: Host, code: str) -> tuple[Evidence, ...]:
    offered = host.stack.capabilities if host.stack is not None else None
    if offered is None:
        return ()
    if code in ("uefi", "secure-boot"):
        secure = f", secure boot: {'yes' if offered.secure_boot else 'no'}"
        return (Evidence(file=_DOMCAPS, value=f"firmware: {', '.join(offered.firmware) or 'none'}{secure}"),)
    graphics = _offer("graphics", offered.graphics)
    nodes = [f.render_node for f in screens.gpus_of(host) if f.render_node]
    return (graphics,) if code == "spice" else (graphics, Evidence(file="/dev/dri", value=", ".join(nodes) or "absent"))


def _tpm(host: Host) -> Iterator[Ability]:
    offered = host.stack.capabilities if host.stack is not None else None
    emulated = None if offered is None else "emulator" in offered.tpm_backends
    yield Ability(
        code="tpm",
        title="TPM for guests",
        able=emulated,
        detail={
            True: "swtpm gives each guest a TPM 2.0 of its own",
            False: "swtpm is missing",
            None: "what libvirt offers is not recorded",
        }[emulated],
        evidence=() if offered is None else (_offer("tpm", offered.tpm_backends),),
    )
    yield Ability(
        code="host-tpm",
        title="TPM of the PC",
        able=host.tpm_device,
        detail={True: "there is one", False: "there is none", None: "not recorded"}[host.tpm_device],
        evidence=()
        if host.tpm_device is None
        else (Evidence(file="/dev/tpm0", value="present" if host.tpm_device else "absent"),),
    )


def _offer(what: str, names: tuple[str, ...]) -> Evidence:
    """What libvirt says that it has of something."""
    return Evidence(file=_DOMCAPS, value=f"{what}: {', '.join(names) or 'none'}")

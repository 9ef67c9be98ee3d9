"""What keeps single devices with the host: the screen, the slot, programs, a firmware's or a driver's setting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from msgspec.structs import replace

from clienthv.doctor import remedy, wording
from clienthv.doctor.remedy import Met, Remedies, Remedy
from clienthv.model.advice import Advice, After, Evidence
from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction, Role, RoleName
from clienthv.model.plan import Reason, Strategy
from clienthv.strategies import pci, screens, sriov

MODULE_WITH_NUM_VFS = "mlx4_core"
_SCREENS = (RoleName.BOOT_DISPLAY, RoleName.CONNECTED_DISPLAY)


def remedies(host: Host, met: Met) -> Remedies:
    """The advice about single devices."""
    yield from _primary_display(host, met)
    yield from _another_slot(host, met)
    yield from _programs(host, met)
    yield from _sriov(host, met)
    yield from _vmd(host, met)
    yield from _tpm(host, met)


def _primary_display(host: Host, met: Met) -> Remedies:
    """Another GPU may show the host's screen, so that the one that could go to a guest is free."""
    kept = {r.device for r in met.because(Reason.BOOT_DISPLAY, Reason.CONNECTED_DISPLAY) if r.device}
    gpus = [g for g in screens.gpus_of(host) if g.physfn is None]
    # Graphics on the root bus are the processor's own: they are what the host can live with.
    taken = next((g for g in gpus if g.address in kept and g.place.bus != 0), None)
    others = [g for g in gpus if g is not taken and g.driver not in HELD_FOR_GUESTS and g.base_class != "0302"]
    if taken is None or not others:
        yield from _only_gpu(host, gpus, kept)
        return
    if host.machine.chassis == "virtual":
        return
    other = min(others, key=lambda g: (g.place.bus != 0, g.place))
    roles = [r for r in host.roles_by_address.get(taken.address, ()) if r.role in _SCREENS]
    advice = Advice(
        code="primary-display",
        title=f"Let {other.label} ({other.address}) show this PC's screen instead of {taken.label} ({taken.address})",
        detail=f"{taken.address} drives the host's screen, so it stays with the host; the other one could show it",
        evidence=tuple(e for r in roles for e in remedy.said(r.evidence)),
        steps=_screen_to(host, other),
        after=After.REBOOT,
    )

    def change(h: Host) -> Host:
        moved = tuple(
            Role(role=r.role, address=other.address, evidence=r.evidence)
            if r.address == taken.address and r.role in _SCREENS
            else r
            for r in h.roles
        )
        flipped = remedy.with_functions(h, (taken.address,), lambda f: replace(f, boot_vga=False, connectors=None))
        shown = remedy.with_functions(flipped, (other.address,), lambda f: replace(f, boot_vga=True))
        return replace(shown, roles=moved)

    yield Remedy(advice, change)


def _screen_to(host: Host, other: PciFunction) -> tuple[str, ...]:
    """How a GPU comes to show the host's screen. A laptop's own is not plugged: firmware has it switched over."""
    if host.machine.chassis == "laptop":
        return (
            f'{wording.setup_key()}, and set its graphics to "Hybrid" ("Optimus", "Dynamic", "Switchable") instead of '
            '"Discrete", where there is such a switch',
        )
    return (
        f"plug the screen into {other.label}",
        f'{wording.setup_key()}, and set "Primary Display" ("Initial Display Output", "Init Display First") to '
        + ("the processor's graphics (IGFX, IGD, CPU Graphics)" if other.place.bus == 0 else "the other slot")
        + ', and turn on "iGPU Multi-Monitor" where there is such a switch',
    )


def _only_gpu(host: Host, gpus: list[PciFunction], kept: set[str]) -> Remedies:
    """One graphics card, which the host's screen hangs on: the host needs another, or does without."""
    cards = [g for g in gpus if g.address in kept and g.place.bus != 0]
    if len(gpus) != 1 or not cards or host.machine.chassis in ("laptop", "virtual"):
        return
    card = cards[0]
    roles = [r for r in host.roles_by_address.get(card.address, ()) if r.role in _SCREENS]
    advice = Advice(
        code="only-gpu",
        title=f"Give the host's screen another GPU than {card.label} ({card.address})",
        detail="it is the only one to be seen, and drives the host's screen; many processors have graphics of their "
        "own that the firmware keeps off while a card is plugged in",
        evidence=tuple(e for r in roles for e in remedy.said(r.evidence)),
        steps=(
            f'{wording.setup_key()}, turn on the processor\'s graphics ("iGPU Multi-Monitor", "Integrated Graphics: '
            'Force") and make them the primary display, or plug a second card in; the screen goes there',
            "or let the host do without a screen while the VM runs, in the profile: [devices.gpu] "
            f'select = ["{card.address}"], allow = ["boot-display"]',
        ),
        after=After.REBOOT,
    )

    def change(h: Host) -> Host:
        left = tuple(r for r in h.roles if r.address != card.address or r.role not in _SCREENS)
        read = remedy.adding(h.roles_read, *_SCREENS)
        freed = remedy.with_functions(h, (card.address,), lambda f: replace(f, boot_vga=False))
        return replace(freed, roles=left, roles_read=read)

    yield Remedy(advice, change)


def _another_slot(host: Host, met: Met) -> Remedies:
    if host.machine.chassis in ("laptop", "virtual"):
        return
    torn = [host.by_address[r.device] for r in met.because(Reason.IOMMU_GROUP_STAYS) if r.device in host.by_address]
    # On the root bus and behind one bridge of it sits what is soldered, too: only an expansion card can move.
    cards = [f for f in torn if f.place.bus != 0 and f.physfn is None]
    if not cards:
        return
    names = "; ".join(f"{f.label} ({f.address}, IOMMU group {f.iommu_group})" for f in cards[:4])
    advice = Advice(
        code="another-slot",
        title="Put the card into another slot, where its IOMMU group is its own",
        detail=f"shares its IOMMU group with what stays with the host: {names}; slots that hang on the processor "
        "itself are mostly separate, and what the new group holds is only known after that. pcie_acs_override would "
        "make groups look smaller without separating anything: clienthv never sets it",
        evidence=tuple(
            Evidence(file=f"/sys/bus/pci/devices/{f.address}/iommu_group", value=str(f.iommu_group)) for f in cards[:4]
        ),
        steps=("turn the PC off, move the card, and run clienthv doctor again",),
        after=After.REBOOT,
    )

    def change(h: Host) -> Host:
        fresh = count(max((f.iommu_group or 0 for f in h.pci), default=0) + 1)
        moved: dict[str, int] = {}
        for card in cards:
            group = next(fresh)
            moved |= {f.address: group for f in pci.companions(h, h.by_address[card.address])}
        return remedy.with_functions(h, moved, lambda f: replace(f, iommu_group=moved[f.address]))

    yield Remedy(advice, change)


def _programs(host: Host, met: Met) -> Remedies:
    busy = [
        host.by_address[r.device]
        for r in met.because(Reason.IN_USE)
        if r.device in host.by_address and host.by_address[r.device].known.holders
    ]
    if not busy:
        return
    held = "; ".join(f"{f.address} {f.label}: {', '.join((f.known.holders or ())[:5])}" for f in busy[:4])
    ids = next(_held_by_ids(host, busy), None)
    advice = Advice(
        code="end-programs",
        title="End the programs that have the device open, or keep the desktop off it",
        detail=f"a driver is not taken from under programs that use it: {held}",
        evidence=tuple(Evidence(file=f"/sys/bus/pci/devices/{f.address}/driver", value=f.driver or "?") for f in busy),
        steps=(
            "end them, and plan again",
            *((f"or hold it for guests from the start: vfio-pci.ids={ids} on the kernel's command line",)
              if ids else ()),
        ),
    )  # fmt: skip

    def free(function: PciFunction) -> PciFunction:
        return replace(function, particulars=replace(function.known, holders=()))

    yield Remedy(advice, lambda h: remedy.with_functions(h, (f.address for f in h.pci if f.known.holders), free))


def _held_by_ids(host: Host, busy: list[PciFunction]) -> Iterator[str]:
    """IDs of GPUs that can be held for guests from the start: vfio-pci.ids takes every function that has them.

    So never those that the host's screen has too, and the PC's only GPU is never held.
    """
    shown = {address for address, roles in host.roles_by_address.items() if any(r.role in _SCREENS for r in roles)}
    gpus = [g for g in screens.gpus_of(host) if g.physfn is None]
    for one in (f for f in busy if f.vendor_id and f.device_id):
        alike = [f for f in host.pci if (f.vendor_id, f.device_id) == (one.vendor_id, one.device_id)]
        stays = any(g not in alike for g in gpus)
        if screens.is_gpu(one) and stays and not any(f.boot_vga or f.address in shown for f in alike):
            yield f"{one.vendor_id}:{one.device_id}"


def _sriov(host: Host, met: Met) -> Remedies:
    for function in host.pci:
        able = function.sriov is not None and function.physfn is None
        if able and function.driver == MODULE_WITH_NUM_VFS and not function.sriov.numvfs:  # type: ignore[union-attr]
            yield Remedy(
                Advice(
                    code="vf-module-option",
                    title=f"Let {MODULE_WITH_NUM_VFS} create virtual functions when it is loaded",
                    detail=f"{function.address} {function.label}: its driver creates virtual functions only then",
                    evidence=(
                        Evidence(file=f"/sys/bus/pci/devices/{function.address}/driver", value=MODULE_WITH_NUM_VFS),
                        Evidence(file=f"/sys/bus/pci/devices/{function.address}/sriov_numvfs", value="0"),
                    ),
                    steps=(f"{module_option(host)} in a file in /etc/modprobe.d", "restart the PC"),
                    fixable=remedy.account(host) is not None,
                    after=After.REBOOT,
                )
            )
            break
    none = [r for r in met.because(Reason.NO_SRIOV) if r.device and r.strategy is Strategy.VF]
    if none:
        names = ", ".join(r.device or "" for r in none[:4])
        yield Remedy(
            Advice(
                code="sriov-firmware",
                title='Turn on "SR-IOV Support" in the firmware setup',
                detail=f"{names}: has SR-IOV and names no number of virtual functions that it can have; firmware may "
                'keep address space for them back, and "Above 4G Decoding" may be needed beside it',
                evidence=tuple(
                    Evidence(file=f"/sys/bus/pci/devices/{r.device}/sriov_totalvfs", value="0") for r in none[:4]
                ),
                steps=(wording.setup_key(), 'turn on "SR-IOV Support" and "Above 4G Decoding", save and start'),
                after=After.REBOOT,
            )
        )


def module_option(host: Host) -> str:
    """The line for modprobe.d by which mlx4_core makes virtual functions (kernel, mlx4/main.c, num_vfs)."""
    cards = [f for f in host.pci if f.driver == MODULE_WITH_NUM_VFS and f.sriov is not None and f.physfn is None]
    most = min((sriov.number(f.sriov) for f in cards if f.sriov is not None), default=0)
    return f"options {MODULE_WITH_NUM_VFS} num_vfs={most or 1}"


def _vmd(host: Host, met: Met) -> Remedies:
    behind = met.because(Reason.BEHIND_VMD)
    if not behind:
        return
    yield Remedy(
        Advice(
            code="vmd-firmware",
            title='Turn off "VMD" ("Intel RST", "RAID mode") in the firmware setup',
            detail=f"{', '.join(r.device or '' for r in behind[:4])}: sits behind an Intel VMD controller, which alone "
            "can be handed over. A system that is installed behind it may not start without it: be sure first",
            steps=(wording.setup_key(), 'turn off "VMD" or set the storage to "AHCI", save and start'),
            after=After.REBOOT,
        )
    )


def _tpm(host: Host, met: Met) -> Remedies:
    if not met.because(Reason.NO_TPM_DEVICE):
        return
    name = '"Intel Platform Trust Technology" (PTT)' if wording.is_intel(host) else '"AMD fTPM"'
    name = name if wording.is_intel(host) or wording.is_amd(host) else "the TPM"
    yield Remedy(
        Advice(
            code="tpm-firmware",
            title=f"Turn on {name} in the firmware setup",
            detail=f"the host has no TPM device, which {met.by(Reason.NO_TPM_DEVICE)} would hand over",
            evidence=(Evidence(file="/dev/tpm0", value="absent"),),
            steps=(wording.setup_key(), f"turn on {name} (under Security or Trusted Computing), save and start"),
            after=After.REBOOT,
        ),
        lambda h: replace(h, tpm_device=True),
    )

"""What a PC can do, what holds it back, and the smallest change for each: facts and profiles in, advice out.

Each remedy is advice together with the PC as it would be after the change. What it unlocks is found by planning for
that PC: no table says it (docs/reference/doctor.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from clienthv.doctor import devices, isolation, processor, software, unlocking
from clienthv.doctor.abilities import abilities
from clienthv.doctor.devices import module_option
from clienthv.doctor.isolation import parameters_for
from clienthv.doctor.remedy import Remedy
from clienthv.doctor.wording import family, packages
from clienthv.joint import Wish
from clienthv.model.advice import Ability, Advice, After, Diagnosis, Unlocks
from clienthv.model.host import Host

__all__ = ["CODES", "examine", "family", "module_option", "packages", "parameters_for"]

CODES = (
    "virtualization-firmware", "nested-virtualization", "kvm-module", "kvm-group", "log-in-again",
    "iommu-firmware", "iommu-below", "iommu-parameter", "iommu-parameter-off", "remapping-parameter-off",
    "remapping-firmware", "vfio-module", "acs-override", "reserved-memory",
    "primary-display", "only-gpu", "another-slot", "end-programs", "vf-module-option", "sriov-firmware", "vmd-firmware",
    "tpm-firmware", "libvirt", "uefi-firmware", "swtpm", "qemu-opengl", "qemu-spice", "passt", "libvirt-network",
    "libvirt-group", "memlock", "more-room", "read-again",
)  # fmt: skip
"""Every code that advice may have, in the order of docs/reference/doctor.md."""

_IDLE_ALONE = frozenset({"primary-display", "only-gpu", "another-slot", "end-programs", "reserved-memory"})
"""What nobody should be told to do that unlocks nothing."""

_LATER = {After.NOTHING: 0, After.LOGIN: 1, After.REBOOT: 2}


def examine(host: Host, wishes: Sequence[Wish]) -> Diagnosis:
    """What this PC can do, and what would lift each rung of these profiles that is not taken. Pure."""
    found = [(wish, unlocking.meet(host, wish)) for wish in wishes]
    met = unlocking.gathered(found)
    small = tuple(m.too_small for _, m in found if m.too_small is not None)
    remedies: tuple[Remedy, ...] = (
        *processor.remedies(host, met),
        *isolation.remedies(host, met),
        *devices.remedies(host, met),
        *software.remedies(host, met),
        *processor.memory(host, small),
    )
    opened: dict[str, list[Unlocks]] = defaultdict(list)
    for wish, now in found:
        for code, unlocks in unlocking.unlocked(host, wish, now, remedies):
            opened[code].append(unlocks)
    able = tuple(abilities(host))
    advice = [replace(r.advice, unlocks=tuple(opened[r.advice.code])) for r in remedies]
    useful = [a for a in advice if a.unlocks or a.code not in _IDLE_ALONE]
    return Diagnosis(
        host=host.name,
        profiles=tuple(w.name for w in wishes),
        abilities=able,
        advice=(*sorted(useful, key=_order), *_read_again(host, able)),
    )


def _read_again(host: Host, able: Sequence[Ability]) -> Iterator[Advice]:
    """What is not known holds back too: nobody can be told to change it."""
    unknown = list(dict.fromkeys(a.title for a in able if a.able is None))
    if not unknown:
        return
    live = host.source == "live"
    yield Advice(
        code="read-again",
        title="Find out more about this PC" if live else "Have the PC read whole",
        detail=f"not known: {', '.join(unknown)}; what holds these back cannot be told",
        steps=("sudo clienthv doctor",) if live else ("on that PC: clienthv inspect --save FILE",),
    )


def _order(advice: Advice) -> tuple[int, int]:
    """That which unlocks most first; of equals what shows soonest."""
    return -len(advice.unlocks), _LATER[advice.after]

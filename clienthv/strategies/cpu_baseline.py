"""The CPU that a guest can have on each of several PCs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clienthv.model.cpu import Baseline, CpuMap, CpuModel, Feature, GuestCpu
from clienthv.model.host import Host
from clienthv.model.x86_64 import LEVELS, features_of
from clienthv.strategies.guest_cpu import DomainType, certain, known_vendors, needs

# A guest that sees this cannot be moved while it runs (libvirt, domain format, "migratable"); QEMU sets the other.
_LEFT_OUT = frozenset({"hypervisor", "invtsc"})


def baseline(hosts: Sequence[Host], cpu_map: CpuMap | None, *, domain_type: DomainType = "kvm") -> Baseline:
    """The CPU that runs on all of these; a PC of which nothing is known is left out and named."""
    found = [(host, certain(host, cpu_map, domain_type)) for host in hosts]
    known = [(host, features) for host, features in found if features is not None]
    left_out = tuple(host.name for host, features in found if features is None)
    foreign = tuple(
        f"the processor of {host.name} is {host.cpu.architecture}, with which x86_64 shares no feature"
        for host, features in found
        if features is None and host.cpu.architecture not in (None, "", "x86_64")
    )
    if not known:
        return Baseline(left_out=left_out, evidence=("of none of these PCs the features are known", *foreign))
    common = frozenset.intersection(*(features for _, features in known)) - _LEFT_OUT
    counted = [host for host, _ in known]
    name = _best(common, counted, cpu_map, domain_type)
    count = "1 PC has" if len(counted) == 1 else f"{len(counted)} PCs have"
    evidence = [f"{count} {len(common)} features{' in common' if len(counted) > 1 else ''}"]
    cpu = None
    if name is not None and cpu_map is not None:
        model = cpu_map.models[name]
        extra = common - model.features
        cpu = GuestCpu(model=name, fallback="forbid", features=tuple(Feature(f, "require") for f in sorted(extra)))
        evidence.append(f"{name} has {len(common) - len(extra)} of them, more than any other model that all can run")
    return Baseline(
        cpu=cpu,
        level=next((level for level in reversed(LEVELS) if common.issuperset(features_of(level))), None),
        features=tuple(sorted(common)),
        hosts=tuple(host.name for host in counted),
        left_out=left_out,
        evidence=(*evidence, *foreign),
    )


def _best(common: frozenset[str], hosts: list[Host], cpu_map: CpuMap | None, domain_type: DomainType) -> str | None:
    """The model with the most features of which all are common: of the vendor that all share, or of none.

    Where nobody tells which models QEMU has, those that one distribution alone adds are left out.
    """
    if cpu_map is None:
        return None
    vendors = known_vendors(hosts, cpu_map, domain_type)
    shared = next(iter(vendors)) if len(vendors) == 1 else None
    usable = _usable_everywhere(hosts, domain_type)

    def may(name: str, model: CpuModel) -> bool:
        runs = name in usable if usable is not None else model.by_host_model and "rhel" not in name
        return runs and model.vendor in (None, shared) and needs(GuestCpu(model=name), cpu_map).all <= common

    models = [(name, model) for name, model in cpu_map.models.items() if may(name, model)]
    ranked = sorted(models, key=lambda m: (-len(m[1].features & common), not m[1].by_host_model, m[0]))
    return ranked[0][0] if ranked else None


def _usable_everywhere(hosts: list[Host], domain_type: DomainType) -> frozenset[str] | None:
    """The models that QEMU calls usable on each host that tells; None where none does."""
    told = [host.stack.capabilities for host in hosts if host.stack is not None and host.stack.capabilities is not None]
    lists = [c.usable_models for c in told if c.domain_type == domain_type and c.usable_models is not msgspec.UNSET]
    return frozenset.intersection(*map(frozenset, lists)) if lists else None

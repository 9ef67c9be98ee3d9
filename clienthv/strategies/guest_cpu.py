"""Whether a guest's CPU can be had on a PC, and the CPU that can be had on several.

libvirt compares the CPUs of most models with what host-model gives on the host; of the newer, versioned ones it asks
QEMU what they lack there (libvirt, qemuConnectCompareHypervisorCPU). This does the same from a host document. A
document without libvirt's domain capabilities has the flags of /proc/cpuinfo, which leave more unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from clienthv.model import cpu_flags
from clienthv.model.cpu import CpuMap, GuestCpu
from clienthv.model.host import DomainCapabilities, Host

DomainType = Literal["kvm", "qemu"]


class Needs(NamedTuple):
    """What a CPU asks of a host, by libvirt's names of features.

    ``model`` is what its model asks for, less what the description takes out or lets go; None when the model is not
    known. ``required`` are those named beside it. ``blockable`` are the features of the model that QEMU may say the
    host lacks, ``by_host_model`` whether libvirt compares the model with host-model at all.
    """

    required: frozenset[str]
    model: frozenset[str] | None
    blockable: frozenset[str] = frozenset()
    by_host_model: bool = True
    vendor: str | None = None

    @property
    def all(self) -> frozenset[str]:
        """Everything that is known to be asked for."""
        return self.required | (self.model or frozenset())


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a host lacks of a guest's CPU.

    ``missing`` are features that are certainly not there, ``unknown`` those of which nobody can tell; ``unwanted``
    are there and must not be (policy forbid, match strict). ``vendor_differs`` is whether the description asks for
    another vendor's processor, ``other_vendor`` whether its model, or the source PC, is of another vendor, which only
    changes what the guest sees. ``offered`` is whether the hypervisor has this mode and model. ``identical`` is, of
    a CPU passed through, whether the source PC's processor is the same; None where there is none or it is unknown.
    """

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    vendor_differs: bool | None = False
    other_vendor: bool | None = None
    model_known: bool = True
    offered: bool | None = None
    identical: bool | None = None
    evidence: tuple[str, ...] = ()

    @property
    def fits(self) -> bool | None:
        """Whether the CPU can be had there; None when something that decides is unknown."""
        if self.missing or self.unwanted or self.vendor_differs or self.offered is False:
            return False
        return True if self.model_known and not self.unknown and self.vendor_differs is False else None


@lru_cache(maxsize=1024)
def needs(cpu: GuestCpu, cpu_map: CpuMap | None) -> Needs:
    """What a CPU asks for. Modes other than custom take what the host has, and ask for what is named beside them."""
    required = cpu.named("require")
    if cpu.mode != "custom":
        return Needs(required, frozenset())
    known = cpu_map.models.get(cpu.model or "") if cpu_map is not None else None
    if known is None:
        return Needs(required, None)
    features = known.features - known.added
    if not known.by_host_model and "vmx" not in features | required:
        # QEMU takes the capabilities of VMX away with VMX itself (QEMU, target/i386/cpu.c, feature_dependencies);
        # libvirt, where it compares for itself, does not.
        features = frozenset(name for name in features if not name.startswith("vmx-"))
    return Needs(
        required,
        features - cpu.named("disable", "optional", "force"),
        known.features - cpu.named("disable"),
        known.by_host_model,
        known.vendor,
    )


class _Known(NamedTuple):
    """What a host is known to have for guests of a type: features, or flags of /proc/cpuinfo, or neither.

    ``perhaps`` are features that host-model has by our table, and may not have by the host's own, older one.
    """

    capabilities: DomainCapabilities | None
    features: frozenset[str] | None
    perhaps: frozenset[str]
    flags: frozenset[str] | None
    cut: bool
    vendor: str | None


def _known(host: Host, cpu_map: CpuMap | None, domain_type: DomainType) -> _Known:
    offered = host.stack.capabilities if host.stack is not None else None
    capabilities = offered if offered is not None and offered.domain_type == domain_type else None
    features, perhaps = _host_model(capabilities, cpu_map) if capabilities is not None else (None, frozenset[str]())
    told = capabilities.host_model if capabilities is not None else msgspec.UNSET
    vendor = told.vendor if told is not msgspec.UNSET else None
    if vendor is None and domain_type == "kvm":
        vendor = _vendor(host, cpu_map)
    flags = host.cpu.flags if domain_type == "kvm" and host.cpu.architecture == "x86_64" else None
    cut = flags is not None and cpu_flags.are_cut(flags)
    return _Known(capabilities, features, perhaps, None if flags is None else frozenset(flags), cut, vendor)


def _vendor(host: Host, cpu_map: CpuMap | None) -> str | None:
    if host.cpu.vendor is None or cpu_map is None:
        return None
    return cpu_map.vendors.get(host.cpu.vendor, host.cpu.vendor)


def _host_model(
    capabilities: DomainCapabilities, cpu_map: CpuMap | None
) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The features that host-model certainly gives, and those it may give; None where its model is not known."""
    told = capabilities.host_model
    if told is msgspec.UNSET or cpu_map is None or told.model not in cpu_map.models:
        return None, frozenset()
    model = cpu_map.models[told.model]
    # A libvirt that tells what blocks models knows of all features that were added to its table.
    added = model.added if capabilities.blocking_features is msgspec.UNSET else frozenset[str]()
    certainly = ((model.features - added) | frozenset(told.required)) - frozenset(told.disabled)
    return certainly, added - certainly - frozenset(told.disabled)


def compare(
    cpu: GuestCpu,
    host: Host,
    cpu_map: CpuMap | None,
    *,
    domain_type: DomainType = "kvm",
    source: Host | None = None,
) -> Comparison:
    """Whether a guest of this domain type finds its CPU on a host; ``source`` is the PC it comes from."""
    asked, known = needs(cpu, cpu_map), _known(host, cpu_map, domain_type)
    missing, unknown, basis = _lacks(cpu, asked, known, host, cpu_map)
    offered = _offered(cpu, known.capabilities)
    evidence = [basis]
    if domain_type == "kvm" and host.cpu.architecture != "x86_64":
        offered = False
        evidence.append(f"the processor of {host.name} is {host.cpu.architecture}: no x86 guest runs on it with KVM")
    elif offered is False:
        evidence.append(f"libvirt on {host.name} does not offer CPU {cpu.model if cpu.mode == 'custom' else cpu.mode}")
    if missing:
        evidence.append(f"{host.name} does not have {', '.join(sorted(missing))}")
    if asked.model is None:
        evidence.append(f"CPU model {cpu.model} is not in libvirt's table here, so what it asks for is not known")
    if cpu.check == "none" and missing:
        evidence.append("the domain has check='none': libvirt starts it all the same, without what is missing")
    return Comparison(
        missing=tuple(sorted(missing)),
        unknown=tuple(sorted(unknown)),
        unwanted=tuple(sorted(_unwanted(cpu, asked, known))),
        vendor_differs=_vendor_differs(cpu, known),
        other_vendor=_other_vendor(asked, known, source, cpu_map),
        model_known=asked.model is not None,
        offered=offered,
        identical=_identical(host, source) if cpu.mode == "host-passthrough" and source is not None else None,
        evidence=tuple(evidence),
    )


_Lacks = tuple[frozenset[str], frozenset[str], str]


def _lacks(cpu: GuestCpu, asked: Needs, known: _Known, host: Host, cpu_map: CpuMap | None) -> _Lacks:
    """What is missing, what is unknown, and what tells."""
    capabilities = known.capabilities
    if capabilities is not None and cpu.mode == "custom":
        usable = _listed(capabilities.usable_models, cpu.model)
        if usable and not cpu.named("require", "forbid"):
            return frozenset(), frozenset(), f"QEMU on {host.name} says that CPU model {cpu.model} is usable there"
        blocking = capabilities.blocking_features
        if not asked.by_host_model and (usable or (usable is False and blocking is not msgspec.UNSET)):
            missing, unknown = _split(asked.required, known, host, cpu_map)
            if not usable and blocking is not msgspec.UNSET:
                blocked = asked.blockable & frozenset(blocking)
                # QEMU's model may have features that libvirt's table does not say: then it could be any of these.
                unsaid = frozenset() if blocked else frozenset(blocking) - asked.blockable - cpu.named("disable")
                missing, unknown = missing | blocked, unknown | unsaid
            return missing, unknown, f"QEMU on {host.name} says what CPU model {cpu.model} lacks there"
    missing, unknown = _split(asked.all, known, host, cpu_map)
    return missing, unknown, _basis(known, host)


def _basis(known: _Known, host: Host) -> str:
    told = known.capabilities.host_model if known.capabilities is not None else msgspec.UNSET
    if known.features is not None and told is not msgspec.UNSET:
        return f"libvirt on {host.name} gives {told.model} and {len(told.required)} features more as host-model"
    if known.flags is not None:
        cut = "; they are cut, so one that is not there is unknown" if known.cut else ""
        return f"of {host.name} the flags of /proc/cpuinfo are known{cut}"
    return f"nothing is known of what CPU guests of this type get on {host.name}"


def _split(names: frozenset[str], known: _Known, host: Host, cpu_map: CpuMap | None) -> tuple[frozenset[str], ...]:
    """The names that are missing, and those of which nothing is known."""
    if known.features is not None and cpu_map is not None:
        absent = names - known.features
        unsaid = (absent - cpu_map.features) | (absent & known.perhaps)
        return absent - unsaid, unsaid
    if known.flags is None:
        return frozenset(), names
    missing, unknown = set[str](), set[str]()
    nested, intel = host.kvm.nested, host.cpu.vendor == "GenuineIntel"
    for name in names:
        has = cpu_flags.gives(name, known.flags, nested=nested, intel=intel)
        if has is None or (has is False and known.cut):
            unknown.add(name)
        elif not has:
            missing.add(name)
    return frozenset(missing), frozenset(unknown)


def _listed(models: tuple[str, ...] | msgspec.UnsetType, name: str | None) -> bool | None:
    return None if models is msgspec.UNSET else name in models


def _offered(cpu: GuestCpu, capabilities: DomainCapabilities | None) -> bool | None:
    """Whether the mode is among those offered, and the model among those that QEMU knows."""
    if capabilities is None or not capabilities.cpu_modes:
        return None
    if cpu.mode not in capabilities.cpu_modes:
        return False
    if cpu.mode != "custom":
        return True
    listed = _listed(capabilities.usable_models, cpu.model), _listed(capabilities.unusable_models, cpu.model)
    return None if None in listed else any(listed)


def _unwanted(cpu: GuestCpu, asked: Needs, known: _Known) -> frozenset[str]:
    """What must not be there and is: looked for, as in libvirt, only in comparisons with host-model."""
    if known.features is None or not asked.by_host_model or cpu.mode != "custom":
        return frozenset()
    forbidden = cpu.named("forbid") & known.features
    usable = known.capabilities is not None and _listed(known.capabilities.usable_models, cpu.model)
    if cpu.match != "strict" or asked.model is None or (usable and not cpu.named("require", "forbid")):
        return forbidden
    return forbidden | (known.features - asked.all - asked.blockable - cpu.named("optional", "disable", "force"))


def _vendor_differs(cpu: GuestCpu, known: _Known) -> bool | None:
    if cpu.vendor is None:
        return False
    return None if known.vendor is None else cpu.vendor != known.vendor


def _other_vendor(asked: Needs, known: _Known, source: Host | None, cpu_map: CpuMap | None) -> bool | None:
    came_from = asked.vendor or (_vendor(source, cpu_map) if source is not None else None)
    return None if came_from is None or known.vendor is None else came_from != known.vendor


def _identical(host: Host, source: Host) -> bool | None:
    """Whether two processors are the same: vendor, model name and flags."""
    here, there = host.cpu, source.cpu
    for one, other in ((here.vendor, there.vendor), (here.model, there.model)):
        if one is not None and other is not None and one != other:
            return False
    if here.flags is None or there.flags is None or cpu_flags.are_cut(here.flags) or cpu_flags.are_cut(there.flags):
        return None
    if set(here.flags) != set(there.flags):
        return False
    return None if None in (here.vendor, here.model, there.vendor, there.model) else True


def certain(host: Host, cpu_map: CpuMap | None, domain_type: DomainType = "kvm") -> frozenset[str] | None:
    """All features that guests of this type certainly get on a host; None where nothing is known of it."""
    known = _known(host, cpu_map, domain_type)
    if known.features is not None:
        return known.features
    if known.flags is None:
        return None
    return cpu_flags.given(known.flags, nested=host.kvm.nested, intel=host.cpu.vendor == "GenuineIntel")


def known_vendors(hosts: Iterable[Host], cpu_map: CpuMap | None, domain_type: DomainType) -> frozenset[str | None]:
    """The vendors of several hosts' processors, as guests of this type see them; None among them is unknown."""
    return frozenset(_known(host, cpu_map, domain_type).vendor for host in hosts)

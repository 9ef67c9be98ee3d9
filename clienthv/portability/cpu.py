"""The processor that the guest sees, against the target's.

A running guest has the features that it was started with, and libvirt moves it only where all of them are; one that is
started anew has what its definition asks for, which is less.
"""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.cpu import CpuMap, Feature, GuestCpu
from clienthv.model.domain import DomainFacts
from clienthv.model.host import Host
from clienthv.model.plan import Kind
from clienthv.model.portability import Code, Finding
from clienthv.portability.subject import Findings, Subject, Target, changes, info, stops_live, unknown, warns
from clienthv.strategies import guest_cpu
from clienthv.strategies.guest_cpu import DomainType

_SHOWN: Final = 8
_NOT_MIGRATABLE: Final = "invtsc"  # libvirt, src/cpu_map/x86_features.xml, migratable='no'
_BASELINE: Final = "clienthv migrate-check --baseline names a processor that all targets have"


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against the processor of a definition."""
    domain = subject.domain
    if domain is None or target.host.cpu.architecture != "x86_64":
        return  # of another architecture all is said with that
    if domain.type == "kvm" and target.host.kvm.usable is False:
        yield changes(
            Code.CPU_TYPE,
            "KVM",
            f"{target.called} runs guests by translation alone, many times slower: "
            + ("; ".join(target.host.kvm.evidence[:2]) or "KVM does not work there"),
            "clienthv inspect there says what holds KVM back",
            Kind.CPU,
        )
        return
    kind: DomainType = "kvm" if domain.type == "kvm" else "qemu"
    yield from _at_start(domain, kind, target)
    yield from _while_it_runs(subject, domain, kind, target)
    yield from _enlightenments(domain, target)


def _at_start(domain: DomainFacts, kind: DomainType, target: Target) -> Findings:
    """What a start there would fail of."""
    cpu = domain.cpu
    if cpu is None:
        return
    what = cpu.model or cpu.mode
    if target.cpu_refusal is not None:
        if target.cpu_refusal:
            why = f"libvirt on {target.called} says that it has not {_some(target.cpu_refusal)}"
            yield _refused(what, why, cpu, kind)
        return
    told = guest_cpu.compare(cpu, target.host, target.cpu_map, domain_type=kind)
    if told.offered is False or told.vendor_differs:
        yield changes(Code.CPU_VENDOR if told.vendor_differs else Code.CPU_MODEL_UNKNOWN, what, told.evidence[-1],
                      _BASELINE, Kind.CPU)  # fmt: skip
    elif told.missing or told.unwanted:
        why = f"{target.called} has not {_some(told.missing)}" if told.missing else f"it has {_some(told.unwanted)}"
        yield _refused(what, why, cpu, kind)
    elif (told.unknown or not told.model_known) and _is_checked(cpu, kind):
        why = (
            f"nobody can tell whether {target.called} has {_some(told.unknown)}" if told.unknown else told.evidence[-1]
        )
        yield unknown(Code.CPU_UNKNOWN, what, why)


def _refused(what: str, why: str, cpu: GuestCpu, kind: DomainType) -> Finding:
    """What the host has not, said as gravely as libvirt takes it."""
    tell = changes if _is_checked(cpu, kind) else warns
    return tell(Code.CPU_FEATURES, what, why, _BASELINE, Kind.CPU)


def _is_checked(cpu: GuestCpu, kind: DomainType) -> bool:
    """Whether libvirt refuses a start for want of features: by default not where QEMU translates or takes all there is.

    Source: libvirt, formatdomain, ``check``; src/qemu/qemu_postparse.c, qemuDomainDefCPUPostParse.
    """
    if cpu.mode in ("host-passthrough", "maximum"):  # nothing is compared before they start
        return cpu.check == "full"
    if cpu.check is not None:
        return cpu.check in ("partial", "full")
    return cpu.mode == "host-model" or kind == "kvm"


def _while_it_runs(subject: Subject, domain: DomainFacts, kind: DomainType, target: Target) -> Findings:
    """What holds a running guest back."""
    cpu = subject.running_cpu or domain.cpu
    named = cpu.named("require", "force") if cpu is not None else frozenset()
    if _NOT_MIGRATABLE in named and not domain.steady_clock:
        yield stops_live(
            Code.CPU_NOT_MIGRATABLE,
            _NOT_MIGRATABLE,
            "libvirt does not move a running guest that counts on a steady clock of which the frequency is not fixed",
            "leave it out; or fix it: <timer name='tsc' frequency='HERTZ'/>",
        )
    elif cpu is not None and cpu.mode == "host-passthrough" and cpu.migratable is False and not domain.steady_clock:
        yield stops_live(
            Code.CPU_NOT_MIGRATABLE,
            "migratable='off'",
            "the guest gets what QEMU does not move, such as a steady clock (invtsc)",
            "leave it out: QEMU then hands over what it can move",
        )
    if cpu is not None and cpu.mode == "host-passthrough":
        yield from _passed_through(cpu, subject.source, target)
        return
    seen = cpu if subject.running_cpu is not None else _as_started(cpu, subject.source, kind, target.cpu_map)
    if seen is None:
        if cpu is not None and cpu.mode == "host-model":
            yield unknown(
                Code.CPU_DIFFERS,
                "host-model",
                "which features a running guest has there is not known: the PC that it runs on is not",
                "give its document: --from FILE",
            )
        return
    told = guest_cpu.compare(seen, target.host, target.cpu_map, domain_type=kind)
    missing = told.missing
    if missing:
        yield stops_live(
            Code.CPU_FEATURES,
            f"{cpu.model or cpu.mode}, running" if cpu is not None else "QEMU's default, running",
            f"a running guest has {_some(missing)}, which {target.called} has not",
            "after a shutdown it starts there with what is there",
        )
    elif told.unknown and cpu is not None and cpu.mode != "maximum":
        yield unknown(
            Code.CPU_DIFFERS,
            f"{cpu.model or cpu.mode}, running",
            f"nobody can tell whether {target.called} has {_some(told.unknown)}",
        )


def _as_started(cpu: GuestCpu | None, source: Host | None, kind: DomainType, cpu_map: CpuMap | None) -> GuestCpu | None:
    """The processor that a start on its present PC would give the guest, every feature named; None where unknown."""
    if cpu is None or source is None or cpu.mode == "maximum":
        return None
    has = guest_cpu.certain(source, cpu_map, kind)
    if has is None:
        return None
    if cpu.mode == "host-model":
        wanted = has
    else:
        needs = guest_cpu.needs(cpu, cpu_map)
        if needs.model is None:
            return None
        wanted = needs.all & has
    features = tuple(Feature(name, "require") for name in sorted(wanted - {"hypervisor"}))
    return GuestCpu(mode="custom", model=None, features=features)


def _passed_through(cpu: GuestCpu, source: Host | None, target: Target) -> Findings:
    """The processor as it is: libvirt does not compare it, and a guest that moves to another may crash."""
    told = guest_cpu.compare(cpu, target.host, target.cpu_map, source=source)
    if told.identical:
        yield info(Code.CPU_OF_THE_HOST, "host-passthrough", f"{target.called} has the same processor")
        return
    differs = f"{target.called} has another processor" if told.identical is False else "both must have the same one"
    yield stops_live(
        Code.CPU_OF_THE_HOST,
        "host-passthrough",
        f"the guest uses the processor as it is, and crashes when it moves to another while it runs: {differs}",
        'model = "host-model" or a level of x86-64 in [devices.cpu]; ' + _BASELINE,
    )


def _enlightenments(domain: DomainFacts, target: Target) -> Findings:
    capabilities = target.capabilities
    offered = capabilities.hyperv if capabilities is not None else msgspec.UNSET
    if domain.type != "kvm" or not domain.hyperv or not isinstance(offered, tuple):
        return
    lacking = [name for name in domain.hyperv if name not in offered and name not in ("passthrough",)]
    if lacking:
        yield changes(
            Code.HYPERV,
            "Hyper-V enlightenments",
            f"libvirt does not offer {', '.join(lacking)} there",
            "leave them out there; Windows runs without",
        )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

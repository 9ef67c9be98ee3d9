"""Whether an image, a VM or a definition runs on another PC: every finding, the verdict, and what each device becomes.

Pure: facts in, findings out. Each module of rules yields findings and chooses nothing; ``check`` plans for the target
with what the findings leave of the present devices, and compares.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from clienthv import planner
from clienthv.errors import HostError, PlanError
from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Plan, Reason, Strategy
from clienthv.model.portability import Becomes, Check, Code, Finding, Severity, Verdict, verdict
from clienthv.portability import beyond, cpu, devices, fitting, guest, machine, network, screen, state, storage, today
from clienthv.portability.subject import Subject, Target, Wish, blocks, changes, unknown

__all__ = ["Subject", "Target", "Wish", "check"]

_ORDER = list(Severity)
_SAYS = (Severity.BLOCKS, Severity.CHANGES, Severity.UNKNOWN)
_UNKNOWN = frozenset(reason for reason in Reason if reason.endswith("-unknown"))
"""Reasons that are no more than that a document does not tell."""


def check(subject: Subject, target: Target) -> Check:
    """What becomes of a subject on a target. The same facts give the same answer."""
    if subject.domain is not None and not subject.domain.is_planned:
        return _answer(subject, target, [*machine.findings(subject, target), *_of_the_host(subject, target)], None)
    found = [
        *_software(subject, target),
        *machine.findings(subject, target),
        *cpu.findings(subject, target),
        *_of_the_host(subject, target),
        *screen.findings(subject, target),
        *state.findings(subject, target),
    ]
    wish = subject.ask(target.host)
    plan, problem = _plan(wish, subject, target, found)
    found += guest.findings(subject, target, plan, wish.profile)
    found += [problem] if problem is not None else []
    found += _differences(subject, target, plan, found)
    found += beyond.findings(subject, target, plan, found)
    return _answer(subject, target, found, plan, tuple(_becomes(subject, plan, found)))


def _of_the_host(subject: Subject, target: Target) -> Iterator[Finding]:
    """What a definition needs of any host, whatever runs it: devices, files, networks."""
    yield from devices.findings(subject, target, devices.functions_of(subject.source))
    yield from storage.findings(subject, target)
    yield from network.findings(subject, target)


def _answer(
    subject: Subject, target: Target, found: list[Finding], plan: Plan | None, becomes: tuple[Becomes, ...] = ()
) -> Check:
    ordered = tuple(sorted(dict.fromkeys(found), key=lambda f: _ORDER.index(f.severity)))
    best = Verdict.LIVE if subject.kind in ("vm", "domain") else Verdict.COLD
    return Check(target=target.name, verdict=verdict(ordered, best), findings=ordered, devices=becomes, plan=plan)


def _software(subject: Subject, target: Target) -> Iterator[Finding]:
    """One finding for all that hangs on libvirt and QEMU there, where a document tells nothing of them."""
    if target.capabilities is None:
        more = "" if subject.domain is None else ", and know its machine type and processor model,"
        yield unknown(
            Code.TARGET_SOFTWARE_UNKNOWN,
            f"libvirt and QEMU of {target.called}",
            f"whether they have the firmware, TPM, screen and sound that it gets there{more} is not told",
            "run clienthv inspect --save on that PC, with libvirt running",
        )


def _plan(wish: Wish, subject: Subject, target: Target, found: list[Finding]) -> tuple[Plan | None, Finding | None]:
    """The plan there, without what cannot stay as it is; or why there is none."""
    host = target.host if target.live else _at_rest(target.host)
    broken = {f.device for f in found if f.severity in (Severity.CHANGES, Severity.BLOCKS)}
    kept = wish.kept
    if kept is not None:
        left = {kind: decision for kind, decision in kept.decisions.items() if kind not in broken}
        kept = msgspec.structs.replace(kept, decisions=left)
    # A VM that is there starts by what it has; what would be found in its image beside that may be wrong.
    profile = fitting.fitted(wish.profile, subject.contents) if subject.domain is None else wish.profile
    if Kind.GPU in broken and not subject.ours:
        profile = today.with_a_screen(profile, subject.today)
    try:
        return planner.plan(host, profile, kept=kept, guest=subject.guest), None
    except (PlanError, HostError) as e:
        blocked = any(f.severity is Severity.BLOCKS and f"the {f.device} ladder" in e.message for f in found)
        why = "; ".join(line.strip() for line in e.message.splitlines())
        return None, None if blocked else blocks(Code.NO_PLAN, f"a plan for {target.called}", why, e.hint)


def _at_rest(host: Host) -> Host:
    """A PC without what was momentary when it was recorded: the memory that other programs had then."""
    return msgspec.structs.replace(host, memory=msgspec.structs.replace(host.memory, available_mib=None))


def _differences(subject: Subject, target: Target, plan: Plan | None, found: list[Finding]) -> Iterator[Finding]:
    """Devices that become something else without a finding that says so already."""
    said = {f.device for f in found if f.severity in _SAYS and f.code is not Code.HOST_DEVICE_SAME}
    for kind, now in subject.today.items():
        if plan is None or kind in said:
            continue
        then = plan.of(kind)
        if _is_other(now, then):
            yield _becomes_other(now, then, devices.alike(subject, target, kind))
    if plan is not None and subject.domain is not None and plan.memory_mib < subject.domain.memory_mib and subject.ours:
        yield changes(
            Code.MEMORY,
            f"{subject.domain.memory_mib} MiB",
            f"it gets {plan.memory_mib} MiB there, which its profile allows",
            "close programs there",
        )


def _becomes_other(now: Decision, then: Decision, alike: frozenset[str]) -> Finding:
    """Why a device cannot stay what it is, by what speaks against those that are ``alike`` where there are any."""
    against = [r for r in then.rejected if r.strategy is now.strategy]
    against = [r for r in against if r.device in alike] or against
    why = "; ".join(dict.fromkeys(r.detail for r in against[:3])) or then.why
    if now.kind is Kind.DISPLAY and now.strategy is Strategy.OMIT:
        why = "the card that shows the guest's screen stays behind, and of a virtual one nobody sees it without"
    fix = next((r.fix for r in against if r.fix), None)
    if against and all(r.reason in _UNKNOWN for r in against):
        return unknown(Code.DEVICE_BECOMES, f"{now.kind}: {_words(now)}", why, fix, now.kind)
    return changes(Code.DEVICE_BECOMES, f"{now.kind}: {_words(now)} → {_words(then)}", why, fix, now.kind)


def _is_other(now: Decision, then: Decision) -> bool:
    if now.strategy is not then.strategy:
        return True
    return now.kind is Kind.NIC and then.strategy not in HOST_DEVICES and str(now.network) != str(then.network)


def _becomes(subject: Subject, plan: Plan | None, found: list[Finding]) -> Iterator[Becomes]:
    """Each device today and there, side by side."""
    changed = {f.device for f in found if f.severity in (Severity.CHANGES, Severity.BLOCKS)}
    domain = subject.domain if not subject.ours else None
    more = beyond.more(domain, devices.functions_of(subject.source)) if domain is not None else {}
    for kind in Kind:
        now = subject.today.get(kind)
        then = plan.of(kind) if plan is not None and kind is not Kind.USB_DEVICE else None
        if kind is Kind.USB_DEVICE or (now is None and then is None):
            continue
        is_changed = now is not None and (then is None or kind in changed)
        # What stays is what the definition says, whatever name the planner would give it.
        there = now if now is not None and then is not None and not is_changed and now.device is None else then
        others = f" and {len(more[kind])} more" if kind in more else ""
        yield Becomes(
            kind=kind,
            today=_words(now) + others if now is not None else None,
            there=_words(there) + (others if there is now else "") if there is not None else None,
            changes=is_changed,
        )


def _words(decision: Decision) -> str:
    if decision.strategy is Strategy.OMIT:
        return "none"
    if decision.strategy in HOST_DEVICES or decision.strategy is Strategy.MDEV:
        return f"{decision.strategy}: {decision.backing or decision.device}"
    plugged = f", {decision.network}" if decision.network is not None else ""
    if decision.kind is Kind.DISK and decision.backing.startswith("/dev/"):
        plugged = f", {decision.backing}"
    return f"{decision.strategy}: {decision.model}{plugged}"

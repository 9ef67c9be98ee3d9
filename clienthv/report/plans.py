"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model import values
from clienthv.model.plan import HOST_DEVICES, Decision, Plan, Reason, Rejected, Strategy
from clienthv.model.plans import Plans


def lines(plan: Plan, *, explain: bool = False) -> Iterator[str]:
    """A line for each device; with ``explain``, every rejected rung below it; then host changes and warnings."""
    yield (
        f"Plan for profile {plan.profile} on {plan.host}: "
        f"{plan.vcpus} vCPU{'s' if plan.vcpus > 1 else ''}, {values.format_mib(plan.memory_mib)}"
    )
    yield ""
    kind_width = max(len(d.kind) for d in plan.decisions)
    strategy_width = max(len(d.strategy) for d in plan.decisions)
    for decision in plan.decisions:
        yield f"  {decision.kind:<{kind_width}}  {decision.strategy:<{strategy_width}}  {_what(decision)}"
        told = [r for r in decision.rejected if explain or r.reason is Reason.GIVEN_TO_OTHER_VM]
        yield from (f"  {'':<{kind_width}}  {line}" for r in told for line in _why_not(r))
    yield ""
    yield from _host_changes(plan)
    for warned in plan.warnings:
        yield f"  warning: {warned.detail} [{warned.code}]"
    if not explain and any(d.rejected for d in plan.decisions):
        yield "  clienthv plan --explain shows why each better rung was not taken"


def together(plans: Plans, *, explain: bool = False) -> Iterator[str]:
    """Every VM's plan, one after the other; then who gets what of the host."""
    for member in plans.vms:
        priority = f" (priority {member.priority})" if member.priority else ""
        if member.plan is None:
            yield f"VM {member.name}{priority}: no plan"
            yield from (f"  {line}" for line in (member.problem or "").splitlines())
        else:
            yield f"VM {member.name}{priority}"
            yield from lines(member.plan, explain=explain)
        yield ""
    held = [(_whose(d), m.name, d.name) for m in plans.vms if m.plan is not None for d in _shared_out(m.plan)]
    yield f"Of {plans.host}:" if held else f"Nothing of {plans.host} is handed over."
    yield from (f"  {what} goes to {vm} as {name}" for what, vm, name in held)
    for warned in plans.warnings:
        yield f"  warning: {warned.detail} [{warned.code}]"


def _shared_out(plan: Plan) -> Iterator[Decision]:
    return (d for d in plan.decisions if d.strategy in (*HOST_DEVICES, Strategy.MDEV))


def _whose(decision: Decision) -> str:
    return f"{decision.device} {decision.backing}" if decision.device else decision.backing


def _what(decision: Decision) -> str:
    with_it = [f for f in decision.functions if f != decision.device]
    along = f" (with {', '.join(with_it)})" if with_it else ""
    if decision.device:
        what = f"{decision.device} {decision.backing}{along}: "
    else:
        what = f"{decision.model} on {decision.backing}: " if decision.model != "none" else ""
    rejected = _first_reasons(decision)
    instead = f" — not {rejected}" if rejected else ""
    return f"{what}{decision.why}{instead}"


def _first_reasons(decision: Decision) -> str:
    """The rungs above, and networks not used, each with the first reason that speaks against it."""
    reasons: dict[str, str] = {}
    for rejected in decision.rejected:
        # Within the rung that was taken, it is a network that the card was not plugged into.
        here = rejected.strategy is decision.strategy and decision.device is None and rejected.device
        reasons.setdefault(here or rejected.strategy.value, rejected.reason.value)
    return ", ".join(f"{strategy} [{reason}]" for strategy, reason in reasons.items())


def _why_not(rejected: Rejected) -> Iterator[str]:
    device = f" {rejected.device}" if rejected.device else ""
    yield f"not {rejected.strategy}{device}: {rejected.detail} [{rejected.reason}]"
    if rejected.fix:
        yield f"    to change that: {rejected.fix}"


def _host_changes(plan: Plan) -> Iterator[str]:
    if not plan.host_changes:
        yield "  up changes nothing on the host"
        return
    yield "  up changes on the host, while the VM runs:"
    for change in plan.host_changes:
        yield f"    {change.detail}; {change.undo}"

"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model import values
from clienthv.model.plan import Decision, Plan, Rejected


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
        if explain:
            yield from (f"  {'':<{kind_width}}  {line}" for r in decision.rejected for line in _why_not(r))
    yield ""
    yield from _host_changes(plan)
    for warned in plan.warnings:
        yield f"  warning: {warned.detail} [{warned.code}]"
    if not explain and any(d.rejected for d in plan.decisions):
        yield "  clienthv plan --explain shows why each better rung was not taken"


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
    """The rungs above, each with the first reason that speaks against it."""
    reasons: dict[str, str] = {}
    for rejected in decision.rejected:
        reasons.setdefault(rejected.strategy.value, rejected.reason.value)
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

"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model import values
from clienthv.model.plan import HOST_DEVICES, Decision, Plan, Reason, Rejected, Strategy, Warned
from clienthv.model.plans import Plans
from clienthv.report.style import Line, Part, Role, below, marked


def lines(plan: Plan, *, explain: bool = False) -> Iterator[str]:
    """A line for each device; with ``explain``, every rejected rung below it; then host changes and warnings."""
    yield Line(Part(f"Plan for profile {plan.profile} on {plan.host}:", Role.HEADING), f" {size(plan)}")
    yield ""
    kind_width = max(len(d.kind) for d in plan.decisions)
    strategy_width = max(len(d.strategy) for d in plan.decisions)
    for decision in plan.decisions:
        strategy = Part(f"{decision.strategy:<{strategy_width}}", _taken(decision))
        hang = kind_width + strategy_width + 6
        yield Line(f"  {decision.kind:<{kind_width}}  ", strategy, "  ", marked(what(decision)), hang=hang)
        told = [r for r in decision.rejected if explain or r.reason is Reason.GIVEN_TO_OTHER_VM]
        yield from (below(line, kind_width + 4) for r in told for line in why_not(r))
    yield ""
    yield from _host_changes(plan)
    for warned in plan.warnings:
        yield warning(warned)
    if not explain and any(d.rejected for d in plan.decisions):
        yield Line("  ", Part("clienthv plan --explain", Role.COMMAND), " shows why each better rung was not taken")


def warning(warned: Warned) -> Line:
    """A warning of a plan."""
    return Line("  ", Part("warning:", Role.WARNING), " ", marked(f"{warned.detail} [{warned.code}]"), hang=11)


def _taken(decision: Decision) -> Role:
    """Whether it is the best rung of the ladder: whether a rung above was refused."""
    return Role.WORSE if any(r.strategy is not decision.strategy for r in decision.rejected) else Role.GOOD


def size(plan: Plan) -> str:
    """Virtual processors and memory."""
    return f"{plan.vcpus} vCPU{'s' if plan.vcpus > 1 else ''}, {values.format_mib(plan.memory_mib)}"


def together(plans: Plans, *, explain: bool = False) -> Iterator[str]:
    """Every VM's plan, one after the other; then who gets what of the host."""
    for member in plans.vms:
        priority = f" (priority {member.priority})" if member.priority else ""
        if member.plan is None:
            yield Line(Part(f"VM {member.name}{priority}:", Role.HEADING), " ", Part("no plan", Role.BAD))
            yield from (f"  {line}" for line in (member.problem or "").splitlines())
        else:
            yield Line(Part(f"VM {member.name}{priority}", Role.HEADING))
            yield from lines(member.plan, explain=explain)
        yield ""
    held = [(_whose(d), m.name, d.name) for m in plans.vms if m.plan is not None for d in _shared_out(m.plan)]
    yield f"Of {plans.host}:" if held else f"Nothing of {plans.host} is handed over."
    yield from (f"  {what} goes to {vm} as {name}" for what, vm, name in held)
    for warned in plans.warnings:
        yield warning(warned)


def _shared_out(plan: Plan) -> Iterator[Decision]:
    return (d for d in plan.decisions if d.strategy in (*HOST_DEVICES, Strategy.MDEV))


def _whose(decision: Decision) -> str:
    return f"{decision.device} {decision.backing}" if decision.device else decision.backing


def what(decision: Decision) -> str:
    """What a device becomes, why, and in a word why not anything better."""
    with_it = [f for f in decision.functions if f != decision.device]
    along = f" (with {', '.join(with_it)})" if with_it else ""
    if decision.device:
        given = f"{decision.device} {decision.backing}{along}: "
    else:
        given = f"{decision.model} on {decision.backing}: " if decision.model != "none" else ""
    rejected = _first_reasons(decision)
    instead = f" — not {rejected}" if rejected else ""
    return f"{given}{decision.why}{instead}"


def _first_reasons(decision: Decision) -> str:
    """The rungs above, and networks not used, each with the first reason that speaks against it."""
    reasons: dict[str, str] = {}
    for rejected in decision.rejected:
        # Within the rung that was taken, it is a network that the card was not plugged into.
        here = rejected.strategy is decision.strategy and decision.device is None and rejected.device
        reasons.setdefault(here or rejected.strategy.value, rejected.reason.value)
    return ", ".join(f"{strategy} [{reason}]" for strategy, reason in reasons.items())


def why_not(rejected: Rejected) -> Iterator[str]:
    """Why a rung was not taken, and what would change that."""
    device = f" {rejected.device}" if rejected.device else ""
    no = Part(f"not {rejected.strategy}", Role.BAD)
    yield Line(no, marked(f"{device}: {rejected.detail} [{rejected.reason}]"), hang=4)
    if rejected.fix:
        yield Line("    ", Part("to change that:", Role.GOOD), " ", marked(rejected.fix), hang=8)


def _host_changes(plan: Plan) -> Iterator[str]:
    if not plan.host_changes:
        yield "  up changes nothing on the host"
        return
    yield "  up changes on the host, while the VM runs:"
    for change in plan.host_changes:
        yield marked(f"    {change.detail}; {change.undo}", hang=8)

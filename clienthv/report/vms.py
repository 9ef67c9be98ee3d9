"""VMs as facts, and as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import UNSET

from clienthv.model.plan import Decision, Plan
from clienthv.model.vms import Attached, VmFacts
from clienthv.report.style import Line, Part, Role, marked

_FIRST = re.compile(r"(?<![0-9])0$")  # most kinds have one device, which needs no number


def facts(
    name: str, state: str | None, why: str, plan: Plan | None, problem: str | None, left_behind: Sequence[str] = (),
    attached: Sequence[Decision] = (), *, whole: bool = False,
) -> VmFacts:  # fmt: skip
    """What is said of one VM: its state, its profile, the strategy of each device, what it left on the host and got.

    ``whole`` keeps the plan with it.
    """
    return VmFacts(
        name=name,
        state=state or "not there",
        why=why or None,
        profile=plan.profile if plan is not None else None,
        strategies={d.name: d.strategy for d in plan.decisions} if plan is not None else None,
        problem=problem,
        left_behind=tuple(left_behind),
        attached=tuple(Attached(kind=d.kind, strategy=d.strategy, device=d.device) for d in attached),
        plan=plan if whole else UNSET,
    )


def table(rows: Sequence[VmFacts]) -> Iterator[str]:
    """One line for each VM, and its devices below."""
    if not rows:
        yield "there are no VMs here; clienthv up PROFILE makes one"
        return
    width = max(len("NAME"), *(len(r.name) for r in rows))
    yield Line(Part(f"{'NAME':<{width}}  {'STATE':<12}  PROFILE", Role.HEADING))
    for row in rows:
        state = row.state + (f" ({row.why})" if row.why else "")
        of = row.profile or row.problem or ("" if row.state == "not there" else "not made by clienthv")
        shown = Part(f"{state:<12}", Role.GOOD if row.state == "running" else None)
        yield Line(f"{row.name:<{width}}  ", shown, f"  {of}", hang=width + 16)
        if row.strategies:
            devices = ", ".join(f"{_FIRST.sub('', name)} {strategy}" for name, strategy in row.strategies.items())
            yield Line(f"{'':<{width}}  {devices}", hang=width + 2)
        if row.attached:
            devices = ", ".join(f"{d.kind} {d.strategy} {d.device}" for d in row.attached)
            yield marked(f"{'':<{width}}  attached until it stops: {devices}", hang=width + 6)
        if row.left_behind:
            command = Part(f"clienthv down {row.name}", Role.COMMAND)
            warned = Part("still holds changes on the host;", Role.WARNING)
            yield Line(f"{'':<{width}}  ", warned, " ", command, " takes them back:", hang=width + 6)
            yield from (marked(f"{'':<{width}}    {sentence}", hang=width + 8) for sentence in row.left_behind)

"""What a fleet of PCs has in common, in text."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model import x86_64
from clienthv.model.fleet import Fleet, Member
from clienthv.report.style import Line, Part, Role


def lines(fleet: Fleet) -> Iterator[str]:
    """Each PC's level of x86-64, then the highest that all have, and what keeps them from the next."""
    width = max(len(pc.name) for pc in fleet.pcs)
    for pc in fleet.pcs:
        yield Line(f"  {pc.name:<{width}}  ", Part(_level(pc), None if pc.known else Role.UNKNOWN), hang=width + 4)
    unknown = [pc.name for pc in fleet.pcs if not pc.known]
    if unknown:
        yield f"The highest level that all share is unknown: no CPU flags in {', '.join(unknown)}"
        return
    if fleet.shared is None:
        yield "They share no level: one of them is no 64-bit PC"
        return
    setting = Part(f'[devices.cpu] model = "{fleet.shared}"', Role.COMMAND)
    yield Line(Part(f"The highest level that all share is {fleet.shared}:", Role.HEADING), " ", setting)
    if fleet.shared != x86_64.LEVELS[-1]:
        above = x86_64.LEVELS[x86_64.LEVELS.index(fleet.shared) + 1]
        yield from (f"  {pc.name} is no {above}: it has not {' '.join(pc.lacks)}" for pc in fleet.pcs if pc.lacks)


def _level(pc: Member) -> str:
    return (pc.level or "none") if pc.known else "unknown (no CPU flags in its document)"

"""What a fleet of PCs has in common, in text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clienthv.model import x86_64
from clienthv.model.host import Host
from clienthv.report.style import Line, Part, Role


def lines(hosts: Sequence[Host], names: Sequence[str]) -> Iterator[str]:
    """Each PC's level of x86-64, then the highest that all have, and what keeps them from the next."""
    width = max(len(name) for name in names)
    for host, name in zip(hosts, names, strict=True):
        level = Part(_level(host), Role.UNKNOWN if host.cpu.flags is None else None)
        yield Line(f"  {name:<{width}}  ", level, hang=width + 4)
    unknown = [name for host, name in zip(hosts, names, strict=True) if host.cpu.flags is None]
    if unknown:
        yield f"The highest level that all share is unknown: no CPU flags in {', '.join(unknown)}"
        return
    levels = [x86_64.level_of(host.cpu.flags or ()) for host in hosts]
    shared = next((at for at in x86_64.LEVELS if at in levels), None) if None not in levels else None
    if shared is None:
        yield "They share no level: one of them is no 64-bit PC"
        return
    setting = Part(f'[devices.cpu] model = "{shared}"', Role.COMMAND)
    yield Line(Part(f"The highest level that all share is {shared}:", Role.HEADING), " ", setting)
    if shared != x86_64.LEVELS[-1]:
        above = x86_64.LEVELS[x86_64.LEVELS.index(shared) + 1]
        yield from (
            f"  {name} is no {above}: it has not {' '.join(lacking)}"
            for host, name in zip(hosts, names, strict=True)
            if (lacking := x86_64.missing(above, host.cpu.flags or ()))
        )


def _level(host: Host) -> str:
    if host.cpu.flags is None:
        return "unknown (no CPU flags in its document)"
    return x86_64.level_of(host.cpu.flags) or "none"

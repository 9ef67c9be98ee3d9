"""The fleet document: which level of x86-64 each of several PCs has, and which they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model import x86_64
from clienthv.model.host import Host
from clienthv.model.values import as_json
from clienthv.model.x86_64 import Level

SCHEMA: Final = 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One PC, by the name it was given under.

    ``level`` is None for a processor below the first level, and where ``known`` is false. ``lacks`` are the CPU flags
    (by the names of /proc/cpuinfo) that keep it from the level above the shared one.
    """

    name: str
    known: bool
    level: Level | None
    lacks: tuple[str, ...] = ()


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All of them in the order they were named, and the highest level that all have; None where that is unknown."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["fleet"] = "fleet"
    pcs: tuple[Member, ...]
    shared: Level | None


def of(hosts: Sequence[Host], names: Sequence[str]) -> Fleet:
    """The fleet of these PCs. One whose CPU flags are unknown leaves the shared level unknown."""
    levels = [None if host.cpu.flags is None else x86_64.level_of(host.cpu.flags) for host in hosts]
    shared = None if None in levels else next((at for at in x86_64.LEVELS if at in levels), None)
    above = _above(shared)
    return Fleet(
        shared=shared,
        pcs=tuple(
            Member(
                name=name,
                known=host.cpu.flags is not None,
                level=level,
                lacks=x86_64.missing(above, host.cpu.flags or ()) if above is not None else (),
            )
            for host, name, level in zip(hosts, names, levels, strict=True)
        ),
    )


def _above(level: Level | None) -> Level | None:
    if level is None or level == x86_64.LEVELS[-1]:
        return None
    return x86_64.LEVELS[x86_64.LEVELS.index(level) + 1]


def encode(fleet: Fleet) -> bytes:
    """The fleet document as indented JSON with a final newline; the same fleet gives the same bytes."""
    return as_json(fleet)

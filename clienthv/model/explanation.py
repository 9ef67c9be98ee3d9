"""The explanation document: the ladder of one device as a story, every rung with the files that speak of it."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.advice import Evidence
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.values import as_json

SCHEMA: Final = 1


@unique
class Place(StrEnum):
    """Where a rung stands: better than what was taken, taken, or what it would fall to."""

    BETTER = "better"
    TAKEN = "taken"
    BELOW = "below"


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that speaks against a way: its reason, a sentence, where it shows, and the change that lifts it.

    ``evidence`` is empty where the reason is no fact of the host.
    """

    reason: Reason
    detail: str
    fix: str | None
    evidence: tuple[Evidence, ...]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A way to carry out a strategy that is not possible: what it would rest on, if anything, and all against it."""

    device: str | None
    name: str | None
    objections: tuple[Objection, ...]


class Possible(msgspec.Struct, frozen=True, kw_only=True):
    """A way that is possible, in the words of a plan's decision, and where what it rests on shows."""

    device: str | None
    functions: tuple[str, ...]
    model: str
    backing: str
    why: str
    evidence: tuple[Evidence, ...]


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy of the ladder, with the ways that were refused and those that are possible, in their order.

    The rung that is ``taken`` has one possible way, the plan's. What comes after that on the same strategy stands in
    a rung of its own, ``below``.
    """

    strategy: Strategy
    place: Place
    refused: tuple[Refused, ...]
    possible: tuple[Possible, ...]


class Portable(msgspec.Struct, frozen=True, kw_only=True):
    """What ties the device to this PC, and the change to the profile that would untie it, where there is one."""

    detail: str
    change: str | None


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """The ladder of one device of the VM, from the best rung down.

    ``device`` and ``name`` are its kind and its name in the plan. ``taken`` is the strategy that it has. ``cut_short``
    is whether more ways are possible than are listed. ``unasked`` are strategies nearer to the hardware than the taken
    one that the profile's ladder does not have.
    """

    device: Kind
    name: str
    taken: Strategy
    rungs: tuple[Rung, ...]
    cut_short: bool
    unasked: tuple[Strategy, ...]
    portable: Portable


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer: ``profile`` on ``host``, for the VM ``vm`` where there is one of that name."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["explanation"] = "explanation"
    vm: str | None
    profile: str
    host: str
    ladders: tuple[Ladder, ...]


def encode(explanation: Explanation) -> bytes:
    """The document as indented JSON with a final newline; the same explanation gives the same bytes."""
    return as_json(explanation)

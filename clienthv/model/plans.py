"""The plans document: several VMs that can run together on one host."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.plan import Plan, Warned
from clienthv.model.values import as_json

SCHEMA: Final = 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One VM: its plan, or the problem why there is none; ``claims`` is what no other VM can have beside it."""

    name: str
    priority: int
    plan: Plan | None
    problem: str | None
    claims: tuple[str, ...]


class Plans(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer for several VMs on one host, in the order they were asked for."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["plans"] = "plans"
    host: str
    vms: tuple[Member, ...]
    warnings: tuple[Warned, ...]


def encode(plans: Plans) -> bytes:
    """The plans document as indented JSON with a final newline; the same plans give the same bytes."""
    return as_json(plans)

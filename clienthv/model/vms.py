"""The vms document: the VMs of a connection, what each device became, and what they have of the host."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.values import as_json

SCHEMA: Final = 1


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the host that a running VM has got since it started."""

    kind: Kind
    strategy: Strategy
    device: str | None


class VmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one VM.

    ``state`` is libvirt's word, "not there" for a VM that is gone and has left changes on the host; ``why`` libvirt's
    reason for it. ``profile`` and ``strategies`` (by the names of the devices) are None for a VM that clienthv did not
    make or whose metadata cannot be read, which is the ``problem`` then. ``left_behind`` is a sentence for each change
    on the host that a VM which does not run still holds. ``plan`` is given for a single VM alone, by ``status``.
    """

    name: str
    state: str
    why: str | None
    profile: str | None
    strategies: dict[str, Strategy] | None
    problem: str | None
    left_behind: tuple[str, ...]
    attached: tuple[Attached, ...]
    plan: Plan | UnsetType | None = UNSET


class Vms(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, by name: all VMs of ``list``, the one of ``status``."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["vms"] = "vms"
    vms: tuple[VmFacts, ...]


def encode(vms: Vms) -> bytes:
    """The vms document as indented JSON with a final newline."""
    return as_json(vms)

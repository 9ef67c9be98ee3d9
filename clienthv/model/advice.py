"""The doctor document: what a PC can do, what holds it back, and the smallest change for each."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.plan import Kind, Strategy
from clienthv.model.values import as_json

SCHEMA: Final = 1


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One fact as a person finds it: the file or command that shows it, and what it says there.

    ``value`` is "absent" where the file is not there, "unknown" where nobody read it.
    """

    file: str
    value: str


@unique
class After(StrEnum):
    """What has to happen before a change shows."""

    NOTHING = "nothing"
    LOGIN = "login"
    REBOOT = "reboot"


class Unlocks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rung of a profile's ladder that nothing else speaks against once the change is made.

    ``device`` is the PCI function or USB device it would rest on, if any. ``also`` are the codes of other advice that
    is needed with this one.
    """

    profile: str
    kind: Kind
    strategy: Strategy
    device: str | None = None
    also: tuple[str, ...] = ()


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One change that would let this PC do more.

    ``code`` is stable and explained in docs/reference/doctor.md. ``title`` is the change in one sentence, ``detail``
    why it is needed, ``steps`` how a person makes it, one sentence or command each. ``fixable`` is whether
    ``clienthv doctor --fix`` makes it on this PC; ``after`` what has to happen before it shows.
    """

    code: str
    title: str
    detail: str
    evidence: tuple[Evidence, ...] = ()
    steps: tuple[str, ...] = ()
    fixable: bool = False
    after: After = After.NOTHING
    unlocks: tuple[Unlocks, ...] = ()


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a PC may be able to do; ``able`` is None where that is unknown."""

    code: str
    title: str
    able: bool | None
    detail: str
    evidence: tuple[Evidence, ...] = ()


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What one PC can do, and the advice for it, that which unlocks most first."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["doctor"] = "doctor"
    host: str
    profiles: tuple[str, ...]
    abilities: tuple[Ability, ...]
    advice: tuple[Advice, ...]


def encode(diagnosis: Diagnosis) -> bytes:
    """The document as indented JSON with a final newline; the same diagnosis gives the same bytes."""
    return as_json(diagnosis)

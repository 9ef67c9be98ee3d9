"""The devices document: for every PCI function of a PC whether a guest can get it, and why not."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.plan import Kind, Rejected, Warned
from clienthv.model.values import Address, Count, as_json

SCHEMA: Final = 1


@unique
class Verdict(StrEnum):
    """Whether a function can be handed over as the PC is now: on its own, with others only, or not."""

    YES = "yes"
    YES_WITH = "yes-with"
    NO = "no"


@unique
class Reset(StrEnum):
    """Whether a function works again after a guest has had it: always, not before the PC is restarted, or who knows."""

    RESTARTABLE = "restartable"
    ONCE_PER_BOOT = "once-per-boot"
    UNKNOWN = "unknown"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One PCI function that is no bridge.

    ``along`` are the addresses of the other functions that go with it, empty where the verdict is no. ``serves_as``
    is the kind of device that a profile can name it for; None where there is none, and it can only move with another.
    ``objections`` is everything that speaks against it, empty unless the verdict is no. ``reset`` is whether a VM
    that has it can be started again.
    """

    address: Address
    iommu_group: Count | None
    name: str
    verdict: Verdict
    along: tuple[Address, ...]
    serves_as: Kind | None
    objections: tuple[Rejected, ...]
    reset: Reset = Reset.UNKNOWN


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer for one host, in address order. ``warnings`` is what every yes hangs on."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["devices"] = "devices"
    host: str
    devices: tuple[Device, ...]
    warnings: tuple[Warned, ...]


def encode(devices: Devices) -> bytes:
    """The devices document as indented JSON with a final newline; the same devices give the same bytes."""
    return as_json(devices)

"""A guest's processor and a host's, in libvirt's words."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

Mode = Literal["custom", "host-model", "host-passthrough", "maximum"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


class Feature(msgspec.Struct, frozen=True):
    """One feature of a guest's processor by libvirt's name, and its policy."""

    name: str
    policy: str = "require"


class GuestCpu(msgspec.Struct, frozen=True, kw_only=True):
    """The ``<cpu>`` of a domain."""

    mode: Mode | None = None
    match: str = "exact"
    check: str | None = None
    model: str | None = None
    vendor: str | None = None
    fallback: str | None = None
    features: tuple[Feature, ...] = ()
    migratable: bool = True


class CpuMap(msgspec.Struct, frozen=True):
    """Stand-in."""

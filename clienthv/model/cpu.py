"""A guest's CPU as a domain asks for it, what a hypervisor offers for it, and libvirt's table of CPU models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.x86_64 import Level

SCHEMA: Final = 1  # of the baseline document

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Mode = Literal["host-passthrough", "host-model", "maximum", "custom"]
Match = Literal["exact", "minimum", "strict"]
Check = Literal["none", "partial", "full"]
Policy = Literal["force", "require", "optional", "disable", "forbid"]


class Feature(msgspec.Struct, frozen=True):
    """A feature that a CPU description names, and what is to become of it (libvirt, domain format, "cpu")."""

    name: Name
    policy: Policy = "require"


class GuestCpu(msgspec.Struct, frozen=True, kw_only=True):
    """The ``<cpu>`` of a domain (libvirt, domain format, "cpu").

    ``model`` is known of mode custom alone. ``vendor`` is the one that the host must have. ``check`` is None where the
    domain leaves it to libvirt; ``migratable`` is None where it says nothing.
    """

    mode: Mode = "custom"
    match: Match = "exact"
    check: Check | None = None
    model: Name | None = None
    vendor: Name | None = None
    fallback: Literal["allow", "forbid"] | None = None
    features: tuple[Feature, ...] = ()
    migratable: bool | None = None

    def named(self, *policies: Policy) -> frozenset[str]:
        """The names of the features with one of these policies."""
        return frozenset(feature.name for feature in self.features if feature.policy in policies)


class HostModel(msgspec.Struct, frozen=True, kw_only=True):
    """The CPU that host-model gives: a named model, the features it has beyond that, and those it lacks.

    Source: libvirt, domain capabilities format, "CPU configuration".
    """

    model: str
    vendor: str | None = None
    required: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


class CpuModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of libvirt's table, with what it has from the model it is made from.

    ``added`` are features that QEMU's model always had and libvirt learned of later; libvirt does not ask a host for
    them. ``by_host_model`` is whether libvirt compares the model with the host-model CPU of the host; of the others
    it asks QEMU what they lack (libvirt, src/cpu_map, ``<check partial='compat'/>``).
    """

    vendor: str | None = None
    features: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    by_host_model: bool = True


class CpuMap(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """libvirt's table of x86 CPU models: what each has, and all features there are, by libvirt's names.

    ``vendors`` are libvirt's names by those of CPUID ("GenuineIntel"). ``msr_features`` are told by model specific
    registers, and by no flag of /proc/cpuinfo. A map is equal to itself alone.
    """

    models: Mapping[str, CpuModel]
    features: frozenset[str]
    msr_features: frozenset[str] = frozenset()
    vendors: Mapping[str, str] = {}


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The CPU that several PCs have in common, with the names of those it stands for and of those left out.

    ``cpu`` is None where no model of libvirt's table runs on all of them, or there is no table. ``features`` are all
    that the guest would have. ``level`` is the highest of x86-64 that all have, None below the first or where nothing
    is known.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["baseline"] = "baseline"
    cpu: GuestCpu | None = None
    level: Level | None = None
    features: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()

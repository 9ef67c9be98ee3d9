"""A VM: what the user asked for beyond the profile, and what the guest has already seen and must see again."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.identity import Identity
from clienthv.model.plan import Plan, Strategy
from clienthv.model.profile import ProfileText

SCHEMA: Final = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What ``up`` was given besides the profile: absolute paths, and the image's format (qcow2 or raw)."""

    disk: str | None = None
    disk_format: str | None = None
    cdrom: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """What lies below the image: whether it can be read past the page cache, and whether it is a block device."""

    direct: bool = False
    block_device: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest knows of its machine from earlier starts; None where it never started."""

    uuid: str | None = None
    mac: str | None = None
    machine: str | None = None
    nvram: str | None = None
    firmware: Strategy | None = None
    disk: Strategy | None = None


class Vm(msgspec.Struct, frozen=True, kw_only=True):
    """All that a domain is rendered from."""

    name: str
    plan: Plan
    profile: tuple[ProfileText, ...]
    options: Options = Options()
    storage: Storage = Storage()
    seen: Seen = Seen()
    hardware: tuple[Identity, ...] = ()

"""A profile made to fit what is inside an image: the firmware that it boots by, and a disk that it has a driver for."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.contents import ImageContents
from clienthv.model.plan import Kind, Strategy
from clienthv.model.profile import Profile

_PARAVIRTUAL: Final = ("virtio-blk", "virtio-scsi")
_EMULATED: Final = ("ahci", "ide")


def fitted(profile: Profile, contents: ImageContents | None) -> Profile:
    """The profile without the rungs that the image certainly does not start from, unless none would be left."""
    if contents is None or contents.problem is not None:
        return profile
    profile = _without(profile, Kind.FIRMWARE, _firmware_left_out(contents))
    return _without(profile, Kind.DISK, _disks_left_out(profile, contents))


def _firmware_left_out(contents: ImageContents) -> frozenset[Strategy]:
    left_out = set()
    if contents.uefi is False:
        left_out |= {Strategy.UEFI, Strategy.UEFI_SECURE_BOOT}
    if contents.bios is False:
        left_out.add(Strategy.BIOS)
    return frozenset(left_out)


def _disks_left_out(profile: Profile, contents: ImageContents) -> frozenset[Strategy]:
    bus = profile.device(Kind.DISK).bus or "virtio-blk"
    left_out = set()
    if contents.boots_from(bus) is False:
        left_out.add(Strategy.PARAVIRTUAL)
    if all(contents.boots_from(driver) is False for driver in _EMULATED):
        left_out.add(Strategy.EMULATED)
    return frozenset(left_out)


def _without(profile: Profile, kind: Kind, left_out: frozenset[Strategy]) -> Profile:
    ladder = profile.ladder(kind)
    left = tuple(strategy for strategy in ladder if strategy not in left_out)
    if kind is Kind.FIRMWARE and not left and left_out:
        left = (Strategy.BIOS,) if Strategy.UEFI in left_out else (Strategy.UEFI,)
    if kind is Kind.DISK and left_out == {Strategy.PARAVIRTUAL} and not left:
        left = (Strategy.EMULATED,)
    if not left or left == ladder:
        return profile
    table = msgspec.structs.replace(profile.device(kind), prefer=left, require=())
    return msgspec.structs.replace(profile, devices=msgspec.structs.replace(profile.devices, **{kind.value: table}))

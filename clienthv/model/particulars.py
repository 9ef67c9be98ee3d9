"""What is known of some PCI functions alone: reserved memory, large BARs, who has them open, mediated devices."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from clienthv.model.values import Count

LABEL_LENGTH: Final = 100
MDEV_TYPE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$(?!\n)"

MemoryRange = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{1,16}-0x[0-9a-f]{1,16}$(?!\n)")]
FirmwareLabel = Annotated[str, Meta(max_length=LABEL_LENGTH)]
ProgramName = Annotated[str, Meta(max_length=64)]
MdevTypeId = Annotated[str, Meta(pattern=MDEV_TYPE_PATTERN)]


class MdevType(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A kind of mediated device that a function can be shared as, and how many more there can be.

    ``writable`` is whether the user who read this may make one. Source: kernel,
    Documentation/driver-api/vfio-mediated-device.rst.
    """

    id: MdevTypeId
    name: Annotated[str, Meta(max_length=200)] | None = None
    description: Annotated[str, Meta(max_length=500)] | None = None
    available: Count | None = None
    api: Annotated[str, Meta(max_length=40)] | None = None
    writable: bool | None = None


class Mdev(msgspec.Struct, frozen=True, kw_only=True):
    """A mediated device that there is. An anonymised document has no UUID of it."""

    uuid: Annotated[str, Meta(max_length=40)]
    type: MdevTypeId


class Particulars(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts that most functions do not have. None means unknown, and is not written.

    ``reserved_memory`` are the ranges that firmware wants mapped one to one for the function's IOMMU group,
    ``mmio64_mib`` is the size of its 64-bit BARs together, ``framebuffer`` who holds memory of it for the screen that
    firmware left ("": nobody), ``holders`` the programs that have it open (of GPUs and sound cards),
    ``firmware_label`` what firmware calls it, ``mdev_types`` what it can be shared as, ``mdevs`` the mediated
    devices that there are of it.
    """

    reserved_memory: tuple[MemoryRange, ...] | None = None
    mmio64_mib: Count | None = None
    framebuffer: ProgramName | None = None
    holders: tuple[ProgramName, ...] | None = None
    firmware_label: FirmwareLabel | None = None
    mdev_types: tuple[MdevType, ...] | None = None
    mdevs: tuple[Mdev, ...] | None = None


NOTHING: Final = Particulars()

"""What is inside a disk image: the operating system, what it can boot from, and what it is tied to."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

SCHEMA: Final = 1

Answer = bool | None
"""None means that nobody could tell."""


DriverName = Literal["virtio-blk", "virtio-scsi", "ahci", "ide", "nvme"]


class BootDriver(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the system can start from a disk of one kind: its driver is there before the disk is.

    For Linux that is the kernel itself or the initial RAM disk of every kernel that is installed; for Windows a
    service that starts at boot (``Start`` is 0: Microsoft, "CM_SERVICE_LOAD_TYPES", SERVICE_BOOT_START).
    ``evidence`` says what was looked at.
    """

    driver: DriverName
    bootable: Answer
    evidence: str


class ImageContents(msgspec.Struct, frozen=True, kw_only=True):
    """One image's first operating system; fields are None where nobody could tell.

    ``os`` is its osinfo id where libguestfs knows one; ``family`` linux, windows or other; ``bootable`` whether there
    is something to boot at all (a kernel and a boot loader, or the Windows boot manager), ``uefi`` and ``bios`` by
    which firmware. ``network_drivers`` are virtio ("virtio-net") and others it has; ``gpu_drivers`` those of vendors
    that were installed besides those of the system (nvidia, amd, intel). ``tied_to`` are sentences on what is bound to
    hardware that may be gone: a network interface by its MAC address, Xorg by a PCI address, fstab by a device name.
    ``hibernated`` and ``dirty`` name file systems. ``problem`` is why nothing more is known.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["image-contents"] = "image-contents"
    os: str | None = None
    family: Literal["windows", "linux", "other"] | None = None
    product: str | None = None
    version: str | None = None
    architecture: str | None = None
    bootable: Answer = None
    uefi: Answer = None
    bios: Answer = None
    boot_drivers: tuple[BootDriver, ...] = ()
    network_drivers: tuple[str, ...] | None = None
    gpu_drivers: tuple[str, ...] | None = None
    tied_to: tuple[str, ...] = ()
    hibernated: tuple[str, ...] | None = None
    dirty: tuple[str, ...] | None = None
    cloud_init: Answer = None
    guest_agent: Answer = None
    evidence: tuple[str, ...] = ()
    problem: str | None = None

    def boots_from(self, driver: str) -> Answer:
        """Whether it starts from a disk of this kind."""
        return next((d.bootable for d in self.boot_drivers if d.driver == driver), None)

"""What the program that looks inside an image says, as types with bounds: it speaks of a stranger's image."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MOST: Final = 16 << 20
"""Bytes of the document: twelve kernels with lists of modules are about 2 MiB."""

Word = Annotated[str, Meta(max_length=400)]
Hex = Annotated[str, Meta(max_length=2048, pattern=r"^([0-9a-f]{2})*$")]
Text = Annotated[str, Meta(max_length=64 << 10)]


class Partition(msgspec.Struct, frozen=True):
    """A partition: its number, its type (a GUID, or the number of the MBR's), and its first sector."""

    number: int
    type: Word
    active: bool
    start: Hex


class Disk(msgspec.Struct, frozen=True):
    """The disk itself: its partition table and its first 1024 bytes."""

    table: Literal["gpt", "msdos"] | None
    first: Hex
    partitions: Annotated[tuple[Partition, ...], Meta(max_length=400)]


class FileSystem(msgspec.Struct, frozen=True):
    """A file system: the bytes that tell its state, NTFS's record of $Volume, and what a firmware starts from it.

    ``loaders`` is None where it could not be read, ``kernels`` are those of Linux on a FAT. ``hibernation`` is the head
    of hiberfil.sys, empty where there is none, None where nobody could tell.
    """

    device: Word
    type: Word
    state: Hex
    record: Hex
    loaders: Annotated[tuple[Word, ...], Meta(max_length=400)] | None
    kernels: Annotated[tuple[Word, ...], Meta(max_length=12)] = ()
    hibernation: Hex | None = None


class Root(msgspec.Struct, frozen=True):
    """An operating system, in libguestfs's words."""

    device: Word
    type: Word | None
    distro: Word | None
    product_name: Word | None
    arch: Word | None
    osinfo: Word | None
    major_version: int | None
    minor_version: int | None


class Kernel(msgspec.Struct, frozen=True):
    """An installed Linux kernel; ``copy`` names a file with its initial RAM disk, ``modules`` those of interest."""

    path: Word
    version: Word | None
    initrd: Word | None
    copy: Annotated[str, Meta(pattern=r"^initrd-[0-9]{1,2}$")] | None
    built_in: Annotated[tuple[Word, ...], Meta(max_length=20000)] | None
    modules: Annotated[tuple[Word, ...], Meta(max_length=400)] | None


class Service(msgspec.Struct, frozen=True):
    """A service of Windows: when it starts, and whether its file is there."""

    start: int | None
    override: int | None
    file: Word
    present: bool


class Windows(msgspec.Struct, frozen=True):
    """What the SYSTEM hive says."""

    current: int | None
    services: Annotated[dict[Word, Service], Meta(max_length=100)]


class Seen(msgspec.Struct, frozen=True):
    """One image, as it was seen. ``notes`` are what libguestfs could not do.

    ``mounted`` are the places of the first operating system's file systems that were looked into.
    """

    disk: Disk
    file_systems: Annotated[tuple[FileSystem, ...], Meta(max_length=400)]
    roots: Annotated[tuple[Root, ...], Meta(max_length=8)]
    notes: Annotated[tuple[Word, ...], Meta(max_length=400)]
    kernels: Annotated[tuple[Kernel, ...], Meta(max_length=12)] = ()
    files: Annotated[dict[Word, Text], Meta(max_length=120)] = {}
    windows: Windows | None = None
    present: Annotated[tuple[Word, ...], Meta(max_length=50)] = ()
    mounted: Annotated[tuple[Word, ...], Meta(max_length=400)] = ("/",)

    def of_type(self, *kinds: str) -> tuple[FileSystem, ...]:
        """The file systems of these types."""
        return tuple(f for f in self.file_systems if f.type in kinds)

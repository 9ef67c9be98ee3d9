"""Block devices: from a file system's device down through partitions, LVM, LUKS and RAID to the PCI controllers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.places import owner
from clienthv.inspect.udev import Device, devices, is_told

_FILE_SYSTEM: Final = "ID_FS_TYPE"
_LABEL: Final = "ID_FS_LABEL"
BTRFS: Final = "/sys/fs/btrfs"


@dataclass(slots=True)
class Disks:
    """The block devices of a tree, by kernel name."""

    tree: Tree
    told: bool = False
    by_name: dict[str, Device] = field(default_factory=dict)
    by_number: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, tree: Tree) -> Disks:
        """List them once, with the numbers that mounts are told by."""
        found = cls(tree, told=is_told(tree, "block"))
        for device in devices(tree, "block", (_FILE_SYSTEM, _LABEL)):
            if tree.attribute(f"{device.path}/hidden") == "1":
                continue  # one path of an NVMe multipath disk; the disk itself is listed too
            found.by_name[device.name] = device
            number = tree.attribute(f"{device.path}/dev")
            if number:
                found.by_number[number] = device.name
        return found

    def by_controller(self) -> dict[str, list[str]]:
        """The whole disks on each PCI function."""
        owned: dict[str, list[str]] = defaultdict(list)
        for name in self.whole():
            for address in self.controllers(name):
                owned[address].append(name)
        return {address: sorted(names) for address, names in owned.items()}

    def whole(self) -> Iterator[str]:
        """The devices that are no partitions."""
        return (name for name, device in self.by_name.items() if not self._is_partition(device))

    def controllers(self, disk: str) -> tuple[str, ...]:
        """The PCI functions that carry a whole disk: one, or each path of an NVMe multipath disk."""
        path = self.by_name[disk].path
        address = owner(path)
        if address is not None:
            return (address,)
        subsystem = path.rpartition("/")[0]
        if "/nvme-subsystem/" not in path:
            return ()
        links = [n for n in self.tree.names(subsystem) or () if re.fullmatch(r"nvme[0-9]+", n)]
        paths = (self.tree.real(f"{subsystem}/{name}") for name in links)
        return tuple(sorted({a for p in paths if p is not None and (a := owner(p)) is not None}))

    def chains(self, name: str) -> Iterator[tuple[str, ...]]:
        """The ways from a device down to each disk that carries it, such as dm-1, dm-0, nvme0n1p2, nvme0n1.

        Documentation/ABI/stable/sysfs-block names ``slaves``; a partition lies inside its disk's folder.
        """
        pending: list[tuple[str, ...]] = [(name,)]
        while pending:
            chain = pending.pop()
            below = [n for n in self._below(chain[-1]) if n in self.by_name and n not in chain]
            if below:
                pending.extend((*chain, lower) for lower in reversed(below))
            else:
                yield chain

    def named(self, source: str) -> str | None:
        """The kernel name of a device file such as /dev/mapper/vg-root, by where its link leads."""
        path = self.tree.real(source) or source
        names = (path.removeprefix("/dev/"), source.removeprefix("/dev/"))
        return next((n.replace("/", "!") for n in names if n.replace("/", "!") in self.by_name), None)

    def with_members(self, name: str) -> tuple[str, ...]:
        """All devices of the btrfs that one device belongs to, itself first."""
        for uuid in self.tree.names(BTRFS) or ():
            members = self.tree.names(f"{BTRFS}/{uuid}/devices") or ()
            if name in members:
                return (name, *(m for m in members if m != name and m in self.by_name))
        return (name,)

    def of_pool(self, pool: str) -> tuple[str, ...]:
        """The devices that udev recognised as members of a ZFS pool: sysfs does not tell them."""
        return tuple(
            name
            for name, device in self.by_name.items()
            if device.properties.get(_FILE_SYSTEM) == "zfs_member" and device.properties.get(_LABEL) == pool
        )

    def _below(self, name: str) -> Iterable[str]:
        device = self.by_name[name]
        slaves = self.tree.names(f"{device.path}/slaves")
        if slaves:
            return (*slaves, *self._caches(device))
        return (device.path.split("/")[-2],) if self._is_partition(device) else ()

    def _caches(self, device: Device) -> Iterator[str]:
        """The cache devices of a bcache disk, which hold data too (Documentation/admin-guide/bcache.rst)."""
        here = f"{device.path}/bcache/cache"
        for name in self.tree.names(here) or ():
            if re.fullmatch(r"cache[0-9]+", name):
                yield (self.tree.real(f"{here}/{name}") or "").removesuffix("/bcache").rpartition("/")[2]

    def _is_partition(self, device: Device) -> bool:
        return bool(self.tree.exists(f"{device.path}/partition"))

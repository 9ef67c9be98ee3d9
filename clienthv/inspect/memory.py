"""Memory: how much there is, the pools of huge pages, and how much a process may lock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from clienthv.inspect.files import Tree
from clienthv.model.host import Hugepages, Memory

MEMINFO: Final = "/proc/meminfo"
POOLS: Final = "/sys/kernel/mm/hugepages"
MOUNTS: Final = "/proc/self/mounts"
LIMITS: Final = "/proc/self/limits"
STATUS: Final = "/proc/self/status"
_CAP_SYS_RESOURCE: Final = 24  # include/uapi/linux/capability.h


def read_memory(tree: Tree) -> Memory:
    """Memory in MiB, rounded down. /proc/meminfo's "kB" are KiB (Documentation/filesystems/proc.rst)."""
    text = tree.text(MEMINFO) or ""
    return Memory(
        total_mib=_mib(text, "MemTotal"),
        available_mib=_mib(text, "MemAvailable"),
        hugepages=_pools(tree),
        hugetlbfs=_mounted(tree),
        memlock_mib=_memlock(tree),
    )


def _mib(text: str, key: str) -> int | None:
    match = re.search(rf"^{key}:\s+([0-9]{{1,15}}) kB\s*$", text, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else None


def _pools(tree: Tree) -> tuple[Hugepages, ...] | None:
    """The pools (Documentation/ABI/testing/sysfs-kernel-mm-hugepages), largest pages first."""
    names = tree.names(POOLS)
    return None if names is None else tuple(sorted(_each(tree, names), key=lambda pool: -pool.size_kib))


def _each(tree: Tree, names: tuple[str, ...]) -> Iterator[Hugepages]:
    for name in names:
        match = re.fullmatch(r"hugepages-([0-9]{1,9})kB", name)
        total, free = (tree.number(f"{POOLS}/{name}/{file}") for file in ("nr_hugepages", "free_hugepages"))
        if match is not None and total is not None and free is not None:
            writable = tree.writable(f"{POOLS}/{name}/nr_hugepages")
            yield Hugepages(
                size_kib=int(match[1]), total=total, free=free, writable=msgspec.UNSET if writable is None else writable
            )


def _mounted(tree: Tree) -> bool | None:
    lines = tree.lines(MOUNTS)
    return None if lines is None else any(line.split()[2:3] == ["hugetlbfs"] for line in lines)


def _memlock(tree: Tree) -> int | msgspec.UnsetType | None:
    """The limit in MiB (man 2 getrlimit, RLIMIT_MEMLOCK), unset for who may raise it: CAP_SYS_RESOURCE."""
    limit = re.search(r"^Max locked memory +\S+ +(\S+) +bytes", tree.text(LIMITS) or "", re.MULTILINE)
    rights = re.search(r"^CapEff:\s*([0-9a-f]{1,32})$", tree.text(STATUS) or "", re.MULTILINE)
    if limit is None or rights is None:
        return None
    if limit[1] == "unlimited" or int(rights[1], 16) >> _CAP_SYS_RESOURCE & 1:
        return msgspec.UNSET
    return int(limit[1]) >> 20 if re.fullmatch("[0-9]{1,20}", limit[1]) else None

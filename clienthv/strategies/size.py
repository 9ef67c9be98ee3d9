"""How many processors and how much memory the VM gets: what the profile wants, or less on a small PC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from clienthv.errors import HostError
from clienthv.model import values
from clienthv.model.change import What
from clienthv.model.guest import GuestOs
from clienthv.model.host import Host, Hugepages
from clienthv.model.plan import HostChange, Warned
from clienthv.model.profile import Profile
from clienthv.strategies import others

RESERVE_MIB: Final = 512
"""MiB of the available memory that stay with the host: for its own programs and for what QEMU needs beside the guest.

No kernel interface tells how much that is, so this is what others keep: OpenStack Nova 512 MiB of a host
(reserved_host_memory_mb, nova/conf/compute.py), oVirt 321 MiB of a host and 65 MiB for each VM (VDSM's
host_mem_reserve, extra_mem_reserve and guest_ram_overhead), which is less. A guest with a handed-over device has all
of its memory pinned (kernel, Documentation/driver-api/vfio.rst): the host can then neither swap it nor get it back by
a balloon.
"""

_STEP_MIB: Final = 256


def vcpus(host: Host, profile: Profile) -> int:
    """How many virtual processors: as many as the profile wants and the PC has threads. Raises HostError."""
    size = profile.size
    offered = host.stack.capabilities.max_vcpus if host.stack is not None and host.stack.capabilities else None
    limit = min(host.cpu.threads or size.vcpus, offered or size.vcpus)
    least = size.vcpus_min or size.vcpus
    if limit < least:
        msg = f"{host.name} has {limit} CPU threads to give; profile {profile.name} needs {least}"
        raise HostError(msg, hint="lower size.vcpus, or give size.vcpus_min, in the profile")
    return min(size.vcpus, limit)


def memory_mib(host: Host, profile: Profile, refused: Mapping[str, str] = MappingProxyType({})) -> int:
    """How many MiB of memory; of the pools that are ``refused`` none. Raises HostError.

    A VM that may shrink leaves ``RESERVE_MIB`` to the host, unless its minimum does not.
    """
    host = without_pools(host, refused)
    want = values.parse_mib(profile.size.memory)
    least = values.parse_mib(profile.size.memory_min or profile.size.memory)
    available = _available_mib(host)
    if available is None or huge_pages(host, profile, want) is not None:
        return want
    ordinary = _within_room(want, least, available - RESERVE_MIB) if available >= least else 0
    huge = _most_in_huge_pages(host, profile, want, least)
    if not max(ordinary, huge):
        msg = (
            f"{host.name} has {values.format_mib(available)} of memory to give; "
            f"profile {profile.name} needs {values.format_mib(least)}"
        )
        raise HostError(msg, hint="close programs, or lower size.memory (or size.memory_min) in the profile")
    return max(ordinary, huge)


def _most_in_huge_pages(host: Host, profile: Profile, want: int, least: int) -> int:
    """The most MiB that a pool has for a VM which may shrink; 0 where none has enough."""
    pools = host.memory.hugepages if isinstance(host.memory.hugepages, tuple) else ()
    sizes = (min(want, p.free * p.size_kib >> 10) // _STEP_MIB * _STEP_MIB for p in pools)
    return max((mib for mib in sizes if mib >= least and huge_pages(host, profile, mib) is not None), default=0)


def huge_pages(host: Host, profile: Profile, memory_mib: int) -> Hugepages | None:
    """The pool that a VM of this many MiB gets its memory from, when its profile asks; None for ordinary memory.

    The largest pages of which enough are free. Pages of a pool are no part of MemAvailable: a VM on them takes nothing
    of that (kernel, Documentation/admin-guide/mm/hugetlbpage.rst).
    """
    memory, stack = host.memory, host.stack
    usable = memory.hugetlbfs is not False and (stack is None or stack.privileged is not False)
    if not profile.size.hugepages or not usable or not isinstance(memory.hugepages, tuple):
        return None
    return next((pool for pool in memory.hugepages if fits(pool, memory_mib)), None)


def without_pools(host: Host, refused: Mapping[str, str]) -> Host:
    """The host without the pools of huge pages, by the size of a page in KiB, that refused."""
    pools = host.memory.hugepages
    if not isinstance(pools, tuple) or not any(str(pool.size_kib) in refused for pool in pools):
        return host
    left = tuple(pool for pool in pools if str(pool.size_kib) not in refused)
    return replace(host, memory=replace(host.memory, hugepages=left))


def more_pages(host: Host, profile: Profile, memory_mib: int) -> HostChange | None:
    """The change that fills a pool for a VM of this many MiB, where its profile asks and it may be made.

    The kernel makes huge pages of what is free and not too scattered: the smaller, the likelier (Documentation/
    admin-guide/mm/hugetlbpage.rst, nr_hugepages). What they take, the VM takes no more.
    """
    memory, stack = host.memory, host.stack
    pools = memory.hugepages if isinstance(memory.hugepages, tuple) else ()
    pool = min(pools, key=lambda pool: pool.size_kib, default=None)
    usable = memory.hugetlbfs is not False and stack is not None and stack.privileged is True
    if not profile.size.hugepages or not usable or pool is None or pool.writable is not True:
        return None
    available, pages = _available_mib(host), (memory_mib << 10) // pool.size_kib
    if available is None or available - memory_mib < RESERVE_MIB or (memory_mib << 10) % pool.size_kib:
        return None
    more = pages - pool.free
    return HostChange(
        action=What.HUGEPAGES,
        device=str(pool.size_kib),
        detail=f"make {more} huge pages of {pool.size_kib} KiB of memory that is free",
        undo=f"clienthv down has {pool.total} of them again once no VM needs more",
        value=str(pool.total + more),
    )


def fits(pool: Hugepages, memory_mib: int) -> bool:
    """Whether enough pages of a pool are free for this many MiB, and none would have to be cut."""
    kib = memory_mib << 10
    return kib % pool.size_kib == 0 and pool.free * pool.size_kib >= kib


def _within_room(want: int, least: int, room: int) -> int:
    """What is wanted, or as many whole steps as there is room for, but never less than the least."""
    return want if want <= room else max(room // _STEP_MIB * _STEP_MIB, least)


def memories_mib(host: Host, profiles: Iterable[Profile]) -> list[int | None]:
    """How many MiB each of several VMs gets that run together, in the order given; None for one with no room left.

    Each gets its minimum while there is room; what then is left beyond the reserve goes to the first, up to what it
    wants, then to the next.
    """
    available = _available_mib(host)
    given: list[int | None] = []
    ordinary: dict[int, tuple[int, int]] = {}
    for number, profile in enumerate(profiles):
        want = values.parse_mib(profile.size.memory)
        least = values.parse_mib(profile.size.memory_min or profile.size.memory)
        pool = huge_pages(host, profile, want)
        if pool is not None:
            host = without_pages(host, pool, want)
        elif available is not None:
            has_room = sum(mib or 0 for n, mib in enumerate(given) if n in ordinary) + least <= available
            ordinary[number] = want, least
            given.append(least if has_room else None)
            continue
        given.append(want)
    if available is None:
        return given
    room = available - RESERVE_MIB - sum(given[n] or 0 for n in ordinary)
    for number, (want, _) in ordinary.items():
        mib = given[number]
        if mib is not None and room > 0:
            given[number] = _within_room(want, mib, mib + room)
            room -= (given[number] or 0) - mib
    return given


def without_pages(host: Host, pool: Hugepages, memory_mib: int) -> Host:
    """The host once a VM has its memory from a pool."""
    left = replace(pool, free=pool.free - (memory_mib << 10) // pool.size_kib)
    pools = host.memory.hugepages if isinstance(host.memory.hugepages, tuple) else ()
    return replace(host, memory=replace(host.memory, hugepages=tuple(left if p is pool else p for p in pools)))


def within(guest: GuestOs, vcpus: int, memory_mib: int) -> tuple[int, int]:
    """A size without what the guest's operating system could not use."""
    return min(vcpus, guest.max_vcpus or vcpus), min(memory_mib, guest.max_memory_mib or memory_mib)


def _available_mib(host: Host) -> int | None:
    """MiB that can be had without swapping; where only all of the memory is known, three quarters of that.

    Source: kernel, Documentation/filesystems/proc.rst, MemAvailable. It counts what running VMs were promised and have
    not touched yet as available: that is theirs.
    """
    memory = host.memory
    if memory.available_mib is not None:
        return max(memory.available_mib - others.promised_mib(host), 0)
    return memory.total_mib * 3 // 4 if memory.total_mib is not None else None


def warnings(host: Host, profile: Profile, guest: GuestOs, vcpus: int, memory_mib: int) -> Iterator[Warned]:
    """What a user should know of the size that was chosen; ``memory_mib`` is in MiB."""
    want_vcpus, want_mib = within(guest, profile.size.vcpus, values.parse_mib(profile.size.memory))
    if vcpus < want_vcpus or memory_mib < want_mib:
        yield Warned(
            code="shrunk-to-fit",
            detail=f"{profile.size.vcpus} vCPUs and {profile.size.memory} were wanted; this PC has room for "
            f"{vcpus} and {values.format_mib(memory_mib)}",
        )
    available = None if huge_pages(host, profile, memory_mib) else _available_mib(host)
    if available is not None and available - memory_mib < RESERVE_MIB:
        yield Warned(
            code="little-memory-left",
            detail=f"the VM takes {values.format_mib(memory_mib)} of the {values.format_mib(available)} that there are "
            f"to give; {values.format_mib(available - memory_mib)} are left for the host and for QEMU itself, "
            f"which should have {values.format_mib(RESERVE_MIB)}",
        )

"""What a VM gets beyond devices with ladders, when its profile asks: huge pages, Looking Glass, USB redirection.

Each is given or left out; what is left out is said, with the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from clienthv.model.host import Hugepages
from clienthv.model.plan import HOST_DEVICES, Decision, Extras, HostChange, Kind, Strategy, Warned
from clienthv.strategies import processors, size, usb_device
from clienthv.strategies.frame import Question

_OVERHEAD_MIB: Final = 10
_PIXEL_BYTES: Final = 4
_FRAMES: Final = 2
_USB2: Final = frozenset({"qemu-xhci", "ich9-ehci1"})


class Given(NamedTuple):
    """What is given, unset where nothing is, what is said of the rest, and what it changes on the host."""

    extras: Extras | msgspec.UnsetType
    warnings: tuple[Warned, ...]
    changes: tuple[HostChange, ...] = ()


def given(question: Question, settled: Mapping[Kind, Decision], usb: int, vcpus: int, memory_mib: int) -> Given:
    """What a VM of this size (MiB) gets, once its devices are decided, with ``usb`` single USB devices among them."""
    said: list[Warned] = []
    changes: list[HostChange] = []
    extras = Extras(
        hyperv=processors.hyperv(question, settled),
        pins=processors.pins(question, settled, vcpus, said),
        hugepages_kib=_hugepages(question, memory_mib, said, changes),
        looking_glass_mib=_looking_glass(question, settled, said),
        usb_redirects=_redirects(question, settled, usb, said),
    )
    said.extend(_memlock(question, settled, memory_mib))
    return Given(msgspec.UNSET if extras == Extras() else extras, tuple(said), tuple(changes))


def _hugepages(question: Question, memory_mib: int, said: list[Warned], changes: list[HostChange]) -> int | None:
    """The largest huge pages of which enough are free, or the smallest, when more of them can be made.

    Memory of a VM on huge pages is taken whole at its start, or the start fails (libvirt domain format, "Memory
    Backing"; kernel, Documentation/admin-guide/mm/hugetlbpage.rst).
    """
    if not question.profile.size.hugepages:
        return None
    memory = question.host.memory
    pools = memory.hugepages if isinstance(memory.hugepages, tuple) else None
    if pools is None:
        detail = "the host document does not say whether huge pages are free; the VM gets ordinary memory"
        said.append(Warned(code="hugepages-unknown", detail=detail))
        return None
    host = size.without_pools(question.host, question.refused)
    taken = size.huge_pages(host, question.profile, memory_mib)
    if taken is not None:
        return taken.size_kib
    if (change := size.more_pages(host, question.profile, memory_mib)) is not None:
        changes.append(change)
        return int(change.device)
    refusals = [question.refused[key] for pool in pools if (key := str(pool.size_kib)) in question.refused]
    if refusals:
        said.append(Warned(code="hugepages-short", detail=f"{refusals[0]}; the VM gets ordinary memory"))
        return None
    said.append(Warned(code="hugepages-short", detail=_too_few(question, pools, memory_mib)))
    return None


def _too_few(question: Question, pools: tuple[Hugepages, ...], memory_mib: int) -> str:
    instead = "the VM gets ordinary memory"
    smallest = min(pools, key=lambda pool: pool.size_kib, default=None)
    if smallest is None:
        return f"the kernel has no pool of huge pages (/sys/kernel/mm/hugepages); {instead}"
    if not any(size.fits(pool, memory_mib) for pool in pools):
        free = ", ".join(f"{pool.free} of {pool.size_kib} KiB" for pool in pools)
        more = smallest.total - smallest.free + -(-(memory_mib << 10) // smallest.size_kib)
        file = f"/sys/kernel/mm/hugepages/hugepages-{smallest.size_kib}kB/nr_hugepages"
        return (
            f"{memory_mib} MiB of huge pages are wanted, and free are {free} (free_hugepages); {instead}. "
            f"echo {more} | sudo tee {file} gets enough, unless memory is too fragmented"
        )
    if question.host.memory.hugetlbfs is False:
        mount = "sudo mount -t hugetlbfs hugetlbfs /dev/hugepages"
        return f"no hugetlbfs is mounted (/proc/self/mounts); {instead}. {mount}"
    return f"this user's connection may not use the system's huge pages, as qemu:///system may; {instead}"


def _looking_glass(question: Question, settled: Mapping[Kind, Decision], said: list[Warned]) -> int | None:
    """MiB of shared memory for two frames and what the program itself needs, as a power of two.

    Source: Looking Glass documentation, "IVSHMEM", "Determining memory".
    """
    wanted = question.profile.device(Kind.DISPLAY).looking_glass
    if wanted is None:
        return None
    gpu = settled[Kind.GPU]
    if gpu.strategy not in HOST_DEVICES:
        detail = f"left out: the guest's gpu is {gpu.strategy}, and Looking Glass shows the screen of a real one"
        said.append(Warned(code="looking-glass-left-out", detail=detail))
        return None
    width, height = map(int, wanted.split("x"))
    needed = width * height * _PIXEL_BYTES * _FRAMES / (1 << 20) + _OVERHEAD_MIB
    mib = 1
    while mib < needed:
        mib *= 2
    return mib


def _redirects(question: Question, settled: Mapping[Kind, Decision], devices: int, said: list[Warned]) -> int:
    """Channels by which a SPICE viewer plugs its USB devices in (libvirt domain format, "Redirected devices")."""
    wanted, usb, display = question.profile.device(Kind.USB).redirect, settled[Kind.USB], settled[Kind.DISPLAY]
    if not wanted:
        return 0
    without = (
        f"the display is {display.model}, and SPICE alone carries them"
        if display.model != "spice"
        else f"the guest's usb is {usb.strategy} ({usb.model}), and they need a USB 2 or USB 3 controller"
        if usb.strategy is not Strategy.EMULATED or usb.model not in _USB2
        else None
    )
    left = max(usb_device.ports(question) - devices, 0) if without is None else 0
    if without is not None or left < wanted:
        why = without or f"the guest's controller has no more ports beside {devices} devices of the host"
        detail = f"{left or 'no'} USB device{'s' * (left > 1)} can be redirected: {why}"
        said.append(Warned(code="redirection-left-out", detail=detail))
    return min(wanted, left)


def _memlock(question: Question, settled: Mapping[Kind, Decision], memory_mib: int) -> Iterator[Warned]:
    """A VM with handed-over devices has all its memory locked (kernel, Documentation/driver-api/vfio.rst).

    libvirt raises the limit where it may; a daemon of root's may.
    """
    limit, stack = question.host.memory.memlock_mib, question.host.stack
    passed = [d.name for d in settled.values() if d.strategy in HOST_DEVICES and d.functions]
    by_daemon = stack is not None and (stack.uri or "").startswith("qemu:///system")
    if passed and not by_daemon and isinstance(limit, int) and limit < memory_mib:
        yield Warned(
            code="memlock-low",
            detail=f"{', '.join(passed)}: all {memory_mib} MiB of the VM are locked while it has the device, and this "
            f"user may lock {limit} MiB (/proc/self/limits); raise memlock in /etc/security/limits.conf",
        )

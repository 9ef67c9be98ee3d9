"""What a VM's processors are offered beyond their model: Hyper-V enlightenments, and threads of the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clienthv.model.host import Core
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Pins, Strategy, Warned
from clienthv.model.x86_64 import LEVELS
from clienthv.strategies.frame import Question

_BASE: Final = ("relaxed", "vapic", "spinlocks")
_MORE: Final = ("vpindex", "runtime", "synic", "stimer", "frequencies", "tlbflush", "ipi")
_NEEDS: Final = {"synic": ("vpindex",), "stimer": ("synic",), "tlbflush": ("vpindex",), "ipi": ("vpindex",)}
"""What an enlightenment is useless or refused without (QEMU, docs/system/i386/hyperv.rst); the clock is always there.

Left out: reset, which that page advises against; reenlightenment, avic and evmcs, which help nested and migrated
guests of some processors alone.
"""
_FULL_FROM: Final = ("win8", "win10", "win11", "win2k12", "win2k16", "win2k19", "win2k22", "win2k25")


def hyperv(question: Question, settled: Mapping[Kind, Decision]) -> tuple[str, ...]:
    """The enlightenments for Windows from Vista on, under KVM; what a VM had before, it keeps.

    Vista and 7 get those that they are known to use, later ones all that speed them up. Where libvirt does not tell
    what it offers, the oldest three, which every KVM has.
    """
    guest = question.guest
    if settled[Kind.CPU].strategy is not Strategy.HARDWARE_VIRTUALIZATION or guest.family != "windows":
        return ()
    capabilities = question.capabilities
    told = capabilities.hyperv if capabilities is not None else None
    offered = told if isinstance(told, tuple) else _BASE
    if question.kept.extras is not None:
        return tuple(feature for feature in question.kept.extras.hyperv if feature in offered)
    if guest.emulated.machine == "pc":
        return ()
    wanted = (*_BASE, *_MORE) if guest.id.startswith(_FULL_FROM) else _BASE
    given: list[str] = []
    for feature in wanted:
        if feature in offered and all(needed in given for needed in _NEEDS.get(feature, ())):
            given.append(feature)
    return tuple(given)


def pins(question: Question, settled: Mapping[Kind, Decision], vcpus: int, said: list[Warned]) -> Pins | None:
    """Whole cores for the virtual processors, on one NUMA node where there are enough: the passed-through GPU's first.

    The first core stays with the host, for its interrupts and for QEMU (libvirt domain format, "CPU Tuning").
    """
    if not question.profile.device(Kind.CPU).pin:
        return None
    topology = question.host.cpu.topology
    if settled[Kind.CPU].strategy is not Strategy.HARDWARE_VIRTUALIZATION:
        detail = "not pinned: translated processors need not have a thread each (QEMU, docs/devel/multi-thread-tcg.rst)"
        said.append(Warned(code="pinning-left-out", detail=detail))
        return None
    if not isinstance(topology, tuple) or not topology:
        detail = "not pinned: the host document does not say which threads share a core"
        said.append(Warned(code="pinning-left-out", detail=detail))
        return None
    emulator, cores = topology[0].threads, topology[1:]
    near = _node_of_gpu(question, settled)
    nodes = sorted({core.numa_node for core in cores}, key=lambda node: (node != near, node is None, node or 0))
    for choice in (*([c for c in cores if c.numa_node == node] for node in nodes), list(cores)):
        if sum(len(core.threads) for core in choice) >= vcpus:
            return _on(choice, vcpus, emulator, threaded=_threaded(question, settled))
    free = sum(len(core.threads) for core in cores)
    detail = f"not pinned: {vcpus} virtual processors want a thread each, and beside the host's core there are {free}"
    said.append(Warned(code="pinning-left-out", detail=detail))
    return None


def _threaded(question: Question, settled: Mapping[Kind, Decision]) -> bool:
    """Whether the guest can be shown threads: of AMD's processors only with topoext (QEMU, target/i386/cpu.c)."""
    cpu = question.host.cpu
    if cpu.vendor != "AuthenticAMD":
        return True
    return "topoext" in (cpu.flags or ()) and settled[Kind.CPU].model not in LEVELS


def _on(cores: list[Core], vcpus: int, emulator: tuple[int, ...], *, threaded: bool) -> Pins:
    """Cores with most threads first, so that the guest's cores are the host's; the last one may be shared in part."""
    most = max(len(core.threads) for core in cores)
    full = [core for core in cores if len(core.threads) == most]
    alike = threaded and most > 1 and vcpus % most == 0 and len(full) * most >= vcpus
    taken = [thread for core in (full if alike else cores) for thread in core.threads][:vcpus]
    return Pins(vcpus=tuple(taken), emulator=emulator, threads=most if alike else 1)


def _node_of_gpu(question: Question, settled: Mapping[Kind, Decision]) -> int | None:
    gpu = settled[Kind.GPU]
    function = question.host.by_address.get(gpu.device or "") if gpu.strategy in HOST_DEVICES else None
    return function.numa_node if function is not None else None

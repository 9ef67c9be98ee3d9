"""The processor: what /proc/cpuinfo and the topology folders say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, Literal

from clienthv.inspect.files import Tree
from clienthv.model.host import Core, Cpu

CPUINFO: Final = "/proc/cpuinfo"
TOPOLOGY: Final = "/sys/devices/system/cpu"
NODES: Final = "/sys/devices/system/node"

Block = dict[str, str]


def read_cpu(tree: Tree) -> Cpu:
    """The processor. Sockets, cores and threads are totals of the whole PC, counting what is online.

    Topology: Documentation/admin-guide/cputopology.rst. Flags: arch/x86/include/asm/cpufeatures.h.
    """
    blocks = _blocks(tree.text(CPUINFO) or "")
    first = blocks[0] if blocks else {}
    flags = tuple(first["flags"].split()) if "flags" in first else None
    virtualization = hardware_virtualization(flags)
    sockets, cores = _topology(tree, blocks)
    return Cpu(
        architecture=_architecture(tree, flags),
        vendor=first.get("vendor_id") or None,
        model=first.get("model name") or None,
        sockets=sockets,
        cores=cores,
        threads=len(blocks) or None,
        numa_nodes=_count(tree.names(NODES), r"node[0-9]+"),
        virtualization=virtualization,
        nested_paging=_nested_paging(virtualization, flags, first.get("vmx flags", "").split()),
        hypervisor=None if flags is None else "hypervisor" in flags,
        flags=flags,
        topology=_cores(tree),
    )


def _cores(tree: Tree) -> tuple[Core, ...] | None:
    """The cores with their threads (Documentation/admin-guide/cputopology.rst; ABI, sysfs-devices-system-cpu)."""
    cores: dict[tuple[int, ...], Core] = {}
    for name in tree.names(TOPOLOGY) or ():
        if not re.fullmatch(r"cpu[0-9]{1,5}", name):
            continue
        here = f"{TOPOLOGY}/{name}"
        threads = _listed(tree.attribute(f"{here}/topology/thread_siblings_list"))
        if threads:  # a processor that is offline has no topology
            nodes = [int(n[4:]) for n in tree.names(here) or () if re.fullmatch(r"node[0-9]{1,4}", n)]
            cores[threads] = Core(threads=threads, numa_node=nodes[0] if nodes else None)
    return tuple(cores[threads] for threads in sorted(cores)) or None


def _listed(text: str | None) -> tuple[int, ...]:
    """A list of processors such as 0-1,8 (Documentation/admin-guide/cputopology.rst, cpulist)."""
    found: list[int] = []
    for part in (text or "").split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if match is None:
            return ()
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def hardware_virtualization(flags: Iterable[str] | None) -> Literal["vmx", "svm", "none"] | None:
    """Intel VT-x, AMD-V or none, from the CPU flags; ``None`` without flags (another architecture, no file).

    The kernel clears vmx when firmware has switched it off (arch/x86/kernel/cpu/feat_ctl.c).
    """
    if flags is None:
        return None
    listed = set(flags)
    return "vmx" if "vmx" in listed else "svm" if "svm" in listed else "none"


def _nested_paging(virtualization: str | None, flags: tuple[str, ...] | None, vmx: list[str]) -> bool | None:
    """EPT or NPT. Linux 5.6 and later list ept on /proc/cpuinfo's line "vmx flags", older ones among the flags."""
    if virtualization is None or flags is None:
        return None
    return "npt" in flags if virtualization == "svm" else "ept" in flags or "ept" in vmx


def _blocks(text: str) -> list[Block]:
    """One dictionary for each logical processor."""
    found: list[Block] = []
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if key.strip() == "processor":
            found.append({})
        if found:
            found[-1].setdefault(key.strip(), value.strip())
    return found


def _topology(tree: Tree, blocks: list[Block]) -> tuple[int | None, int | None]:
    """Sockets and cores of all processors that are online; /proc/cpuinfo where sysfs has no topology."""
    places: set[tuple[str, ...]] = set()
    for name in tree.names(TOPOLOGY) or ():
        if re.fullmatch(r"cpu[0-9]+", name):
            here = f"{TOPOLOGY}/{name}/topology"
            package = tree.attribute(f"{here}/physical_package_id")
            core = tree.attribute(f"{here}/core_id")
            if package and core:  # die_id came with Linux 5.2
                places.add((package, tree.attribute(f"{here}/die_id") or "", core))
    if not places:
        places = {(b["physical id"], b["core id"]) for b in blocks if "physical id" in b and "core id" in b}
    return len({place[0] for place in places}) or None, len(places) or None


def _architecture(tree: Tree, flags: tuple[str, ...] | None) -> str:
    if tree.live:
        return os.uname().machine
    return "i686" if flags is not None and "lm" not in flags else "x86_64"


def _count(names: Iterable[str] | None, pattern: str) -> int | None:
    return None if names is None else sum(1 for name in names if re.fullmatch(pattern, name)) or None

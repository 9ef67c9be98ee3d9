"""libvirt's capabilities document (libvirt, "Driver capabilities XML format"), the part that tells of the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from clienthv.hypervisor import documents
from clienthv.hypervisor.documents import number
from clienthv.model.host import Core, Cpu, Hugepages
from clienthv.model.x86_64 import LEVELS, features_of, flags_of

_VENDORS: Final = {
    "Intel": "GenuineIntel",
    "AMD": "AuthenticAMD",
    "Hygon": "HygonGenuine",
}  # src/cpu_map/x86_vendors.xml
_EXTENSIONS: Final[dict[str, Literal["vmx", "svm"]]] = {"Intel": "vmx", "AMD": "svm", "Hygon": "svm"}
_BOTH: Final[tuple[Literal["vmx", "svm"], ...]] = ("vmx", "svm")
_FLAGS: Final = dict(zip(features_of(LEVELS[-1]), flags_of(LEVELS[-1]), strict=True)) | {"topoext": "topoext"}
_MOST_THREADS: Final = 1 << 13  # of a list of processors; the kernel's limit on x86 (arch/x86/Kconfig, NR_CPUS)


class HostCapabilities(NamedTuple):
    """What the document tells of the host.

    ``kvm`` is whether guests of the host's architecture are offered with KVM, ``cells`` how many NUMA nodes there are,
    ``pools`` are the pools of huge pages, whose free pages are not told, ``memory_mib`` is the memory of all nodes.
    ``cpu_xml`` is the element that describes the processor, ``features`` are those that it names besides its model.
    """

    architecture: str
    vendor: str | None
    sockets: int | None
    cores: int | None
    threads: int | None
    cells: int | None
    topology: tuple[Core, ...] | None
    features: frozenset[str]
    cpu_xml: str | None
    kvm: bool
    iommu: bool | None
    memory_mib: int | None
    pools: tuple[Hugepages, ...]


def parse(xml: str) -> HostCapabilities:
    """Read the document. Raises HostError."""
    root = documents.parse(xml, "libvirt's capabilities")
    cpu, cells = root.find("host/cpu"), root.findall("host/topology/cells/cell")
    architecture = (root.findtext("host/cpu/arch") or "").strip()
    places = [place for cell in cells for place in _places(cell)]
    iommu = root.find("host/iommu")
    memory = [_kib(cell.find("memory")) for cell in cells]
    return HostCapabilities(
        architecture=architecture if re.fullmatch(r"[a-z0-9_]{1,16}", architecture) else "unknown",
        vendor=documents.line(root.findtext("host/cpu/vendor")),
        sockets=len({socket for socket, _, _, _ in places}) or None,
        cores=len({place[:3] for place in places}) or None,
        threads=len(places) or None,
        cells=len(cells) or None,
        topology=_topology(cells),
        features=_features(cpu),
        cpu_xml=documents.text_of(cpu) if cpu is not None else None,
        kvm=any(
            arch.get("name") == architecture and arch.find("domain[@type='kvm']") is not None
            for arch in root.iterfind("guest/arch")
        ),
        iommu={"yes": True, "no": False}.get(iommu.get("support", "")) if iommu is not None else None,
        memory_mib=sum(m for m in memory if m is not None) >> 10 if memory and None not in memory else None,
        pools=_pools(cells),
    )


def cpu_of(told: HostCapabilities, all_features: frozenset[str] | None) -> Cpu:
    """The processor. ``all_features`` are those of its model, too, by libvirt's names; None where nobody knows them.

    The flags are only those that x86-64's levels ask for, and topoext: these have one name each in libvirt and in the
    kernel. Its own name for a model is no processor's, so the model stays unknown.
    """
    features = told.features if all_features is None else all_features
    known = all_features is not None
    return Cpu(
        architecture=told.architecture,
        vendor=_VENDORS.get(told.vendor or "", told.vendor),
        sockets=told.sockets,
        cores=told.cores,
        threads=told.threads,
        numa_nodes=told.cells,
        virtualization=_virtualization(told, features, known=known),
        nested_paging=True if features & {"npt", "vmx-ept"} else None,
        hypervisor=True if "hypervisor" in features else False if known else None,
        flags=tuple(flag for name, flag in _FLAGS.items() if name in features) if known else None,
        topology=told.topology,
    )


def _virtualization(
    told: HostCapabilities, features: frozenset[str], *, known: bool
) -> Literal["vmx", "svm", "none"] | None:
    """The hardware's virtualization: what libvirt reads from the processor, where that can be relied on.

    A processor names vmx where firmware has locked it, too (kernel, arch/x86/kernel/cpu/feat_ctl.c): without KVM a
    feature proves nothing. Its absence does, with KVM as well: there is a KVM that does without (kvm_pvm).
    """
    if told.architecture != "x86_64":
        return None
    named: list[Literal["vmx", "svm"]] = [extension for extension in _BOTH if extension in features]
    if not told.kvm:
        return "none" if known and not named else None
    if named:
        return named[0]
    return "none" if known else _EXTENSIONS.get(told.vendor or "")


def features_in(xml: str) -> frozenset[str]:
    """The features that a ``<cpu>`` element names. Raises HostError."""
    return _features(documents.parse(xml, "libvirt's processor models"))


def _features(cpu: Any) -> frozenset[str]:
    found = cpu.iterfind("feature") if cpu is not None else ()
    return frozenset(f.get("name", "") for f in found if f.get("policy") not in ("disable", "forbid"))


def _places(cell: Any) -> Iterator[tuple[int | None, int | None, int | None, int]]:
    """Socket, die, core and number of each thread; a processor that is offline has no place."""
    for cpu in cell.iterfind("cpus/cpu"):
        thread, socket, core = (number(cpu.get(key)) for key in ("id", "socket_id", "core_id"))
        if thread is not None and socket is not None and core is not None:
            yield socket, number(cpu.get("die_id")), core, thread


def _topology(cells: list[Any]) -> tuple[Core, ...] | None:
    cores: dict[tuple[int, ...], Core] = {}
    for cell in cells:
        node = number(cell.get("id"))
        for cpu in cell.iterfind("cpus/cpu"):
            threads = listed(cpu.get("siblings"))
            if threads:
                cores[threads] = Core(threads=threads, numa_node=node)
    return tuple(cores[threads] for threads in sorted(cores)) or None


def listed(text: str | None) -> tuple[int, ...]:
    """A list of processors such as ``0-1,8``; empty where it is none or too long."""
    found: set[int] = set()
    for part in (text or "").split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if match is None:
            return ()
        found.update(range(int(match[1]), min(int(match[2] or match[1]), int(match[1]) + _MOST_THREADS) + 1))
        if len(found) > _MOST_THREADS:
            return ()
    return tuple(sorted(found))


def _kib(element: Any) -> int | None:
    return number(element.text) if element is not None and element.get("unit", "KiB") == "KiB" else None


def _pools(cells: list[Any]) -> tuple[Hugepages, ...]:
    """The pools, largest pages first. The smallest pages are those that all memory is made of."""
    totals: dict[int, int] = {}
    for pages in (pages for cell in cells for pages in cell.iterfind("pages")):
        size, total = number(pages.get("size")), number(pages.text)
        if size and total is not None and pages.get("unit", "KiB") == "KiB":
            totals[size] = totals.get(size, 0) + total
    sizes = sorted(totals, reverse=True)[:-1]
    return tuple(Hugepages(size_kib=size, total=totals[size], free=0) for size in sizes)

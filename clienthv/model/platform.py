"""The parts of a host document that tell of the PC as a whole; None means unknown."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from clienthv.model.values import Count


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The PC as DMI names it; ``chassis`` is one of desktop, laptop, server, virtual."""

    vendor: str | None = None
    product: str | None = None
    chassis: str | None = None


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """The running kernel: its release and its command line without identifying values."""

    release: str | None = None
    cmdline: tuple[str, ...] | None = None


class Core(msgspec.Struct, frozen=True, kw_only=True):
    """One core: the numbers of its threads, and its NUMA node."""

    threads: Annotated[tuple[Count, ...], Meta(min_length=1)]
    numa_node: Count | None = None


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The processor. ``virtualization`` is the hardware's own: vmx (Intel VT-x), svm (AMD-V) or none.

    ``topology`` are the cores with a thread that is online, in the order of their first threads.
    """

    architecture: str = "x86_64"
    vendor: str | None = None
    model: str | None = None
    sockets: Count | None = None
    cores: Count | None = None
    threads: Count | None = None
    numa_nodes: Count | None = None
    virtualization: Literal["vmx", "svm", "none"] | None = None
    nested_paging: bool | None = None
    hypervisor: bool | None = None
    flags: tuple[str, ...] | None = None
    topology: tuple[Core, ...] | msgspec.UnsetType | None = msgspec.UNSET


class Kvm(msgspec.Struct, frozen=True, kw_only=True):
    """KVM as found. ``usable`` is the verdict over all of it, ``evidence`` what it rests on."""

    module: str | None = None
    nested: bool | None = None
    device_present: bool | None = None
    device_openable: bool | None = None
    vm_creatable: bool | None = None
    usable: bool | None = None
    evidence: tuple[str, ...] = ()


class Hugepages(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's pool of huge pages of one size, in KiB: how many there are, and how many of them are free.

    ``writable`` is whether the reading user may change how many there are.
    """

    size_kib: Count
    total: Count
    free: Count
    writable: bool | msgspec.UnsetType = msgspec.UNSET


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Host memory in MiB: all of it, and what the kernel calls available (MemAvailable).

    ``hugepages`` are the pools, ``hugetlbfs`` is whether one is mounted for programs to use them, ``memlock_mib`` how
    much a process of the reading user may lock; unset where that is not limited.
    """

    total_mib: Count | None = None
    available_mib: Count | None = None
    hugepages: tuple[Hugepages, ...] | msgspec.UnsetType | None = msgspec.UNSET
    hugetlbfs: bool | msgspec.UnsetType | None = msgspec.UNSET
    memlock_mib: Count | msgspec.UnsetType | None = msgspec.UNSET


class Iommu(msgspec.Struct, frozen=True, kw_only=True):
    """The IOMMU. ``kind``: vt-d, amd-vi, other or none; ``acpi_table``: DMAR, IVRS or none; ``groups``: how many.

    ``parameters`` are the kernel parameters that decide (``intel_iommu=on``, ``iommu=pt``, ...), ``acs_override``
    is whether the command line splits groups that the hardware does not separate. ``unsafe_interrupts`` is whether VFIO
    hands devices over without interrupt remapping too; unset in documents from before it was read.
    """

    kind: Literal["vt-d", "amd-vi", "other", "none"] | None = None
    acpi_table: Literal["DMAR", "IVRS", "other", "none"] | None = None
    enabled: bool | None = None
    parameters: tuple[str, ...] | None = None
    interrupt_remapping: bool | None = None
    groups: Count | None = None
    acs_override: bool | None = None
    unsafe_interrupts: bool | msgspec.UnsetType | None = msgspec.UNSET
    evidence: tuple[str, ...] = ()

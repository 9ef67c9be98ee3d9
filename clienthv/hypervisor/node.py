"""A PC as its libvirt describes it: a host document for one that clienthv cannot look at itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from lxml import etree

from clienthv.errors import DocumentError, HostError
from clienthv.hypervisor import documents, host_capabilities
from clienthv.hypervisor.binding import libvirt, translated
from clienthv.hypervisor.connection import Connection
from clienthv.hypervisor.host_capabilities import HostCapabilities
from clienthv.hypervisor.interfaces import host_network
from clienthv.hypervisor.node_devices import Devices, read_devices
from clienthv.hypervisor.storage import TargetStorage, storage_pools
from clienthv.model import host as host_documents
from clienthv.model.host import Host, Hugepages, Iommu, Kvm, Machine, Memory, Stack

TOLD_BY_LIBVIRT: Final = "libvirt"
"""The ``source`` of a host that libvirt described."""

MOST_TEXT: Final = 64 << 20
"""Characters of XML that are read of one PC's devices. One answer of libvirt has 32 MiB at most (virnetprotocol.x)."""

_ALL_CELLS: Final = -1  # VIR_NODE_MEMORY_STATS_ALL_CELLS
_NOT_TOLD: Final = (
    "kernel, firmware, chassis, TPM and the processor's model: libvirt does not tell",
    "what the host uses (screens, disks, network, keyboards): libvirt does not tell",
    "how devices can be reset, interrupt remapping and reserved memory: libvirt does not tell",
)


class Node(NamedTuple):
    """A PC and its storage pools; None where the connection has no driver for pools, or it does not answer."""

    host: Host
    pools: tuple[TargetStorage, ...] | None


def host_of(connection: Connection, name: str) -> Host:
    """The PC of an open connection as libvirt describes it, under a name of the caller's. Raises HostError.

    Nothing of the PC that clienthv runs on gets into it. What libvirt does not tell is None and, in sentences, in
    ``unknown``; no role is read, so that whether the host uses a device is unknown for each.
    """
    unknown: list[str] = list(_NOT_TOLD)
    with translated(f"read the capabilities of {connection.uri}"):
        told = host_capabilities.parse(connection.handle.getCapabilities())
    cpu = host_capabilities.cpu_of(told, _all_features(connection, told))
    kvm = told.kvm and cpu.virtualization != "none"
    stack = _stack(connection, kvm=kvm)
    devices = _devices(connection, unknown)
    if cpu.flags is None:
        unknown.append("the processor's flags: libvirt could not name all features of its model")
    else:
        unknown.append("the processor's flags beyond those of x86-64's levels: libvirt has names of its own")
    host = Host(
        name=name,
        source=TOLD_BY_LIBVIRT,
        machine=_machine(devices, virtual=cpu.hypervisor is True),
        cpu=cpu,
        memory=_memory(connection, told, unknown),
        kvm=_kvm(told, stack, has_hardware=cpu.virtualization != "none"),
        iommu=_iommu(told, devices),
        pci=devices.pci if devices is not None else (),
        usb=devices.usb if devices is not None else None,
        network=host_network(connection, devices.cards if devices is not None else (), stack, unknown),
        stack=stack,
        unknown=tuple(unknown),
    )
    return _checked(host, connection.uri)


def node_of(connection: Connection, name: str) -> Node:
    """The PC and its storage pools. Raises HostError."""
    return Node(host_of(connection, name), storage_pools(connection))


def _checked(host: Host, uri: str) -> Host:
    """The same host, read as if it came from a file: no value is of another form than a document may have."""
    try:
        return host_documents.decode(host_documents.encode(host), uri)
    except (DocumentError, UnicodeEncodeError) as e:
        msg = f"what {uri} tells of its PC makes no sense: {e}"
        raise HostError(msg, hint="save a host document there with: clienthv inspect --save FILE") from e


def _stack(connection: Connection, *, kvm: bool) -> Stack:
    """The virtualization software. A system daemon, or root's embedded driver, can hand over devices."""
    embedded = connection.choice.embedded_root is not None
    privileged = connection.choice.path == "/system" or (embedded and os.geteuid() == 0)
    try:
        return connection.stack(kvm=kvm, privileged=privileged)
    except (ValueError, etree.LxmlError) as e:
        msg = f"what {connection.uri} tells of its guests cannot be understood: {e}"
        raise HostError(msg) from e


def _all_features(connection: Connection, told: HostCapabilities) -> frozenset[str] | None:
    """All features of the processor, its model's too, by libvirt's names; None where libvirt cannot say.

    The host's ``<cpu>`` has a model whose features it has all, and names those it has besides. The baseline of that
    one processor is itself, which libvirt writes out on demand (virConnectBaselineCPU, VIR_CONNECT_BASELINE_CPU_EXPAND_
    FEATURES).
    """
    if told.cpu_xml is None:
        return None
    virt = libvirt()
    try:
        xml = connection.handle.baselineCPU([told.cpu_xml], virt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
        return host_capabilities.features_in(xml) | told.features
    except (virt.libvirtError, HostError):
        return None


def _memory(connection: Connection, told: HostCapabilities, unknown: list[str]) -> Memory:
    """The memory that Linux has (virNodeGetMemoryStats: MemTotal and others of /proc/meminfo).

    MemAvailable is not among them: free memory and the caches come close to it, and the kernel may not get back all.
    """
    virt = libvirt()
    try:
        stats = connection.handle.getMemoryStats(_ALL_CELLS, 0)
    except virt.libvirtError:
        stats = {}
    total = stats.get("total")
    parts = [stats.get(key) for key in ("free", "buffers", "cached")]
    available = sum(part for part in parts if part is not None) >> 10 if None not in parts else None
    unknown.append(
        "how much memory is available: libvirt does not tell; free memory and caches are counted"
        if available is not None
        else "how much memory is available: libvirt does not tell"
    )
    return Memory(
        total_mib=total >> 10 if total is not None else told.memory_mib,
        available_mib=available,
        hugepages=_pools(connection, told),
        hugetlbfs=None,
        memlock_mib=None,
    )


def _pools(connection: Connection, told: HostCapabilities) -> tuple[Hugepages, ...] | None:
    """The pools of huge pages with what is free of them; None where libvirt does not say so."""
    if not told.pools:
        return ()
    sizes = [pool.size_kib for pool in told.pools]
    try:
        cells = connection.handle.getFreePages(sizes, 0, told.cells or 1, 0)
    except (libvirt().libvirtError, OverflowError):
        return None
    free = {size: sum(cell.get(size, 0) for cell in cells.values()) for size in sizes}
    return tuple(msgspec.structs.replace(pool, free=free[pool.size_kib]) for pool in told.pools)


def _kvm(told: HostCapabilities, stack: Stack, *, has_hardware: bool) -> Kvm:
    """KVM is usable where libvirt, whose QEMU has tried it, offers it on hardware that has it.

    A processor without vmx and svm starts no guest, whatever is offered (``inspect/kvm.py`` has the same rule).
    """
    if not told.kvm:
        return Kvm(usable=False, evidence=(f"capabilities: no guests of {told.architecture} with KVM",))
    offered = f"capabilities: guests of {told.architecture} with KVM"
    if not has_hardware:
        return Kvm(usable=False, evidence=(offered, "capabilities: the processor has neither vmx nor svm"))
    if stack.capabilities is None or stack.capabilities.domain_type != "kvm":
        return Kvm(usable=None, evidence=(offered, "domain capabilities: could not be read for KVM"))
    return Kvm(usable=True, evidence=(offered, "domain capabilities: read for KVM"))


def _iommu(told: HostCapabilities, devices: Devices | None) -> Iommu:
    """An IOMMU is active where the kernel forms groups (libvirt, src/util/virhostcpu.c and virutil.c, virHostHasIOMMU).

    The groups that are counted have PCI functions in them. AMD's IOMMU is a PCI function itself (class 0806).
    """
    pci = devices.pci if devices is not None else ()
    groups = {f.iommu_group for f in pci if f.iommu_group is not None}
    amd = any(f.base_class == "0806" and f.vendor_id == "1022" for f in pci)
    said = {True: "yes", False: "no", None: "not told"}[told.iommu]
    counted = [f"node devices: {len(groups)} IOMMU groups with PCI functions"] if devices is not None else []
    return Iommu(
        kind="amd-vi" if amd else None,
        enabled=told.iommu,
        groups=len(groups) if pci else None,
        evidence=(f"capabilities: iommu support: {said}", *counted),
    )


def _machine(devices: Devices | None, *, virtual: bool) -> Machine:
    made = devices.machine if devices is not None else Machine()
    return msgspec.structs.replace(made, chassis="virtual") if virtual else made


@dataclass(slots=True)
class _Documents:
    """The node devices' documents, one after another, up to ``MOST_TEXT`` characters together."""

    handles: list[Any]
    left: int = MOST_TEXT
    gone: int = 0
    cut: bool = False

    def __iter__(self) -> Iterator[str]:
        for handle in self.handles:
            try:
                xml = handle.XMLDesc(0)
            except libvirt().libvirtError:
                self.gone += 1  # a device can go between two questions
                continue
            self.left -= len(xml)
            if self.left < 0:
                self.cut = True
                return
            yield xml


def _devices(connection: Connection, unknown: list[str]) -> Devices | None:
    """What node devices there are; None, with a sentence, where the connection tells of none."""
    virt = libvirt()
    kinds = ("SYSTEM", "PCI_DEV", "USB_DEV", "USB_INTERFACE", "NET", "STORAGE", "DRM", "MDEV")
    flags = sum(getattr(virt, f"VIR_CONNECT_LIST_NODE_DEVICES_CAP_{kind}", 0) for kind in kinds)
    try:
        handles = connection.handle.listAllDevices(flags)
    except virt.libvirtError as e:
        why = (
            "its libvirt has no driver for them (Debian: libvirt-daemon-driver-nodedev)"
            if e.get_error_code() == virt.VIR_ERR_NO_SUPPORT
            else documents.line(e.get_error_message()) or "it refused"
        )
        unknown.append(f"the connection {connection.uri} tells of no devices, neither PCI nor USB: {why}")
        return None
    xmls = _Documents(handles)
    devices = read_devices(xmls)
    unknown.extend(_gaps(devices, xmls))
    return devices


def _gaps(devices: Devices, xmls: _Documents) -> Iterator[str]:
    if xmls.cut:
        yield f"devices beyond the first {MOST_TEXT >> 20} MiB of their descriptions: not read"
    if devices.odd:
        yield f"{devices.odd} of the devices that libvirt names: not understood"
    if xmls.gone:
        yield f"{xmls.gone} of the devices that libvirt names: gone when asked for"
    if devices.usb is None:
        yield "USB devices: libvirt does not tell where one of them is plugged in"
    if any(f.block_devices is None for f in devices.pci):
        yield "which NVMe function carries a disk: libvirt does not tell where it has several paths"

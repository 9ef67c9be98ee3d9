"""One reading of a PC, put together; what could not be read is said in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from clienthv.inspect.bridges import read_host_network
from clienthv.inspect.cmdline import CMDLINE, read_cmdline
from clienthv.inspect.cpu import CPUINFO, read_cpu
from clienthv.inspect.events import read_events
from clienthv.inspect.files import Tree
from clienthv.inspect.installation import read_installation
from clienthv.inspect.iommu import INTERRUPTS, TABLES, TYPE1, read_iommu
from clienthv.inspect.kvm import DEVICE, read_kvm
from clienthv.inspect.machine import read_hostname, read_kernel, read_machine, read_tpm
from clienthv.inspect.memory import MEMINFO, read_memory
from clienthv.inspect.pci import read_functions
from clienthv.inspect.roles import read_roles
from clienthv.inspect.storage import Disks
from clienthv.inspect.udev import folder
from clienthv.inspect.usb import read_devices
from clienthv.model.host import Cpu, Host, Iommu, Kvm, Memory, PciFunction, RoleName


def read(root: str = "/", *, keep_names: bool = False) -> Host:
    """The PC whose /sys, /proc and /dev lie below ``root``; "/" is the running one, which udev knows more about.

    Nothing is changed and no process is started. Never raises for what a file holds or lacks: what could not be
    read is ``None`` and named in ``unknown``. The result is not anonymised; ``keep_names`` adds the host name.
    """
    tree = Tree(root)
    cmdline = read_cmdline(tree)
    cpu = read_cpu(tree)
    kvm = read_kvm(tree, cpu)
    iommu = read_iommu(tree, cmdline)
    memory = read_memory(tree)
    disks = Disks.read(tree)
    pci = read_functions(tree, disks)
    findings = read_roles(tree, pci, disks)
    usb = read_devices(tree, disks, findings)
    host = Host(
        source="live" if tree.live else None,
        machine=read_machine(tree, hypervisor=cpu.hypervisor),
        kernel=read_kernel(tree, cmdline),
        cpu=cpu,
        memory=memory,
        kvm=kvm,
        iommu=iommu,
        pci=pci,
        roles_read=tuple(role for role in RoleName if role in findings.looked),
        roles=findings.roles(),
        usb=usb,
        other_keyboards=findings.other_keyboards(),
        network=read_host_network(tree) or msgspec.UNSET,
        events=msgspec.UNSET if (events := read_events(tree)) is None else events,
        tpm_device=read_tpm(tree),
        installation=read_installation(tree),
        unknown=(
            *_about_platform(cpu, kvm, memory, cmdline),
            *_about_iommu(iommu),
            *_about_functions(tree, pci),
            *([] if usb is not None else [f"USB devices are unknown: {folder('usb')} could not be listed"]),
            *findings.unknown,
            *_refused(tree),
        ),
    )
    name = read_hostname(tree) if keep_names else None
    return msgspec.structs.replace(host, name=name) if name else host


def _about_platform(cpu: Cpu, kvm: Kvm, memory: Memory, cmdline: tuple[str, ...] | None) -> Iterator[str]:
    if cpu.flags is None:
        yield f"the CPU's abilities are unknown: {CPUINFO} has no flags"
    if kvm.device_present is None:
        yield f"whether there is KVM is unknown: {DEVICE} could not be looked for"
    if memory.total_mib is None:
        yield f"memory is unknown: {MEMINFO} has no MemTotal"
    if cmdline is None:
        yield f"the kernel's parameters are unknown: {CMDLINE} could not be read"


def _about_iommu(iommu: Iommu) -> Iterator[str]:
    if iommu.acpi_table is None:
        yield f"what firmware says of an IOMMU is unknown: {TABLES} could not be listed"
    if iommu.enabled is None:
        yield "whether the IOMMU is on is unknown: its groups could not be listed"
    elif iommu.enabled and iommu.interrupt_remapping is None:
        yield (
            f"whether interrupts are remapped is unknown: {INTERRUPTS} shows neither remapped nor plain chips; "
            "look for 'remapping' in: sudo dmesg"
        )
    elif iommu.enabled and iommu.interrupt_remapping is False and iommu.unsafe_interrupts is None:
        yield (
            "whether VFIO hands devices over without interrupt remapping is unknown: "
            f"{TYPE1} could not be read; sudo modprobe vfio_iommu_type1 loads it"
        )


def _about_functions(tree: Tree, pci: tuple[PciFunction, ...]) -> Iterator[str]:
    if not pci and not tree.exists(folder("pci")):
        yield f"there is no PCI bus to be seen: {folder('pci')} is not there"
    if pci and all(f.reset_methods is None for f in pci):
        yield "how the devices can be reset is unknown: only Linux 5.15 and later have reset_method files"


def _refused(tree: Tree) -> Iterator[str]:
    """One sentence for each kind of file, as there is one such file for each device."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, why in sorted(tree.refused.items()):
        if path != DEVICE:  # not being allowed to open KVM is a finding, not a gap
            alike[path.rpartition("/")[2], why].append(path)
    for (_, why), paths in alike.items():
        more = f" and {len(paths) - 1} more like it" if len(paths) > 1 else ""
        yield f"{paths[0]}{more} could not be read: {why.lower()}; run clienthv inspect as root to read it"


def kvm_is_usable(root: str = "/") -> bool:
    """Whether KVM runs guests here, without reading the rest of the PC."""
    tree = Tree(root)
    return read_kvm(tree, read_cpu(tree)).usable is True

"""The board: its type, firmware, TPM, memory and processors, against what the target's QEMU and hardware have."""

from __future__ import annotations

from typing import Final

from clienthv.model import values
from clienthv.model.domain import DomainFacts
from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.portability.subject import Findings, Subject, Target, blocks, changes, info, stops_live, unknown, warns
from clienthv.strategies.size import RESERVE_MIB

_ALIASES: Final = ("q35", "pc")
_TYPES: Final = ("kvm", "qemu")
_X86: Final = "x86_64"
_X86_32: Final = "i686"
_CONVERTED: Final = ("xen", "vmware")
_ENCRYPTS: Final = {"sev": "AuthenticAMD", "sev-snp": "AuthenticAMD", "tdx": "GenuineIntel"}
_USUAL: Final = ("/usr/bin/qemu-system-x86_64", "/usr/bin/kvm", "/usr/bin/qemu-kvm", "/usr/libexec/qemu-kvm")


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against the board of a definition. Of a bare image only the architecture says something."""
    yield from _architecture(subject, target)
    domain = subject.domain
    if domain is None:
        return
    if not domain.is_planned:
        return
    yield from _machine_type(domain, target)
    yield from _firmware(domain, target)
    yield from _tpm(domain, target)
    yield from _memory(domain, target)
    yield from _processors(domain, target)
    yield from _places(domain, target)
    yield from _launch_security(domain, target)
    if domain.smbios_host:
        yield warns(
            Code.SMBIOS_OF_THE_HOST,
            "smbios mode='host'",
            "the guest sees the maker and model of the PC below it: another there, and licences may hang on it",
            "mode='sysinfo' with the values that it sees now keeps them",
        )


def _launch_security(domain: DomainFacts, target: Target) -> Findings:
    """Encrypted memory: never sent, and only by the processors of its maker (libvirt, formatdomain, "Launch Security").

    AMD's are known by the flag ``sev`` of /proc/cpuinfo (Linux, arch/x86/include/asm/cpufeatures.h).
    """
    kind, there = domain.launch_security, target.host.cpu
    if kind is None:
        return
    yield stops_live(
        Code.LAUNCH_SECURITY, kind, "QEMU cannot send memory that it cannot read", "shut the guest down first"
    )
    vendor = _ENCRYPTS.get(kind)
    if vendor is not None and (
        there.vendor not in (None, vendor)
        or there.architecture != _X86
        or (kind.startswith("sev") and there.flags is not None and "sev" not in there.flags)
    ):
        yield changes(
            Code.LAUNCH_SECURITY,
            kind,
            f"the processor of {target.called} does not encrypt a guest's memory so",
            "leave <launchSecurity> out, if the guest may do without",
        )
    else:
        yield unknown(
            Code.LAUNCH_SECURITY,
            kind,
            "memory encryption hangs on the processor, its firmware and the kernel, and no host document tells of all",
            f"virsh domcapabilities on {target.called} says what it supports",
        )


def _kind(domain: DomainFacts) -> Findings:
    """What clienthv does not judge, and 32-bit guests, which x86_64 runs as they are (libvirt, qemu_capabilities.c)."""
    if domain.type not in _TYPES:
        yield blocks(
            Code.NOT_RUNNING_KIND,
            domain.type,
            f"a domain of type {domain.type} is no VM of QEMU on Linux",
            "virt-v2v can make one of it" if domain.type in _CONVERTED else None,
        )
    if domain.arch == _X86_32:
        yield warns(
            Code.ARCHITECTURE,
            domain.arch,
            "a PC of 32 bits: planned anew the guest sees one of 64, on which systems of 32 bits run too",
            f"<type arch='{_X86}'> if its system runs on it",
        )
        if domain.emulator is not None and not domain.emulator.endswith(_X86):
            yield stops_live(
                Code.ARCHITECTURE,
                domain.emulator,
                f"it sends a guest to its like alone, and what is known of other PCs is their qemu-system-{_X86}",
                "shut the guest down first",
            )
    elif domain.arch != _X86:
        yield blocks(Code.ARCHITECTURE, domain.arch, f"clienthv plans x86_64 guests, and this one is {domain.arch}")


def _architecture(subject: Subject, target: Target) -> Findings:
    if subject.domain is not None:
        yield from _kind(subject.domain)
    there = target.host.cpu.architecture
    if there == _X86 or (subject.domain is not None and not subject.domain.is_planned):
        return
    tell = changes if subject.domain is not None and subject.domain.type == "kvm" else warns
    yield tell(
        Code.ARCHITECTURE,
        f"an {_X86} guest",
        f"the processor of {target.called} is {there}: QEMU translates every instruction, many times slower than KVM",
        f"take a PC with an {_X86} processor",
        Kind.CPU,
    )


def _machine_type(domain: DomainFacts, target: Target) -> Findings:
    machine, capabilities = domain.machine, target.capabilities
    if machine is None or machine in _ALIASES:
        yield info(
            Code.MACHINE_ALIAS,
            machine or "no machine type",
            "it means the newest that the QEMU at hand has, and is settled when the VM is defined",
        )
        return
    if capabilities is not None and capabilities.machine_types and machine not in capabilities.machine_types:
        version = f" {target.host.stack.qemu_version}" if target.host.stack and target.host.stack.qemu_version else ""
        yield changes(
            Code.MACHINE_TYPE,
            machine,
            f"QEMU{version} there has no such machine type (it has {len(capabilities.machine_types)} others)",
            "update QEMU there; or let the guest see the newest board that it has",
        )


_READ_IT: Final = "run clienthv inspect --save on that PC, with libvirt running"


def _firmware(domain: DomainFacts, target: Target) -> Findings:
    firmware, capabilities = domain.firmware, target.capabilities
    if not firmware.uefi:
        yield from _files(domain, target, "leave <loader> out: QEMU brings its BIOS along")
        return
    what = "UEFI with Secure Boot" if firmware.secure_boot else "UEFI"
    if capabilities is not None and "efi" not in capabilities.firmware:
        yield blocks(
            Code.FIRMWARE,
            what,
            "the guest was installed for UEFI, and libvirt finds no UEFI firmware there",
            "install ovmf (edk2-ovmf)",
            Kind.FIRMWARE,
        )
    elif capabilities is not None and firmware.secure_boot and not capabilities.secure_boot:
        yield changes(
            Code.SECURE_BOOT,
            what,
            "libvirt finds no firmware with Secure Boot there: the guest starts without it",
            "install ovmf with its Secure Boot build",
            Kind.FIRMWARE,
        )
    yield from _files(domain, target, "<os firmware='efi'> lets libvirt find it")
    yield info(
        Code.NVRAM,
        firmware.nvram or "the UEFI variables",
        "they hold boot entries and Secure Boot keys, and must go along",
        "a bundle carries them: clienthv export",
    )


def _files(domain: DomainFacts, target: Target, fix: str) -> Findings:
    """Firmware that the definition names by path: distributions keep it in different places."""
    named = [path for path in (domain.firmware.loader, domain.firmware.template) if path]
    if domain.firmware.automatic or not named:
        return
    for path in named:
        if target.exists(path):
            continue
        tell = changes if target.exists(path) is False else warns
        yield tell(
            Code.FIRMWARE_FILES,
            path,
            "the definition names this file of the PC below it"
            + ("; it is not there" if target.exists(path) is False else ", which other PCs keep elsewhere or lack"),
            fix,
            Kind.FIRMWARE,
        )


def _tpm(domain: DomainFacts, target: Target) -> Findings:
    tpm, capabilities = domain.tpm, target.capabilities
    if tpm is None:
        return
    if tpm.backend == "passthrough":
        yield stops_live(Code.TPM, "the host's TPM", "a TPM of the host does not move with a running guest")
        yield changes(
            Code.TPM,
            "the host's TPM",
            "what is sealed in it stays on that PC: have the recovery keys of encrypted disks at hand",
            'tpm.prefer = ["emulated"] gives a TPM whose state travels',
            Kind.TPM,
        )
        return
    if capabilities is not None and (tpm.backend or "emulator") not in capabilities.tpm_backends:
        yield changes(
            Code.TPM,
            "a TPM in software",
            f"libvirt offers the TPM backends {', '.join(capabilities.tpm_backends) or 'none'} there",
            "install swtpm and swtpm-tools",
            Kind.TPM,
        )
    yield info(
        Code.TPM_STATE,
        "the TPM's state",
        "keys are sealed in it, and it must go along",
        "a bundle carries it: clienthv export",
    )


def _memory(domain: DomainFacts, target: Target) -> Findings:
    memory, size = target.host.memory, values.format_mib(domain.memory_mib)
    if not domain.memory_mib:
        yield changes(
            Code.MEMORY,
            "no memory",
            "the definition does not say how much memory the guest has, and libvirt takes none such",
            "<memory unit='GiB'>4</memory>",
        )
    elif memory.total_mib is None:
        yield unknown(Code.MEMORY, size, f"{target.called} does not tell how much memory it has", _READ_IT)
    elif domain.memory_mib > memory.total_mib - RESERVE_MIB:
        yield changes(
            Code.MEMORY,
            size,
            f"{target.called} has {values.format_mib(memory.total_mib)} in all, and needs {RESERVE_MIB} MiB itself",
            "give the VM less memory there",
        )
    elif memory.available_mib is not None and domain.memory_mib > memory.available_mib:
        yield warns(
            Code.MEMORY,
            size,
            f"{values.format_mib(memory.available_mib)} were free when {target.called} was looked at",
            "close programs or other VMs there",
        )
    if domain.hugepages:
        yield from _huge_pages(domain, target)


def _huge_pages(domain: DomainFacts, target: Target) -> Findings:
    pools = target.host.memory.hugepages
    if not isinstance(pools, tuple):
        yield unknown(
            Code.HUGEPAGES, "huge pages", f"{target.called} does not tell of its pools of huge pages", _READ_IT
        )
        return
    wanted = domain.page_sizes_kib
    what = f"huge pages of {', '.join(map(str, wanted))} KiB" if wanted else "huge pages"
    fitting = [pool for pool in pools if not wanted or pool.size_kib in wanted]
    if not any(pool.free * pool.size_kib >> 10 >= domain.memory_mib for pool in fitting):
        yield changes(
            Code.HUGEPAGES,
            what,
            f"no pool of {target.called} has {values.format_mib(domain.memory_mib)} free",
            "make them there (sysctl vm.nr_hugepages), or leave out <hugepages/>",
        )


def _processors(domain: DomainFacts, target: Target) -> Findings:
    threads, capabilities = target.host.cpu.threads, target.capabilities
    if capabilities is not None and capabilities.max_vcpus and domain.vcpus > capabilities.max_vcpus:
        yield changes(
            Code.VCPUS,
            f"{domain.vcpus} vCPUs",
            f"QEMU there gives a guest {capabilities.max_vcpus} at most",
            "give it fewer",
        )
    elif threads is not None and domain.vcpus > threads:
        yield warns(
            Code.VCPUS,
            f"{domain.vcpus} vCPUs",
            f"{target.called} has {threads} CPU thread{'' if threads == 1 else 's'}: the guest's processors wait for "
            "each other",
            f"give it {threads}{' or fewer' if threads > 1 else ''}",
        )
    if domain.highest_pin is not None and threads is not None and domain.highest_pin >= threads:
        yield changes(
            Code.CPU_PINS,
            f"pinned to CPU {domain.highest_pin}",
            f"{target.called} has {_upto(threads)}, and a start fails on a pin to one that is not there",
            "pin anew there, or leave <cputune> out",
        )
    elif domain.highest_pin is not None:
        yield warns(
            Code.CPU_PINS,
            "pinned CPUs",
            "the pins were chosen for the cores and caches of another processor",
            "pin anew there: pin = true in [devices.cpu]",
        )


def _upto(threads: int) -> str:
    return f"CPUs 0 to {threads - 1}" if threads > 1 else "CPU 0 alone"


def _places(domain: DomainFacts, target: Target) -> Findings:
    """NUMA nodes and the QEMU that a definition names (libvirt, formatdomain, "NUMA Node Tuning", "Devices")."""
    node, nodes = domain.highest_node, target.host.cpu.numa_nodes
    if node and nodes is not None and node >= nodes:
        yield changes(
            Code.NUMA_NODES,
            f"memory of NUMA node {node}",
            f"{target.called} has {nodes} of them, counted from 0, and a start fails on one that is not there",
            "leave <numatune> out there",
        )
    capabilities = target.capabilities
    there = capabilities.emulator if capabilities is not None else None
    if domain.emulator and domain.emulator != there and not target.exists(domain.emulator):
        if there is None and domain.emulator in _USUAL:
            return
        yield warns(
            Code.EMULATOR,
            domain.emulator,
            f"the definition names this QEMU; that of {target.called} is {there}"
            if there
            else f"the definition names this QEMU, which {target.called} must have at that path",
            "leave <emulator> out: libvirt takes the one that is there",
        )

"""What keeps KVM from running guests: firmware, a module, a group; and memory: too little, or not to be locked."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from clienthv.doctor import remedy, wording
from clienthv.doctor.remedy import Met, Remedies, Remedy
from clienthv.model.advice import Advice, After, Evidence
from clienthv.model.host import Host


def remedies(host: Host, met: Met) -> Remedies:
    """The advice about the processor, KVM and memory."""
    if host.cpu.architecture == "x86_64":
        yield from _kvm(host)
    yield from _memlock(host)


def _kvm(host: Host) -> Remedies:
    cpu, kvm = host.cpu, host.kvm
    group = _by_sudo(host)
    if cpu.virtualization == "none":
        yield _nested(host) if cpu.hypervisor else _firmware(host)
    elif kvm.device_present is False and cpu.virtualization is not None:
        yield _module(host)
    elif (kvm.device_present and kvm.device_openable is False) or group:
        yield _group(host)


def _firmware(host: Host) -> Remedy:
    name = wording.virtualization_setting(host)
    advice = Advice(
        code="virtualization-firmware",
        title=f"Turn on {name} in the firmware setup, if the processor has it",
        detail="the processor shows neither vmx nor svm, so guests run by binary translation, many times slower; "
        "processors of the last fifteen years have it, and firmware may hide it",
        evidence=(Evidence(file="/proc/cpuinfo", value="the flags have neither vmx nor svm"),),
        steps=(wording.setup_key(), f"turn on {name} (under CPU, Advanced or Security), save and start"),
        after=After.REBOOT,
    )
    return Remedy(advice, with_kvm)


def _nested(host: Host) -> Remedy:
    advice = Advice(
        code="nested-virtualization",
        title="Allow nested virtualization on the machine below: this PC is itself a VM",
        detail="the VM's processor shows neither vmx nor svm, so guests inside it run by binary translation, many "
        "times slower",
        evidence=(Evidence(file="/proc/cpuinfo", value="the flags have hypervisor and neither vmx nor svm"),),
        steps=(
            "on the machine below, with KVM: options kvm_intel nested=1 (or kvm_amd nested=1) in a file in "
            "/etc/modprobe.d, where /sys/module/kvm_intel/parameters/nested (kvm_amd) is not Y or 1",
            "give this VM the processor of the machine below: <cpu mode='host-passthrough'/> in its libvirt domain",
        ),
        after=After.REBOOT,
    )
    return Remedy(advice, with_kvm)


def _module(host: Host) -> Remedy:
    module = "kvm_intel" if host.cpu.virtualization == "vmx" else "kvm_amd"
    advice = Advice(
        code="kvm-module",
        title=f"Load the module {module}",
        detail=f"the processor has {host.cpu.virtualization} and there is no /dev/kvm; where the module refuses to "
        f"load, the firmware has turned virtualization off: turn on {wording.virtualization_setting(host)} there",
        evidence=(
            Evidence(file="/dev/kvm", value="absent"),
            Evidence(file=f"/sys/module/{module}", value="absent"),
        ),
        steps=(f"sudo modprobe {module}", f"{module} in a file in /etc/modules-load.d loads it at each start"),
        fixable=remedy.account(host) is not None,
    )
    return Remedy(advice, with_kvm)


def _by_sudo(host: Host) -> bool:
    """Whether root reads this for an account that may not open /dev/kvm itself."""
    account = remedy.account(host)
    return (
        account is not None
        and not account.root
        and bool(host.kvm.device_openable)
        and account.kvm_for_group_only is True
        and "kvm" in (account.there or ())
        and "kvm" not in (account.groups or ())
    )


def _group(host: Host) -> Remedy:
    account = remedy.account(host)
    if account is not None and "kvm" in (account.groups or ()):
        advice = Advice(
            code="log-in-again",
            title="Log out and in again: this account is in the group kvm, and this session is from before that",
            detail="/dev/kvm is there and this session may not open it",
            evidence=(*remedy.said(host.kvm.evidence, "/dev/kvm"), Evidence(file="/etc/group", value="kvm: a member")),
            steps=("log out and in again",),
            after=After.LOGIN,
        )
        return Remedy(advice, with_kvm)
    by_sudo = bool(host.kvm.device_openable)
    advice = Advice(
        code="kvm-group",
        title="Join the group kvm",
        detail="/dev/kvm is there, and this account may not open it" + (" without sudo" if by_sudo else ""),
        evidence=(Evidence(file="/etc/group", value="kvm: not a member"),)
        if by_sudo
        else remedy.said(host.kvm.evidence, "/dev/kvm"),
        steps=('sudo usermod -aG kvm "$USER"', "log out and in again"),
        fixable=account is not None and not account.root and "kvm" in (account.there or ()),
        after=After.LOGIN,
    )
    return Remedy(advice, with_kvm)


def with_kvm(host: Host) -> Host:
    """The host with a KVM that works."""
    hardware: Literal["vmx", "svm"] = "vmx" if wording.is_intel(host) else "svm"
    shown = host.cpu.virtualization if host.cpu.virtualization in ("vmx", "svm") else hardware
    made = replace(
        host,
        cpu=replace(host.cpu, virtualization=shown),
        kvm=replace(host.kvm, device_present=True, device_openable=True, vm_creatable=True, usable=True),
    )
    return remedy.with_capabilities(
        made,
        lambda c: replace(
            c, domain_type="kvm", cpu_modes=remedy.adding(c.cpu_modes, "host-passthrough", "host-model", "custom")
        ),
    )


def _memlock(host: Host) -> Remedies:
    """Who is no root and has no daemon of root's needs the limit (kernel, Documentation/driver-api/vfio.rst)."""
    limit, stack = host.memory.memlock_mib, host.stack
    by_daemon = stack is not None and (stack.uri or "").startswith("qemu:///system")
    if host.iommu.enabled is False or not isinstance(limit, int):
        return
    if by_daemon or stack is None or stack.privileged is not True:
        return
    account = remedy.account(host)
    yield Remedy(
        Advice(
            code="memlock",
            title="Let this account lock the memory of its VMs",
            detail=f"a VM with a handed-over device has all its memory locked, and this account may lock {limit} MiB",
            evidence=(Evidence(file="/proc/self/limits", value=f"Max locked memory: {limit} MiB"),),
            steps=("a line in a file in /etc/security/limits.d: ACCOUNT - memlock unlimited", "log out and in again"),
            fixable=account is not None,
            after=After.LOGIN,
        )
    )


def memory(host: Host, too_small: tuple[str, ...]) -> Remedies:
    """What to do where the PC has too little memory or too few threads for a profile."""
    if not too_small:
        return
    told = "; ".join(too_small[:4]) + (f"; and {len(too_small) - 4} more" if len(too_small) > 4 else "")
    yield Remedy(
        Advice(
            code="more-room",
            title="Make room for larger VMs, or let their profiles shrink",
            detail=told,
            evidence=(Evidence(file="/proc/meminfo", value=f"MemAvailable: {host.memory.available_mib} MiB"),)
            if host.memory.available_mib is not None
            else (),
            steps=(
                "close programs and stop other VMs, or put more memory into the PC",
                "or lower size.memory, size.memory_min and size.vcpus in the profile",
            ),
        ),
        _with_room,
    )


def _with_room(host: Host) -> Host:
    stack = host.stack
    idle = stack if stack is None else replace(stack, vms=msgspec.UNSET)
    if idle is not None and idle.capabilities is not None:
        idle = replace(idle, capabilities=replace(idle.capabilities, max_vcpus=None))
    memory = replace(host.memory, available_mib=None, total_mib=None)
    return replace(host, memory=memory, cpu=replace(host.cpu, threads=None), stack=idle)

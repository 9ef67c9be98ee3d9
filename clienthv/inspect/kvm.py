"""KVM: the module, the device, whether a VM can be made, and whether that means anything on this CPU."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from typing import Final

from clienthv.inspect.cpu import CPUINFO
from clienthv.inspect.files import Tree
from clienthv.model.host import Cpu, Kvm

DEVICE: Final = "/dev/kvm"
MODULES: Final = "/sys/module"
KVM_GET_API_VERSION: Final = 0xAE00  # include/uapi/linux/kvm.h
KVM_CREATE_VM: Final = 0xAE01
API_VERSION: Final = 12  # Documentation/virt/kvm/api.rst: applications must refuse any other


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking /dev/kvm gave. ``error`` is an errno, 0 without one; ``api`` the version it answered."""

    present: bool | None
    openable: bool | None = None
    api: int | None = None
    creatable: bool | None = None
    error: int = 0


def read_kvm(tree: Tree, cpu: Cpu) -> Kvm:
    """KVM as found, with the verdict. A VM without memory or CPUs is made and dropped at once to learn more."""
    module = _module(tree)
    probe = _probe(tree)
    usable, reasons = verdict(probe, cpu)
    found = [f"{MODULES}: {module} is loaded"] if module else []
    return Kvm(
        module=module,
        nested=tree.switch(f"{MODULES}/{module}/parameters/nested") if module else None,
        device_present=probe.present,
        device_openable=probe.openable,
        vm_creatable=probe.creatable,
        usable=usable,
        evidence=(*reasons, *found),
    )


def verdict(probe: Probe, cpu: Cpu) -> tuple[bool | None, tuple[str, ...]]:
    """Whether this user can run VMs with KVM, and what shows it.

    A device that opens and makes VMs is not enough: without vmx or svm in the CPU (a guest without nested
    virtualization, or KVM without hardware such as kvm_pvm) QEMU aborts or its guests stop at once.
    """
    said = [*_about_device(probe), *_about_cpu(cpu)]
    works = _all_of(probe.present, probe.openable, probe.creatable)
    has_hardware = None if cpu.virtualization is None else cpu.virtualization != "none"
    return _all_of(works, has_hardware), tuple(said)


def _about_device(probe: Probe) -> list[str]:
    why = os.strerror(probe.error) if probe.error else ""
    if probe.present is None:
        return [f"{DEVICE}: could not be looked for"]
    if not probe.present:
        return [f"{DEVICE}: is not there"]
    if not probe.openable:
        denied = "; its group, kvm, is needed" if probe.error in (errno.EACCES, errno.EPERM) else ""
        return [f"{DEVICE}: cannot be opened by this user: {why.lower()}{denied}"]
    if probe.api is not None and probe.api != API_VERSION:
        return [f"{DEVICE}: speaks API version {probe.api}, not {API_VERSION}"]
    if not probe.creatable:
        return [f"{DEVICE}: opens, but KVM_CREATE_VM fails: {why.lower()}"]
    return [f"{DEVICE}: opens, and KVM_CREATE_VM succeeds"]


def _about_cpu(cpu: Cpu) -> list[str]:
    if cpu.virtualization is None:
        return [f"{CPUINFO}: tells no CPU flags, so whether the CPU has vmx or svm is unknown"]
    if cpu.virtualization == "none":
        return [f"{CPUINFO}: the flags have neither vmx nor svm, so KVM has no hardware to run guests on"]
    return [f"{CPUINFO}: the flags have {cpu.virtualization}"]


def _all_of(*facts: bool | None) -> bool | None:
    """One no decides, whatever is unknown."""
    return False if False in facts else None if None in facts else True


def _module(tree: Tree) -> str | None:
    """The module that drives the hardware; ``kvm`` itself only holds what they share."""
    loaded = set(tree.names(MODULES) or ())
    for name in ("kvm_intel", "kvm_amd", "kvm_hv"):
        if name in loaded:
            return name
    others = sorted(name for name in loaded if name.startswith("kvm_"))
    return others[0] if others else None


def _probe(tree: Tree) -> Probe:
    present = tree.exists(DEVICE) if tree.exists("/dev") else None
    if not present:
        return Probe(present)
    try:
        device = os.open(tree.path(DEVICE), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return Probe(present, openable=False, error=e.errno or 0)
    try:
        return _ask(device)
    finally:
        os.close(device)


def _ask(device: int) -> Probe:
    api: int | None = None
    try:
        api = fcntl.ioctl(device, KVM_GET_API_VERSION, 0)
        if api != API_VERSION:
            return Probe(present=True, openable=True, api=api, creatable=False)
        os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
    except OSError as e:
        return Probe(present=True, openable=True, api=api, creatable=False, error=e.errno or 0)
    return Probe(present=True, openable=True, api=api, creatable=True)

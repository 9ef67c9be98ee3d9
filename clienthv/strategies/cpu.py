"""How the guest's instructions run: by the processor itself (KVM), or translated by QEMU (TCG)."""

from __future__ import annotations

from clienthv.model.host import Host
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.model.x86_64 import LEVELS, missing
from clienthv.strategies.frame import Objections, Option, Options, Question, reject

GUEST_ARCHITECTURE = "x86_64"


def options(strategy: Strategy, question: Question) -> Options:
    """The CPU model follows from the strategy and the profile; of the levels of x86-64 lower ones come after it."""
    if strategy is Strategy.HARDWARE_VIRTUALIZATION:
        # host-model gives every feature of the host that QEMU can name, so that another host can be compared with
        # it; host-passthrough hides nothing and ties the guest to this processor (libvirt domain format, "cpu").
        for model in _models(question):
            yield Option(strategy=strategy, model=model, backing="KVM", why=_why_kvm(question.host))
    else:
        # "maximum" is every feature TCG can emulate; host models need KVM (libvirt domain format, "cpu").
        yield Option(
            strategy=strategy,
            model="maximum",
            backing="QEMU's TCG",
            why="binary translation: runs on any processor, many times slower",
        )


def _models(question: Question) -> tuple[str, ...]:
    model = question.profile.device(Kind.CPU).model or "host-model"
    level = next((level for level in LEVELS if level == model), None)
    return (model,) if level is None else tuple(reversed(LEVELS[: LEVELS.index(level) + 1]))


def _why_kvm(host: Host) -> str:
    if host.kvm.usable:
        return "KVM is usable here: " + "; ".join(host.kvm.evidence[:2])
    if host.cpu.virtualization in ("vmx", "svm"):
        return f"the processor has {host.cpu.virtualization}; whether KVM is ready was not recorded"
    return "an active IOMMU shows a processor with hardware virtualization; more was not recorded"


def objections(option: Option, question: Question) -> Objections:
    """KVM needs the guest's own architecture, the processor's support, and a /dev/kvm that works."""
    if option.strategy is not Strategy.HARDWARE_VIRTUALIZATION:
        return
    host = question.host
    yield from _against_level(option, host)
    if host.cpu.architecture != GUEST_ARCHITECTURE:
        yield reject(
            option,
            Reason.ARCHITECTURE_DIFFERS,
            f"the host's processor is {host.cpu.architecture}, the guest's {GUEST_ARCHITECTURE}",
        )
        return
    if host.kvm.usable:
        yield from _not_offered(option, question)
    elif host.cpu.virtualization == "none":
        yield reject(
            option,
            Reason.NO_HARDWARE_VIRTUALIZATION,
            "the processor shows neither vmx nor svm (/proc/cpuinfo flags)" + _and_kvm(host),
            _enable_virtualization(host),
        )
    elif host.kvm.usable is False:
        yield reject(
            option,
            Reason.KVM_NOT_USABLE,
            "; ".join(host.kvm.evidence) or "the host document says KVM is not usable",
            _fix_kvm(host),
        )
    elif host.cpu.virtualization is None and not _iommu_shows_virtualization(host):
        yield reject(
            option,
            Reason.VIRTUALIZATION_UNKNOWN,
            "the host document says neither what the processor supports nor whether KVM works",
            "run clienthv inspect --save on that PC",
        )


def _against_level(option: Option, host: Host) -> Objections:
    """A level of x86-64 needs each of its flags (AMD64 ABI supplement, "Micro-Architecture Levels")."""
    level = next((level for level in LEVELS if level == option.model), None)
    if level is None or host.cpu.architecture != GUEST_ARCHITECTURE:
        return
    if host.cpu.flags is None:
        yield reject(
            option,
            Reason.CPU_LEVEL_UNKNOWN,
            f"the host document has no CPU flags, so whether the processor is {level} is not known",
            "run clienthv inspect --save on that PC",
        )
    elif lacking := missing(level, host.cpu.flags):
        yield reject(
            option,
            Reason.CPU_LEVEL_MISSING,
            f"the processor is no {level}: it has not {' '.join(lacking)} (/proc/cpuinfo flags)",
        )


def _iommu_shows_virtualization(host: Host) -> bool:
    """VT-d comes with VT-x and AMD-Vi with AMD-V: a bare-metal host with active groups has both."""
    return bool(host.iommu.enabled) and host.cpu.hypervisor is not True


def _and_kvm(host: Host) -> str:
    return ", although /dev/kvm is there: it cannot work" if host.kvm.device_present else ""


def _enable_virtualization(host: Host) -> str:
    if host.cpu.hypervisor:
        return "this PC is itself a VM: allow nested virtualization on the machine below it"
    return 'turn on VT-x ("Intel Virtualization Technology") or AMD-V ("SVM Mode") in the firmware setup, if there'


def _fix_kvm(host: Host) -> str:
    kvm = host.kvm
    if kvm.device_present is False:
        return "modprobe kvm_intel (or kvm_amd); if that fails, turn on VT-x or SVM Mode in the firmware setup"
    if kvm.device_openable is False:
        return "add yourself to the group that owns /dev/kvm: sudo usermod -aG kvm $USER, then log in again"
    return "look for kvm in the kernel's messages (dmesg)"


def _not_offered(option: Option, question: Question) -> Objections:
    capabilities = question.capabilities
    if capabilities is None or capabilities.domain_type != "kvm":
        return
    mode = "custom" if option.model in LEVELS else option.model
    if capabilities.cpu_modes and mode not in capabilities.cpu_modes:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            f"libvirt offers the CPU modes {', '.join(capabilities.cpu_modes)}, not {option.model}",
        )

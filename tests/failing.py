"""A PC with a graphics card, a network card and its virtual function, and a VM that has them all, for failed starts."""

from __future__ import annotations

from typing import Any

from clienthv import planner
from clienthv.model.guest import built_in
from clienthv.model.host import (
    Cpu,
    DomainCapabilities,
    Host,
    Hugepages,
    Iommu,
    Kvm,
    Memory,
    PciFunction,
    RoleName,
    SrIov,
    Stack,
)
from clienthv.model.plan import Kind, Plan
from clienthv.model.profile import Profile, ProfileText, parse

GPU, AUDIO, CARD, VF = "0000:01:00.0", "0000:01:00.1", "0000:03:00.0", "0000:03:10.0"
HOST = Host(
    cpu=Cpu(virtualization="svm", threads=8),
    kvm=Kvm(usable=True),
    iommu=Iommu(kind="amd-vi", enabled=True, interrupt_remapping=True, groups=9, acs_override=False),
    memory=Memory(total_mib=32768, available_mib=30000, hugepages=(Hugepages(size_kib=2048, total=4096, free=4096),)),
    roles_read=tuple(RoleName),
    pci=(
        PciFunction(address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True,
                    iommu_group=2, render_node="/dev/dri/renderD128"),
        PciFunction(address=GPU, class_code="030000", vendor_id="1002", device_id="5046", driver="amdgpu",
                    boot_vga=False, iommu_group=1),
        PciFunction(address=AUDIO, class_code="040300", vendor_id="1002", driver="snd_hda_intel", iommu_group=1),
        PciFunction(address=CARD, class_code="020000", vendor_id="8086", device_id="10c9", driver="igb", iommu_group=3,
                    interfaces=("enp3s0",), sriov=SrIov(totalvfs=7, numvfs=1, virtfns=(VF,), writable=True)),
        PciFunction(address=VF, class_code="020000", vendor_id="8086", device_id="10ca", driver="", iommu_group=4,
                    physfn=CARD),
    ),
    stack=Stack(
        uri="qemu:///system", privileged=True,
        capabilities=DomainCapabilities(
            domain_type="kvm", firmware=("efi", "bios"), secure_boot=True, video_models=("virtio", "vga"),
            graphics=("spice", "vnc", "egl-headless"), pci_backends=("vfio",), cpu_modes=("host-model", "maximum"),
            tpm_models=("tpm-crb",), tpm_backends=("emulator",), disk_buses=("sata", "virtio"),
        ),
    ),
)  # fmt: skip


def profile(more: str = "", **ladders: str) -> Profile:
    lines = ["[guest]", 'drivers = ["virtio", "amd"]', "[size]", "hugepages = true", 'memory = "4 GiB"']
    for kind in Kind:
        if kind is not Kind.USB_DEVICE and kind.value in ladders:
            lines += [f"[devices.{kind}]", ladders[kind.value]]
    return parse((ProfileText("test", "test.toml", "\n".join([*lines, more])),))


WISH = profile(
    gpu='prefer = ["passthrough", "paravirtual-3d", "paravirtual"]',
    nic='prefer = ["vf", "paravirtual", "emulated"]',
    tpm='prefer = ["emulated", "omit"]',
    firmware='prefer = ["uefi", "bios"]',
    cpu='prefer = ["hardware-virtualization", "binary-translation"]',
)


def plan(**known: Any) -> Plan:
    return planner.plan(HOST, WISH, guest=built_in("linux2024"), **known)


class Refusal:
    """An error as libvirt's binding gives it."""

    def __init__(self, text: str, code: int = 1) -> None:
        self.get_error_code = lambda: code
        self.get_error_message = lambda: text

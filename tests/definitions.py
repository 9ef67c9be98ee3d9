"""Small definitions and PCs for the tests of portability, with one thing different at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from clienthv.lifecycle import subjects
from clienthv.model.contents import BootDriver, ImageContents
from clienthv.model.cpu import CpuMap, CpuModel
from clienthv.model.host import (
    Core,
    Cpu,
    DomainCapabilities,
    Host,
    HostNetwork,
    Hugepages,
    Iommu,
    Kvm,
    Memory,
    PciFunction,
    Stack,
)
from clienthv.model.network import Bridge, Card, VirtualNetwork
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice
from clienthv.portability import Subject, Target, Wish

IMAGE: Final = "/srv/nowhere/guest.qcow2"
DISK: Final = (
    f'<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="{IMAGE}"/>'
    '<target dev="vda" bus="virtio"/></disk>'
)
VGA: Final = '<video><model type="vga"/></video>'
VNC: Final = '<graphics type="vnc"/>'
MOUSE: Final = '<controller type="usb" model="qemu-xhci"/><input type="tablet" bus="usb"/>'

MAP: Final = CpuMap(
    models={
        "Old": CpuModel(features=frozenset({"sse2"})),
        "New": CpuModel(features=frozenset({"sse2", "avx2"})),
        "Intel": CpuModel(vendor="Intel", features=frozenset({"sse2"})),
    },
    features=frozenset({"sse2", "avx2", "sha-ni", "invtsc"}),
    vendors={"GenuineIntel": "Intel", "AuthenticAMD": "AMD"},
)


def xml(devices: str = "", *, root: str = "", os: str = "", machine: str = "q35", **parts: str) -> bytes:
    """A definition. What is not named is the usual: a virtio disk, VGA by VNC, no network card."""
    memory = parts.get("memory", '<memory unit="GiB">2</memory>')
    return f"""<domain type="{parts.get("type", "kvm")}"><name>{parts.get("name", "desk")}</name>{memory}
<vcpu>{parts.get("vcpus", "2")}</vcpu>{root}<os{parts.get("efi", "")}><type arch="{parts.get("arch", "x86_64")}"
machine="{machine}">hvm</type>{os}</os><devices>{parts.get("disk", DISK)}{parts.get("video", VGA)}
{parts.get("graphics", VNC)}{MOUSE}{devices}</devices></domain>""".encode()


def subject(data: bytes, source: Host | None = None, **more: Any) -> Subject:
    """What a definition is, as though it were in a file."""
    return subjects.of_definition(data, "desk.xml", source)._replace(**more)


def image(contents: ImageContents | None = None, text: str = "", **more: Any) -> Subject:
    """A bare image, and what is inside it."""
    profile = parse((ProfileText("test", "test.toml", text or '[guest]\nos = "debian12"\ndrivers = ["virtio"]'),))
    made = Subject(name=IMAGE, kind="image", ask=lambda _: Wish(profile), contents=contents)
    return made._replace(**more)


def inside(**more: Any) -> ImageContents:
    """A system that starts in every way."""
    names = ("virtio-blk", "virtio-scsi", "ahci", "ide", "nvme")
    drivers = tuple(BootDriver(driver=name, bootable=True, evidence="it has it") for name in names)  # type: ignore[arg-type]
    return ImageContents(**{"bootable": True, "uefi": True, "bios": True, "boot_drivers": drivers, **more})


CAPABILITIES: Final = DomainCapabilities(
    domain_type="kvm",
    emulator="/usr/bin/qemu-system-x86_64",
    machine_types=("pc", "q35", "pc-q35-7.2", "pc-i440fx-7.2"),
    max_vcpus=64,
    cpu_modes=("host-passthrough", "host-model", "custom"),
    firmware=("efi",),
    secure_boot=True,
    video_models=("vga", "cirrus", "virtio", "qxl"),
    graphics=("vnc", "spice", "egl-headless"),
    disk_buses=("virtio", "sata", "scsi", "usb"),
    tpm_models=("tpm-tis", "tpm-crb"),
    tpm_backends=("emulator", "passthrough"),
    hyperv=("relaxed", "vapic"),
    filesystem_drivers=("path", "virtiofs"),
    pci_backends=("default", "vfio"),
)

GPU: Final = PciFunction(
    address="0000:01:00.0", class_code="030000", vendor_id="10de", device_id="2504", vendor="NVIDIA", device="RTX 3060",
    driver="nvidia", iommu_group=10, boot_vga=False,
)  # fmt: skip
SOUND: Final = PciFunction(
    address="0000:01:00.1", class_code="040300", vendor_id="10de", device_id="228e", vendor="NVIDIA", device="GA106",
    driver="snd_hda_intel", iommu_group=10,
)  # fmt: skip
SCREEN: Final = PciFunction(
    address="0000:00:02.0", class_code="030000", vendor_id="8086", device_id="4680", vendor="Intel", device="UHD 770",
    driver="i915", iommu_group=0, boot_vga=True, render_node="renderD128",
)  # fmt: skip
MOUSE_IDS: Final = "046d:c52b"


def pc(name: str = "there", **more: Any) -> Host:
    """A PC on which everything works: KVM, libvirt, UEFI, networks; with an Intel screen and an NVIDIA card."""
    receiver = UsbDevice(port="1-2", busnum=1, devnum=3, vendor_id="046d", product_id="c52b", device_class="00")
    plain = Host(
        name=name,
        cpu=Cpu(
            vendor="GenuineIntel",
            model="Core",
            threads=8,
            cores=4,
            sockets=1,
            numa_nodes=1,
            virtualization="vmx",
            topology=tuple(Core(threads=(n, n + 4), numa_node=0) for n in range(4)),
        ),
        memory=Memory(
            total_mib=16384, available_mib=12000, hugepages=(Hugepages(size_kib=2048, total=2048, free=2048),)
        ),
        kvm=Kvm(usable=True),
        iommu=Iommu(kind="vt-d", enabled=True, groups=20, interrupt_remapping=True),
        pci=(SCREEN, GPU, SOUND),
        roles_read=("boot-display", "connected-display", "mounted-disk", "default-route", "input"),
        usb=(receiver,),
        other_keyboards=(),
        network=HostNetwork(
            bridges=(Bridge(name="br0", up=True),), cards=(Card(name="eth0", up=True, wireless=False),)
        ),
        tpm_device=True,
        stack=Stack(
            uri="qemu:///system",
            privileged=True,
            libvirt_version="11.0.0",
            qemu_version="10.0.0",
            capabilities=CAPABILITIES,
            networks=(VirtualNetwork(name="default", active=True, forward="nat"),),
            vms=(),
            guest_functions=(),
        ),
    )
    return msgspec.structs.replace(plain, **more)


def with_capabilities(**more: Any) -> Host:
    """The PC with something else of what libvirt and QEMU offer."""
    return with_stack(capabilities=msgspec.structs.replace(CAPABILITIES, **more))


def with_stack(**more: Any) -> Host:
    """The PC with other software."""
    plain = pc()
    return msgspec.structs.replace(plain, stack=msgspec.structs.replace(plain.stack, **more))  # type: ignore[type-var]


def target(host: Host | None = None, **more: Any) -> Target:
    """A PC to move to, read from a document."""
    made = Target(name="there.json", host=host if host is not None else pc(), cpu_map=MAP)
    return made._replace(**more)


def files(*there: str, unknown: tuple[str, ...] = ()) -> Callable[[str], bool | None]:
    """Which files a PC that can be looked at has."""
    return lambda path: None if path in unknown else path in there

"""What provokes each finding, how grave it is and what it says, and the case next to it that it spares."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from definitions import (
    GPU,
    IMAGE,
    SCREEN,
    SOUND,
    files,
    image,
    inside,
    pc,
    subject,
    target,
    with_capabilities,
    with_stack,
    xml,
)

from clienthv.model.contents import BootDriver
from clienthv.model.cpu import Feature, GuestCpu
from clienthv.model.domain import State
from clienthv.model.guest import GuestOs
from clienthv.model.host import Cpu, Host, Kvm, Memory
from clienthv.model.image import ImageFacts
from clienthv.model.particulars import MdevType, Particulars
from clienthv.model.portability import Code, Severity
from clienthv.portability import Subject, Target

C, S = Code, Severity
EFI = ' firmware="efi"'
SECURE = '<firmware><feature enabled="yes" name="secure-boot"/></firmware>'
NO_SECURE_BOOT = '<firmware><feature enabled="no" name="secure-boot"/></firmware>'
TPM = '<tpm model="tpm-crb"><backend type="{}"/></tpm>'
CDROM = '<disk type="file" device="cdrom"><source file="/iso/a.iso"{}/><target dev="sda" bus="sata"/></disk>'
HUGE = "<memoryBacking><hugepages/></memoryBacking>"
LOADER = "<loader type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"


def hostdev(address: str = "0000:01:00.0", more: str = "") -> str:
    _, bus, slot, function = address.replace(".", ":").split(":")
    place = f'<address domain="0x0000" bus="0x{bus}" slot="0x{slot}" function="0x{function}"/>'
    return f'<hostdev mode="subsystem" type="pci" managed="yes"><source>{place}</source>{more}</hostdev>'


def usb(ids: str = "046d:c52b", policy: str = "") -> str:
    vendor, product = ids.split(":")
    source = f'<source{policy}><vendor id="0x{vendor}"/><product id="0x{product}"/></source>'
    return f'<hostdev mode="subsystem" type="usb">{source}</hostdev>'


def nic(kind: str, source: str = "", model: str = "virtio") -> str:
    return f'<interface type="{kind}"><source {source}/><model type="{model}"/></interface>'


def disk(source: str, driver: str = "", kind: str = "file", more: str = "", bus: str = "virtio") -> str:
    return (
        f'<disk type="{kind}" device="disk"><driver name="qemu" type="qcow2" {driver}/><source {source}/>'
        f'<target dev="vda" bus="{bus}"/>{more}</disk>'
    )


def custom(model: str, more: str = "") -> str:
    return f'<cpu mode="custom" match="exact" check="partial"><model>{model}</model>{more}</cpu>'


def arguments(*words: str) -> str:
    space = "http://libvirt.org/schemas/domain/qemu/1.0"
    inner = "".join(f"<q:arg value='{word}'/>" for word in words)
    return f"<q:commandline xmlns:q='{space}'>{inner}</q:commandline>"


def without_software() -> Host:
    return pc(stack=None)


def facts(**more: object) -> dict[str, ImageFacts]:
    return {IMAGE: msgspec.convert({"path": IMAGE, "format": "qcow2", "allocated": 5 << 30, **more}, ImageFacts)}


def with_gpu(**more: object) -> Host:
    return pc(pci=(SCREEN, msgspec.structs.replace(GPU, **more), SOUND))


def flags(*names: str) -> Host:
    return pc(cpu=msgspec.structs.replace(pc().cpu, flags=names), stack=None)


HERE = pc("here")
CARD = subject(xml(hostdev() + hostdev("0000:01:00.1")), HERE)
PLAIN = subject(xml(), HERE)
THERE = target()
SEES = target(exists=files(IMAGE))
UEFI = subject(xml(efi=EFI))
SEV = subject(xml(root="<launchSecurity type='sev'/>"))
AMD = pc(cpu=Cpu(vendor="AuthenticAMD", model="EPYC", flags=("svm", "sev", "sev_es")))
OLD_AMD = pc(cpu=Cpu(vendor="AuthenticAMD", model="FX", flags=("svm",)))
MANY = (
    nic("network", 'network="default"')
    + nic("bridge", 'bridge="br0"')
    + disk('file="/b.img"')
    + usb()
    + "<filesystem><source dir='/srv/x'/></filesystem><vsock model='virtio'/>"
)
OWNED = subject(xml(root="<seclabel type='static' model='dac'><label>+1000:+1000</label></seclabel>"))
Q = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
RBD = (
    "<disk type='network'><driver type='raw'/><source protocol='rbd' name='pool/disk'><host name='mon1' port='6789'/>"
    "<host name='mon2' port='6789'/></source><target dev='vdb' bus='virtio'/></disk>"
)
INVTSC = '<feature policy="require" name="invtsc"/>'
MDEV = subject(xml('<hostdev mode="subsystem" type="mdev"><source><address uuid="12ab"/></source></hostdev>'))
SHARES = Particulars(mdev_types=(MdevType(id="i915-GVTg_V5_4"),))


class Case(NamedTuple):
    """A finding, and the innocent pair: what is not given takes the guilty one's."""

    code: Code
    severity: Severity
    words: tuple[str, ...]
    guilty: Subject
    there: Target = THERE
    innocent: Subject | None = None
    elsewhere: Target | None = None


def _cannot(driver: str) -> BootDriver:
    return BootDriver(driver=driver, bootable=False, evidence="the initramfs has none")  # type: ignore[arg-type]


def unknowing(driver: str) -> BootDriver:
    return BootDriver(driver=driver, bootable=None, evidence="the initramfs could not be read")  # type: ignore[arg-type]


RUNS = GuestCpu(mode="custom", model="New", features=(Feature("avx2"),))
CASES = (
    # the whole
    Case(
        C.NO_PLAN,
        S.BLOCKS,
        ("a plan for there", "nothing on the disk ladder (vf)"),
        image(text='[devices.disk]\nprefer = ["vf"]'),
        innocent=image(),
    ),
    Case(C.NOT_RUNNING_KIND, S.BLOCKS, ("xen", "no VM of QEMU"), subject(xml(type="xen")), innocent=PLAIN),
    Case(
        C.NOT_RUNNING_KIND, S.BLOCKS, ("xen", "virt-v2v"), subject(xml(type="xen")), innocent=subject(xml(type="lxc"))
    ),
    Case(C.ARCHITECTURE, S.BLOCKS, ("aarch64",), subject(xml(arch="aarch64")), innocent=PLAIN),
    Case(C.ARCHITECTURE, S.BLOCKS, ("plans x86_64",), subject(xml(arch="s390x")), innocent=subject(xml(arch="i686"))),
    Case(C.ARCHITECTURE, S.WARNS, ("i686", "32 bits"), subject(xml(arch="i686")), innocent=PLAIN),
    Case(
        C.ARCHITECTURE,
        S.STOPS_LIVE,
        ("qemu-system-i386", "its like"),
        subject(xml("<emulator>/usr/bin/qemu-system-i386</emulator>", arch="i686")),
        innocent=subject(xml("<emulator>/usr/bin/qemu-system-x86_64</emulator>", arch="i686")),
    ),
    Case(
        C.ARCHITECTURE,
        S.CHANGES,
        ("aarch64", "translates"),
        PLAIN,
        target(pc(cpu=Cpu(architecture="aarch64"))),
        elsewhere=THERE,
    ),
    Case(
        C.ARCHITECTURE,
        S.WARNS,
        ("aarch64", "translates"),
        image(),
        target(pc(cpu=Cpu(architecture="aarch64"))),
        elsewhere=THERE,
    ),
    Case(
        C.ARCHITECTURE,
        S.BLOCKS,
        ("aarch64 system",),
        image(inside(architecture="aarch64")),
        innocent=image(inside(architecture="x86_64")),
    ),
    Case(
        C.TARGET_SOFTWARE_UNKNOWN,
        S.UNKNOWN,
        ("libvirt and QEMU of there",),
        PLAIN,
        target(without_software()),
        elsewhere=THERE,
    ),
    Case(C.DEVICE_BECOMES, S.CHANGES, ("gpu: passthrough", "→"), CARD, target(with_gpu(boot_vga=True)), innocent=PLAIN),
    Case(
        C.DEVICE_BECOMES,
        S.UNKNOWN,
        ("cpu: hardware-virtualization",),
        PLAIN,
        target(Host(name="there")),
        elsewhere=THERE,
    ),
    # processor
    Case(
        C.CPU_TYPE,
        S.CHANGES,
        ("KVM", "times slower", "no vmx"),
        PLAIN,
        target(pc(kvm=Kvm(usable=False, evidence=("no vmx",)))),
        elsewhere=THERE,
    ),
    Case(
        C.CPU_OF_THE_HOST,
        S.STOPS_LIVE,
        ("host-passthrough", "both must"),
        subject(xml(root='<cpu mode="host-passthrough"/>')),
        innocent=PLAIN,
    ),
    Case(
        C.CPU_FEATURES,
        S.CHANGES,
        ("New", "avx2"),
        subject(xml(root=custom("New"))),
        target(flags("sse2")),
        innocent=subject(xml(root=custom("Old"))),
    ),
    Case(
        C.CPU_FEATURES,
        S.CHANGES,
        ("libvirt on there says", "avx2"),
        subject(xml(root=custom("New"))),
        target(cpu_refusal=("avx2",)),
        elsewhere=target(cpu_refusal=()),
    ),
    Case(
        C.CPU_FEATURES,
        S.WARNS,
        ("avx2",),
        subject(xml(root=custom("New"), type="qemu").replace(b' check="partial"', b"")),
        target(cpu_refusal=("avx2",)),
        elsewhere=target(cpu_refusal=()),
    ),
    Case(
        C.CPU_FEATURES,
        S.STOPS_LIVE,
        ("a running guest has avx2",),
        subject(xml(root=custom("New")), running_cpu=RUNS),
        target(flags("sse2")),
        elsewhere=target(flags("sse2", "avx2")),
    ),
    Case(
        C.CPU_VENDOR,
        S.CHANGES,
        ("Intel",),
        subject(xml(root=custom("Intel", "<vendor>Intel</vendor>"))),
        target(pc(cpu=Cpu(vendor="AuthenticAMD", flags=("sse2",)), stack=None)),
        elsewhere=target(flags("sse2")),
    ),
    Case(
        C.CPU_MODEL_UNKNOWN,
        S.CHANGES,
        ("Old",),
        subject(xml(root=custom("Old"))),
        target(with_capabilities(usable_models=("New",), unusable_models=())),
        elsewhere=target(with_capabilities(usable_models=("Old",), unusable_models=())),
    ),
    Case(
        C.CPU_UNKNOWN,
        S.UNKNOWN,
        ("Nowhere",),
        subject(xml(root=custom("Nowhere"))),
        target(flags("sse2")),
        innocent=subject(xml(root='<cpu mode="host-passthrough"><feature policy="require" name="sha-ni"/></cpu>')),
    ),
    Case(
        C.CPU_NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("invtsc", "steady clock"),
        subject(xml(root=custom("Old", '<feature policy="require" name="invtsc"/>'))),
        innocent=subject(xml(root=custom("Old", '<feature policy="disable" name="invtsc"/>'))),
    ),
    Case(
        C.CPU_NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("invtsc", "not fixed"),
        subject(xml(root=custom("Old", INVTSC) + "<clock><timer name='tsc'/></clock>")),
        innocent=subject(xml(root=custom("Old", INVTSC) + "<clock><timer name='tsc' frequency='2000000000'/></clock>")),
    ),
    Case(
        C.CPU_NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("migratable='off'", "does not move"),
        subject(xml(root='<cpu mode="host-passthrough" migratable="off"/>')),
        innocent=subject(xml(root='<cpu mode="host-passthrough" migratable="on"/>')),
    ),
    Case(
        C.CPU_DIFFERS,
        S.UNKNOWN,
        ("host-model", "the PC that it runs on is not"),
        subject(xml(root='<cpu mode="host-model"/>')),
        innocent=PLAIN,
    ),
    Case(
        C.HYPERV,
        S.CHANGES,
        ("synic",),
        subject(xml(root="<features><hyperv><synic state='on'/></hyperv></features>")),
        innocent=subject(xml(root="<features><hyperv><relaxed state='on'/><synic state='off'/></hyperv></features>")),
    ),
    Case(C.VCPUS, S.CHANGES, ("128 vCPUs", "64 at most"), subject(xml(vcpus="128")), innocent=PLAIN),
    Case(C.VCPUS, S.WARNS, ("16 vCPUs", "8 CPU threads"), subject(xml(vcpus="16")), innocent=subject(xml(vcpus="8"))),
    Case(
        C.CPU_PINS,
        S.CHANGES,
        ("pinned to CPU 9", "CPUs 0 to 7"),
        subject(xml(root="<cputune><vcpupin vcpu='0' cpuset='0-2,9,^40'/></cputune>")),
        innocent=PLAIN,
    ),
    Case(
        C.CPU_PINS,
        S.WARNS,
        ("another processor",),
        subject(xml(root="<cputune><emulatorpin cpuset='7'/></cputune>")),
        innocent=PLAIN,
    ),
    Case(
        C.NUMA_NODES,
        S.CHANGES,
        ("NUMA node 1", "has 1 of them"),
        subject(xml(root="<numatune><memory mode='strict' nodeset='0-1'/></numatune>")),
        innocent=subject(xml(root="<numatune><memory mode='strict' nodeset='0'/></numatune>")),
    ),
    # board, firmware, memory
    Case(
        C.MACHINE_TYPE,
        S.CHANGES,
        ("pc-q35-10.0", "QEMU 10.0.0 there"),
        subject(xml(machine="pc-q35-10.0")),
        innocent=subject(xml(machine="pc-q35-7.2")),
    ),
    Case(C.MACHINE_ALIAS, S.INFO, ("q35", "newest"), PLAIN, innocent=subject(xml(machine="pc-q35-7.2"))),
    Case(
        C.EMULATOR,
        S.WARNS,
        ("/opt/qemu", "/usr/bin/qemu-system-x86_64"),
        subject(xml("<emulator>/opt/qemu</emulator><emulator>/usr/bin/kvm</emulator>")),
        innocent=subject(xml("<emulator>/usr/bin/qemu-system-x86_64</emulator>")),
    ),
    Case(
        C.FIRMWARE, S.BLOCKS, ("UEFI", "finds no UEFI"), UEFI, target(with_capabilities(firmware=())), elsewhere=THERE
    ),
    Case(
        C.SECURE_BOOT,
        S.CHANGES,
        ("Secure Boot", "starts without"),
        subject(xml(efi=EFI, os=SECURE)),
        target(with_capabilities(secure_boot=False)),
        innocent=subject(xml(efi=EFI, os=NO_SECURE_BOOT)),
    ),
    Case(C.FIRMWARE_FILES, S.WARNS, ("OVMF_CODE_4M.fd", "keep elsewhere"), subject(xml(os=LOADER)), innocent=UEFI),
    Case(
        C.FIRMWARE_FILES,
        S.CHANGES,
        ("OVMF_CODE_4M.fd", "not there"),
        subject(xml(os=LOADER)),
        target(exists=files()),
        elsewhere=target(exists=files("/usr/share/OVMF/OVMF_CODE_4M.fd")),
    ),
    Case(
        C.FIRMWARE_FILES,
        S.WARNS,
        ("bios.bin", "leave <loader> out"),
        subject(xml(os="<loader>/usr/share/qemu/bios.bin</loader>")),
        innocent=PLAIN,
    ),
    Case(
        C.NVRAM,
        S.INFO,
        ("/nvram/x.fd", "boot entries"),
        subject(xml(efi=EFI, os="<nvram>/nvram/x.fd</nvram>")),
        innocent=PLAIN,
    ),
    Case(
        C.TPM,
        S.CHANGES,
        ("TPM in software", "passthrough"),
        subject(xml(TPM.format("emulator"))),
        target(with_capabilities(tpm_backends=("passthrough",))),
        elsewhere=THERE,
    ),
    Case(
        C.TPM,
        S.CHANGES,
        ("stays on that PC",),
        subject(xml(TPM.format("passthrough"))),
        innocent=subject(xml(TPM.format("emulator"))),
    ),
    Case(
        C.TPM,
        S.STOPS_LIVE,
        ("does not move",),
        subject(xml(TPM.format("passthrough"))),
        innocent=subject(xml(TPM.format("emulator"))),
    ),
    Case(C.TPM_STATE, S.INFO, ("go along",), subject(xml(TPM.format("emulator"))), innocent=PLAIN),
    Case(
        C.MEMORY,
        S.CHANGES,
        ("64 GiB", "16 GiB in all"),
        subject(xml(memory="<memory unit='G'>64</memory>")),
        innocent=PLAIN,
    ),
    Case(
        C.MEMORY,
        S.WARNS,
        ("14 GiB", "were free"),
        subject(xml(memory="<memory unit='GiB'>14</memory>")),
        innocent=PLAIN,
    ),
    Case(C.MEMORY, S.UNKNOWN, ("2 GiB", "does not tell"), PLAIN, target(pc(memory=Memory())), elsewhere=THERE),
    Case(C.MEMORY, S.CHANGES, ("no memory",), subject(xml(memory="")), innocent=PLAIN),
    Case(
        C.HUGEPAGES,
        S.CHANGES,
        ("no pool", "8 GiB"),
        subject(xml(root=HUGE, memory="<memory unit='GiB'>8</memory>")),
        innocent=subject(xml(root=HUGE)),
    ),
    Case(
        C.HUGEPAGES,
        S.CHANGES,
        ("1048576 KiB", "no pool"),
        subject(xml(root=HUGE.replace("/>", "><page size='1' unit='G'/></hugepages>"))),
        innocent=subject(xml(root=HUGE.replace("/>", "><page size='2048'/></hugepages>"))),
    ),
    Case(
        C.HUGEPAGES,
        S.UNKNOWN,
        ("does not tell",),
        subject(xml(root=HUGE)),
        target(pc(memory=Memory(total_mib=16384))),
        elsewhere=THERE,
    ),
    Case(C.LAUNCH_SECURITY, S.UNKNOWN, ("sev", "domcapabilities"), SEV, target(AMD), innocent=PLAIN),
    Case(C.LAUNCH_SECURITY, S.STOPS_LIVE, ("sev", "cannot send"), SEV, target(AMD), innocent=PLAIN),
    Case(C.LAUNCH_SECURITY, S.CHANGES, ("sev", "does not encrypt"), SEV, THERE, elsewhere=target(AMD)),
    Case(C.LAUNCH_SECURITY, S.CHANGES, ("sev", "does not encrypt"), SEV, target(OLD_AMD), elsewhere=target(AMD)),
    Case(
        C.SMBIOS_OF_THE_HOST,
        S.WARNS,
        ("maker and model",),
        subject(xml(os="<smbios mode='host'/>")),
        innocent=subject(xml(os="<smbios mode='sysinfo'/>")),
    ),
    # devices of the host
    Case(C.HOST_DEVICE_SAME, S.INFO, ("RTX 3060", "same model, at 0000:01:00.0"), CARD, innocent=PLAIN),
    Case(
        C.HOST_DEVICE_SAME,
        S.CHANGES,
        ("another address, 0000:02:00.0", "<hostdev>"),
        CARD,
        target(pc(pci=(SCREEN, msgspec.structs.replace(GPU, address="0000:02:00.0")))),
        elsewhere=target(pc(pci=(SCREEN,))),
    ),
    Case(
        C.HOST_DEVICE_SAME_DRIVER,
        S.CHANGES,
        ("RTX 4090", "0000:01:00.0"),
        CARD,
        target(with_gpu(device_id="2684", device="RTX 4090")),
        elsewhere=THERE,
    ),
    Case(
        C.HOST_DEVICE_OTHER, S.CHANGES, ("UHD 770", "another driver"), CARD, target(pc(pci=(SCREEN,))), elsewhere=THERE
    ),
    Case(C.HOST_DEVICE_NONE, S.CHANGES, ("has no graphics card",), CARD, target(pc(pci=(SOUND,))), elsewhere=THERE),
    Case(
        C.HOST_DEVICE_UNKNOWN,
        S.CHANGES,
        ("0000:01:00.0", "graphics card of a PC that is not known", "RTX 3060", "--from"),
        subject(xml(hostdev() + hostdev("0000:01:00.1"))),
        innocent=CARD,
    ),
    Case(
        C.HOST_DEVICE_UNKNOWN,
        S.CHANGES,
        ("0000:09:00.0", "here, which", "no such device"),
        subject(xml(hostdev("0000:09:00.0")), HERE),
        innocent=CARD,
    ),
    Case(
        C.HOST_DEVICE_UNKNOWN, S.UNKNOWN, ("RTX 3060", "does not tell which"), CARD, target(pc(pci=())), elsewhere=THERE
    ),
    Case(
        C.HOST_DEVICE_UNKNOWN,
        S.CHANGES,
        ("scsi scsi_host0",),
        subject(xml('<hostdev type="scsi"><source><adapter name="scsi_host0"/></source></hostdev>')),
        innocent=PLAIN,
    ),
    Case(
        C.HOST_DEVICE_UNKNOWN,
        S.CHANGES,
        ("12ab", "does not tell"),
        MDEV,
        elsewhere=target(pc(pci=(msgspec.structs.replace(SCREEN, particulars=SHARES),))),
    ),
    Case(
        C.HOST_DEVICE_OTHER,
        S.CHANGES,
        ("12ab", "can share Intel UHD 770"),
        MDEV,
        target(pc(pci=(msgspec.structs.replace(SCREEN, particulars=SHARES),))),
        elsewhere=THERE,
    ),
    Case(
        C.HOST_DEVICE_NONE,
        S.CHANGES,
        ("12ab", "no GPU"),
        MDEV,
        target(pc(pci=(msgspec.structs.replace(SCREEN, particulars=Particulars(mdev_types=())),))),
        elsewhere=THERE,
    ),
    Case(C.USB_DEVICE, S.CHANGES, ("1234:5678", "no such USB device"), subject(xml(usb("1234:5678"))), innocent=PLAIN),
    Case(
        C.USB_DEVICE,
        S.WARNS,
        ("1234:5678", "starts without"),
        subject(xml(usb("1234:5678", " startupPolicy='optional'"))),
        innocent=PLAIN,
    ),
    Case(C.USB_DEVICE, S.WARNS, ("046d:c52b", "pulled out"), subject(xml(usb())), innocent=PLAIN),
    Case(
        C.USB_DEVICE,
        S.UNKNOWN,
        ("046d:c52b", "nobody can tell"),
        subject(xml(usb())),
        target(pc(usb=None)),
        elsewhere=THERE,
    ),
    Case(
        C.USB_DEVICE,
        S.CHANGES,
        ("bus 1 device 4", "by its ids"),
        subject(xml('<hostdev type="usb"><source><address bus="1" device="4"/></source></hostdev>')),
        innocent=subject(xml(usb())),
    ),
    Case(
        C.SHARED_MEMORY, S.STOPS_LIVE, ("looking-glass",), subject(xml("<shmem name='looking-glass'/>")), innocent=PLAIN
    ),
    Case(
        C.SHARED_MEMORY,
        S.STOPS_LIVE,
        ("a", "does not move"),
        subject(xml("<shmem name='a' role='peer'/>")),
        innocent=subject(xml("<shmem name='a' role='master'/>")),
    ),
    Case(
        C.NOT_PLANNED,
        S.WARNS,
        (
            "disk /b.img",
            "network card on bridge br0",
            "usb device 046d:c52b",
            "folder /srv/x",
            "one device of each kind",
        ),
        subject(xml(MANY, machine="pc-q35-99.9")),
        innocent=subject(xml(MANY)),
    ),
    Case(
        C.NOT_PLANNED, S.WARNS, ("more",), subject(xml(MANY * 3, machine="odd")), innocent=subject(xml(machine="odd"))
    ),
    *(
        Case(
            C.SECURITY_LABEL,
            S.WARNS,
            (model, "security driver"),
            subject(xml(root=f"<seclabel type='dynamic' model='{model}'/>")),
            innocent=subject(xml(root="<seclabel type='none' model='none'/><seclabel type='none'/>")),
        )
        for model in ("apparmor", "selinux")
    ),
    Case(
        C.SECURITY_LABEL,
        S.WARNS,
        ("selinux",),
        subject(
            xml(disk('file="/a.img"').replace("/><target", "><seclabel model='selinux' relabel='no'/></source><target"))
        ),
        innocent=subject(xml(disk('file="/a.img"'))),
    ),
    Case(
        C.SECURITY_LABEL, S.CHANGES, ("dac", "as a user"), OWNED, target(with_stack(privileged=False)), elsewhere=THERE
    ),
    Case(C.SECURITY_LABEL, S.WARNS, ("dac",), OWNED, target(pc(stack=None)), elsewhere=THERE),
    Case(
        C.SECURITY_LABEL,
        S.CHANGES,
        ("dac", "has no such"),
        OWNED,
        target(with_stack(privileged=True, security_models=("none", "selinux"))),
        elsewhere=target(with_stack(privileged=False, security_models=("dac",))),
    ),
    *(
        Case(C.QEMU_ARGUMENTS, S.WARNS, (words, "past libvirt"), subject(xml(root=root)), innocent=PLAIN)
        for words, root in (
            ("QEMU_AUDIO_DRV=pa", f"<q:commandline {Q}><q:env name='QEMU_AUDIO_DRV' value='pa'/></q:commandline>"),
            (
                "hostdev0.x-vga=true",
                f"<q:override {Q}><q:device alias='hostdev0'><q:frontend><q:property name='x-vga' type='bool' "
                "value='true'/></q:frontend></q:device></q:override>",
            ),
            ("-blockdev", f"<q:capabilities {Q}><q:del capability='blockdev'/></q:capabilities>"),
        )
    ),
    Case(
        C.HOST_FILE,
        S.WARNS,
        ("smartcard host", "the reader"),
        subject(xml("<smartcard mode='host'/>")),
        innocent=subject(xml("<smartcard mode='passthrough' type='spicevmc'/>")),
    ),
    # storage
    Case(
        C.DISK_UNSHARED,
        S.WARNS,
        ("rbd:pool/disk at mon1:6789, mon2:6789", "on the network"),
        subject(xml(RBD)),
        innocent=subject(xml()),
    ),
    Case(
        C.DISK_ENCRYPTED,
        S.WARNS,
        ("rbd:pool/disk", "secret"),
        subject(xml(RBD.replace("</source>", "<encryption format='luks'/></source>"))),
        innocent=subject(xml(RBD)),
    ),
    Case(
        C.DISK_UNSHARED,
        S.WARNS,
        ("/run/blk.sock", "serves it"),
        subject(xml(disk('type="unix" path="/run/blk.sock"', kind="vhostuser"))),
        innocent=subject(xml(disk('file="/run/blk.sock"'))),
    ),
    Case(
        C.DISK_OF_THE_HOST,
        S.CHANGES,
        ("/dev/sdb", "qemu-img convert -O qcow2 /dev/sdb"),
        subject(xml(disk=disk('dev="/dev/sdb"', kind="block"))),
        innocent=PLAIN,
    ),
    Case(
        C.DISK_OF_THE_HOST,
        S.CHANGES,
        ("stays on its PC",),
        subject(
            xml(hostdev("0000:05:00.0")),
            pc("here", pci=(msgspec.structs.replace(GPU, address="0000:05:00.0", class_code="010802"),)),
        ),
        innocent=CARD,
    ),
    Case(
        C.DISK_FORMAT,
        S.STOPS_LIVE,
        ("vda", "vmdk image open"),
        subject(xml(disk('file="/a.img"').replace("qcow2", "vmdk"))),
        innocent=subject(xml(disk('file="/a.img"').replace("qcow2", "qed"))),
    ),
    Case(
        C.DISK_FORMAT,
        S.WARNS,
        ("vmdk", "convert"),
        subject(xml(), images=facts(format="vmdk")),
        innocent=subject(xml(), images=facts()),
    ),
    Case(
        C.DISK_MISSING,
        S.BLOCKS,
        (IMAGE, "not there"),
        subject(xml(), kind="vm", gone=frozenset({IMAGE})),
        innocent=subject(xml(), kind="vm", images=facts()),
    ),
    Case(
        C.DISK_MISSING,
        S.BLOCKS,
        ("/srv/base.qcow2", f"{IMAGE} needs it"),
        subject(xml(), kind="vm", images=facts(others=("/srv/base.qcow2",)), gone=frozenset({"/srv/base.qcow2"})),
        innocent=subject(xml(), kind="vm", images=facts(others=("/srv/base.qcow2",))),
    ),
    Case(C.DISK_UNSHARED, S.UNKNOWN, ("whether there reaches it",), PLAIN, elsewhere=SEES),
    Case(
        C.DISK_UNSHARED,
        S.STOPS_LIVE,
        ("must be copied, 5.0 GiB",),
        subject(xml(), images=facts(), shared={IMAGE: False}),
        elsewhere=SEES,
    ),
    Case(
        C.DISK_UNSHARED,
        S.WARNS,
        ("PCs share", "same path"),
        subject(xml(), images=facts(), shared={IMAGE: True}),
        elsewhere=SEES,
    ),
    Case(
        C.DISK_UNSHARED,
        S.WARNS,
        ("rbd:pool/vm", "must reach it"),
        subject(xml(disk=disk('protocol="rbd" name="pool/vm"', kind="network"))),
        SEES,
        innocent=PLAIN,
    ),
    Case(
        C.DISK_UNSHARED,
        S.WARNS,
        ("shared with other VMs",),
        subject(xml(disk=disk(f'file="{IMAGE}"', more="<shareable/>"))),
        SEES,
        innocent=PLAIN,
    ),
    Case(
        C.DISK_CACHE,
        S.STOPS_LIVE,
        ("cache='writeback'", "QEMU 3.1.0"),
        subject(xml(disk=disk(f'file="{IMAGE}"', 'cache="writeback"')), with_stack(qemu_version="3.1.0")),
        innocent=subject(xml(disk=disk(f'file="{IMAGE}"', 'cache="writeback"')), HERE),
    ),
    Case(
        C.DISK_CACHE,
        S.WARNS,
        ("cache='unsafe'", "ignores"),
        subject(xml(disk=disk(f'file="{IMAGE}"', 'cache="unsafe"'))),
        innocent=PLAIN,
    ),
    Case(
        C.DISK_CACHE,
        S.INFO,
        ("cache='none'", "O_DIRECT"),
        subject(xml(disk=disk(f'file="{IMAGE}"', 'cache="none"'))),
        innocent=PLAIN,
    ),
    Case(
        C.DISK_ENCRYPTED,
        S.WARNS,
        ("secret",),
        subject(xml(disk=disk(f'file="{IMAGE}"', more="<encryption/>"))),
        innocent=PLAIN,
    ),
    Case(
        C.DISK_BUS,
        S.CHANGES,
        ("vda on usb", "virtio"),
        subject(xml(disk=disk(f'file="{IMAGE}"', bus="usb"))),
        target(with_capabilities(disk_buses=("virtio",))),
        elsewhere=THERE,
    ),
    Case(
        C.BACKING_CHAIN,
        S.WARNS,
        ("/srv/base.qcow2", "copied too"),
        subject(xml(), images=facts(others=("/srv/base.qcow2",))),
        innocent=subject(xml(), images=facts(others=("/d.raw",), data=("/d.raw",))),
    ),
    Case(
        C.BACKING_CHAIN,
        S.WARNS,
        ("/srv/base.qcow2",),
        subject(
            xml(
                disk=disk(
                    f'file="{IMAGE}"',
                    more='<backingStore type="file"><source file="/srv/base.qcow2"/><backingStore/></backingStore>',
                )
            )
        ),
        innocent=PLAIN,
    ),
    Case(
        C.DATA_FILE,
        S.WARNS,
        ("its content is in /d.raw",),
        subject(xml(), images=facts(others=("/d.raw",), data=("/d.raw",))),
        innocent=subject(xml(), images=facts(others=("/srv/base.qcow2",))),
    ),
    Case(
        C.IMAGE_IN_USE,
        S.WARNS,
        (IMAGE, "open to write"),
        subject(xml(), images=facts(written=True)),
        innocent=subject(xml(), images=facts(written=True), state=State(running=True)),
    ),
    Case(C.IMAGE_IN_USE, S.WARNS, (IMAGE, "lsof"), image(images=facts(written=True)), innocent=image(images=facts())),
    Case(C.IMAGE_UNKNOWN, S.UNKNOWN, (IMAGE, "could not be looked at"), PLAIN, innocent=subject(xml(), images=facts())),
    Case(
        C.MEDIA,
        S.WARNS,
        ("/iso/a.iso", "change-media desk sda --eject"),
        subject(xml(CDROM.format(""))),
        elsewhere=target(exists=files("/iso/a.iso")),
    ),
    Case(
        C.MEDIA,
        S.CHANGES,
        ("there has not",),
        subject(xml(CDROM.format(""))),
        target(exists=files()),
        elsewhere=target(exists=files("/iso/a.iso")),
    ),
    Case(
        C.MEDIA,
        S.CHANGES,
        ("here as there",),
        subject(xml(CDROM.format("")), gone=frozenset({"/iso/a.iso"})),
        innocent=PLAIN,
    ),
    Case(C.MEDIA, S.INFO, ("starts without",), subject(xml(CDROM.format(' startupPolicy="optional"'))), innocent=PLAIN),
    Case(
        C.SPACE,
        S.BLOCKS,
        ("5.0 GiB", "1.0 GiB free"),
        subject(xml(), images=facts()),
        target(free=1 << 30),
        elsewhere=target(free=6 << 30),
    ),
    Case(
        C.SHARED_FOLDER,
        S.CHANGES,
        ("/srv/folder", "has not"),
        subject(xml(disk('dir="/srv/folder"', kind="dir"))),
        target(exists=files()),
        elsewhere=target(exists=files("/srv/folder")),
    ),
    Case(
        C.SHARED_FOLDER,
        S.STOPS_LIVE,
        ("/home/me", "virtiofs"),
        subject(xml('<filesystem><driver type="virtiofs"/><source dir="/home/me"/></filesystem>')),
        innocent=PLAIN,
    ),
    Case(
        C.SHARED_FOLDER,
        S.STOPS_LIVE,
        ("/home/me", "virtiofs"),
        subject(xml('<filesystem><driver type="virtiofs"/><source dir="/home/me"/></filesystem>')),
        innocent=subject(xml('<filesystem><driver type="virtiofs"/><source socket="/home/me"/></filesystem>')),
    ),
    Case(
        C.SHARED_FOLDER,
        S.WARNS,
        ("/run/v.sock", "does not start"),
        subject(xml('<filesystem><driver type="virtiofs"/><source socket="/run/v.sock"/></filesystem>')),
        innocent=PLAIN,
    ),
    Case(
        C.SHARED_FOLDER,
        S.CHANGES,
        ("no virtiofs",),
        subject(xml('<filesystem><driver type="virtiofs"/><source dir="/home/me"/></filesystem>')),
        target(with_capabilities(filesystem_drivers=("path",))),
        elsewhere=THERE,
    ),
    Case(
        C.SHARED_FOLDER,
        S.WARNS,
        ("9p",),
        subject(xml('<filesystem><source dir="/home/me"/></filesystem>')),
        innocent=PLAIN,
    ),
    Case(
        C.SHARED_FOLDER,
        S.CHANGES,
        ("/home/me", "has not"),
        subject(xml('<filesystem><source dir="/home/me"/></filesystem>')),
        target(exists=files()),
        elsewhere=target(exists=files("/home/me")),
    ),
    Case(
        C.HOST_FILE,
        S.WARNS,
        ("/roms/x.rom",),
        subject(xml(hostdev(more='<rom file="/roms/x.rom"/>')), HERE),
        innocent=CARD,
    ),
    Case(
        C.HOST_FILE,
        S.CHANGES,
        ("/boot/vmlinuz", "has not"),
        subject(xml(os="<kernel>/boot/vmlinuz</kernel>")),
        target(exists=files()),
        elsewhere=target(exists=files("/boot/vmlinuz")),
    ),
    Case(
        C.HOST_FILE,
        S.WARNS,
        ("/dev/ttyS0",),
        subject(xml('<serial type="dev"><source path="/dev/ttyS0"/></serial>')),
        innocent=subject(xml('<serial type="pty"/><rng><backend model="random">/dev/urandom</backend></rng>')),
    ),
    # network
    Case(
        C.BRIDGE,
        S.CHANGES,
        ("bridge:br7", "no bridge br7"),
        subject(xml(nic("bridge", 'bridge="br7"'))),
        innocent=subject(xml(nic("bridge", 'bridge="br0"'))),
    ),
    Case(
        C.NETWORK,
        S.CHANGES,
        ("network:lab",),
        subject(xml(nic("network", 'network="lab"'))),
        innocent=subject(xml(nic("network", 'network="default"'))),
    ),
    Case(
        C.NETWORK,
        S.WARNS,
        ("network filter own-rules", "nwfilter-list"),
        subject(xml(nic("user").replace("</interface>", "<filterref filter='own-rules'/></interface>"))),
        innocent=subject(xml(nic("user"))),
    ),
    Case(
        C.NETWORK,
        S.WARNS,
        ("vhostuser", "no word"),
        subject(xml(nic("vhostuser", 'path="/run/x"'))),
        innocent=subject(xml(nic("user"))),
    ),
    Case(
        C.NETWORK,
        S.WARNS,
        ("bridge br 0", "cannot be"),
        subject(xml(nic("bridge", 'bridge="br 0"'))),
        innocent=subject(xml(nic("bridge", 'bridge="br0"'))),
    ),
    Case(
        C.INTERFACE,
        S.CHANGES,
        ("macvtap:eth9",),
        subject(xml(nic("direct", 'dev="eth9"'))),
        innocent=subject(xml(nic("direct", 'dev="eth0"'))),
    ),
    Case(
        C.NETWORK_UNKNOWN,
        S.UNKNOWN,
        ("bridge:br0",),
        subject(xml(nic("bridge", 'bridge="br0"'))),
        target(pc(network=msgspec.UNSET)),
        elsewhere=THERE,
    ),
    Case(
        C.NIC_MODEL,
        S.CHANGES,
        ("igb", "QEMU 7.2.0"),
        subject(xml(nic("user", model="igb"))),
        target(with_stack(qemu_version="7.2.0")),
        elsewhere=THERE,
    ),
    # screen and sound
    Case(
        C.VIDEO,
        S.CHANGES,
        ("qxl", "vga"),
        subject(xml(video='<video><model type="qxl"/></video>')),
        target(with_capabilities(video_models=("vga",))),
        innocent=subject(xml(video="<video/>")),
    ),
    Case(
        C.GRAPHICS,
        S.CHANGES,
        ("spice", "vnc"),
        subject(xml(graphics='<graphics type="spice"/>')),
        target(with_capabilities(graphics=("vnc",))),
        elsewhere=THERE,
    ),
    Case(
        C.GRAPHICS,
        S.CHANGES,
        ("sdl", "desktop session"),
        subject(xml(graphics='<graphics type="sdl"/>')),
        innocent=PLAIN,
    ),
    Case(
        C.GRAPHICS,
        S.WARNS,
        ("vnc on 192.168.1.5",),
        subject(xml(graphics='<graphics type="vnc" listen="192.168.1.5"/>')),
        innocent=subject(
            xml(graphics='<graphics type="vnc" listen="127.0.0.1"><listen address="0.0.0.0"/></graphics>')
        ),
    ),
    Case(
        C.ACCELERATION,
        S.CHANGES,
        ("render node",),
        subject(xml(video='<video><model type="virtio"><acceleration accel3d="yes"/></model></video>')),
        target(pc(pci=(GPU,))),
        elsewhere=THERE,
    ),
    Case(
        C.ACCELERATION,
        S.CHANGES,
        ("renderD129", "renderD128"),
        subject(xml(graphics='<graphics type="egl-headless"><gl rendernode="/dev/dri/renderD129"/></graphics>')),
        innocent=subject(
            xml(graphics='<graphics type="egl-headless"><gl rendernode="/dev/dri/renderD128"/></graphics>')
        ),
    ),
    Case(
        C.ACCELERATION,
        S.CHANGES,
        ("no OpenGL display",),
        subject(xml(video='<video><model type="virtio"><acceleration accel3d="yes"/></model></video>')),
        target(with_capabilities(graphics=("vnc",))),
        elsewhere=THERE,
    ),
    Case(
        C.SOUND,
        S.CHANGES,
        ("QEMU 7.2.0",),
        subject(xml('<sound model="virtio"/>')),
        target(with_stack(qemu_version="7.2.0")),
        elsewhere=THERE,
    ),
    Case(
        C.SOUND,
        S.WARNS,
        ("sound by pulseaudio",),
        subject(xml('<audio id="1" type="pulseaudio"/>')),
        innocent=subject(xml('<audio id="1" type="spice"/>')),
    ),
    Case(
        C.NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("3D",),
        subject(xml(video='<video><model type="virtio"><acceleration accel3d="yes"/></model></video>')),
        innocent=PLAIN,
    ),
    Case(C.NOT_MIGRATABLE, S.STOPS_LIVE, ("RTX 3060 (0000:01:00.0)", "does not move"), CARD, innocent=PLAIN),
    *(
        Case(
            C.NOT_MIGRATABLE,
            S.STOPS_LIVE,
            (words, "cannot send it"),
            subject(xml(guilty)),
            innocent=subject(xml(spared)),
        )
        for words, guilty, spared in (
            ("crypto", "<crypto model='virtio' type='qemu'/>", ""),
            ("IOMMU", "<iommu model='amd'/>", "<iommu model='intel'/>"),
            ("serial", "<serial type='pty'><target type='usb-serial'/></serial>", "<serial type='pty'/>"),
            ("sound", "<sound model='usb'/>", "<sound model='ich9'/>"),
            ("network card", nic("user", model="usb-net"), nic("user", model="e1000")),
            ("input", "<input type='passthrough' bus='virtio'/>", "<input type='keyboard' bus='virtio'/>"),
        )
    ),
    Case(
        C.NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("vda, /a.img", "thrown away"),
        subject(xml(disk('file="/a.img"', more="<transient/>"))),
        innocent=subject(xml(disk('file="/a.img"'))),
    ),
    Case(
        C.NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("vda, /a.img", "block job"),
        subject(xml(disk('file="/a.img"', more="<mirror type='file' job='copy'/>"))),
        innocent=subject(xml(disk('file="/a.img"'))),
    ),
    Case(
        C.NOT_MIGRATABLE,
        S.STOPS_LIVE,
        ("01:00.0", "does not move"),
        subject(xml(hostdev())),
        innocent=subject(xml(hostdev(more="<teaming type='transient' persistent='ua-a'/>"))),
    ),
    Case(C.NOT_MIGRATABLE, S.STOPS_LIVE, ("NVMe",), subject(xml('<controller type="nvme"/>')), innocent=PLAIN),
    Case(C.NOT_MIGRATABLE, S.STOPS_LIVE, ("virtio-sound",), subject(xml('<sound model="virtio"/>')), innocent=PLAIN),
    Case(
        C.NOT_MIGRATABLE,
        S.INFO,
        ("teamed",),
        subject(
            xml(
                hostdev()
                .replace("hostdev", "interface")
                .replace('type="pci"', 'type="hostdev"')
                .replace("</source>", '</source><teaming type="transient" persistent="ua-nic"/>')
            ),
            HERE,
        ),
        innocent=PLAIN,
    ),
    # state
    Case(
        C.SNAPSHOTS,
        S.STOPS_LIVE,
        ("2 snapshots",),
        subject(xml(), state=State(snapshots=2)),
        innocent=subject(xml(), state=State(snapshots=0)),
    ),
    Case(
        C.SNAPSHOTS,
        S.INFO,
        ("before-update",),
        subject(xml(), images=facts(snapshots=("before-update",))),
        innocent=subject(xml(), images=facts(snapshots=())),
    ),
    Case(
        C.MANAGED_SAVE,
        S.STOPS_LIVE,
        ("managed save", "managedsave-remove desk"),
        subject(xml(), state=State(managed_save=True)),
        innocent=subject(xml(), state=State(managed_save=False)),
    ),
    Case(
        C.PLUGGED_IN,
        S.WARNS,
        ("usb device 046d:c52b", "--config"),
        subject(xml(), state=State(plugged=("usb device 046d:c52b",))),
        innocent=subject(xml(), state=State(plugged=())),
    ),
    Case(C.NOT_OURS, S.INFO, ("desk",), PLAIN, innocent=subject(xml(), ours=True)),
    Case(C.QEMU_ARGUMENTS, S.WARNS, ("-cpu host",), subject(xml(root=arguments("-cpu", "host"))), innocent=PLAIN),
    Case(
        C.QEMU_ARGUMENTS,
        S.WARNS,
        ("vfio-pci,host=01:00.0", "past libvirt"),
        subject(xml(root=arguments("-device", "vfio-pci,host=01:00.0,x-vga=on"))),
        innocent=PLAIN,
    ),
    # the guest
    Case(
        C.GUEST_MINIMUM,
        S.WARNS,
        ("win11", "at least", "gets 2 GiB on there"),
        image(text='[size]\nmemory = "2 GiB"\nmemory_min = "2 GiB"', guest=GuestOs(id="win11", min_memory_mib=4096)),
        innocent=image(
            text='[size]\nmemory = "4 GiB"\nmemory_min = "4 GiB"', guest=GuestOs(id="win11", min_memory_mib=4096)
        ),
    ),
    Case(
        C.CONTENTS_UNKNOWN,
        S.UNKNOWN,
        ("libguestfs is missing", "whether it boots", "hibernated"),
        image(inside(problem="libguestfs is missing")),
        innocent=image(inside()),
    ),
    Case(C.NOT_BOOTABLE, S.BLOCKS, ("data disk",), image(inside(bootable=False)), innocent=image(inside())),
    Case(
        C.NOT_BOOTABLE,
        S.UNKNOWN,
        ("nobody could tell whether it boots",),
        image(inside(bootable=None)),
        innocent=image(inside()),
    ),
    Case(
        C.BOOT_DRIVER,
        S.CHANGES,
        ("a virtio-blk disk", "SATA"),
        image(inside(boot_drivers=(_cannot("virtio-blk"), inside().boot_drivers[2]))),
        innocent=image(inside()),
    ),
    Case(
        C.BOOT_DRIVER,
        S.UNKNOWN,
        ("virtio-blk", "could not be read"),
        image(inside(boot_drivers=(unknowing("virtio-blk"),))),
        innocent=image(inside()),
    ),
    Case(
        C.BOOT_FIRMWARE,
        S.BLOCKS,
        ("nothing in it starts by BIOS", "data disk"),
        image(inside(uefi=False, bios=False)),
        innocent=image(inside()),
    ),
    Case(
        C.GPU_DRIVER,
        S.WARNS,
        ("nvidia", "it has amd"),
        image(
            inside(gpu_drivers=("amd",)),
            '[guest]\nos = "debian12"\ndrivers = ["virtio", "nvidia"]\n'
            '[devices.gpu]\nprefer = ["passthrough", "paravirtual"]',
        ),
        innocent=image(
            inside(gpu_drivers=("nvidia",)),
            '[guest]\nos = "debian12"\ndrivers = ["virtio", "nvidia"]\n'
            '[devices.gpu]\nprefer = ["passthrough", "paravirtual"]',
        ),
    ),
    Case(
        C.GPU_DRIVER,
        S.UNKNOWN,
        ("may do so by itself",),
        image(
            inside(gpu_drivers=None),
            '[guest]\nos = "debian12"\ndrivers = ["virtio", "nvidia"]\n'
            '[devices.gpu]\nprefer = ["passthrough", "paravirtual"]',
        ),
        innocent=image(
            inside(gpu_drivers=("nvidia",)),
            '[guest]\nos = "debian12"\ndrivers = ["virtio", "nvidia"]\n'
            '[devices.gpu]\nprefer = ["passthrough", "paravirtual"]',
        ),
    ),
    Case(
        C.HIBERNATED,
        S.UNKNOWN,
        ("whether it is hibernated",),
        image(inside(hibernated=None)),
        innocent=image(inside(hibernated=())),
    ),
    Case(
        C.DIRTY,
        S.UNKNOWN,
        ("was left open", "could be read"),
        image(inside(dirty=None)),
        innocent=image(inside(dirty=())),
    ),
    Case(
        C.TIED_TO_HARDWARE,
        S.WARNS,
        ("eth0 by its MAC",),
        image(inside(tied_to=("eth0 by its MAC",))),
        innocent=image(inside()),
    ),
    Case(
        C.HIBERNATED,
        S.WARNS,
        ("/dev/sda2", "shutdown"),
        image(inside(hibernated=("/dev/sda2",))),
        innocent=image(inside(hibernated=())),
    ),
    Case(
        C.DIRTY,
        S.WARNS,
        ("/dev/sda1", "not unmounted"),
        image(inside(dirty=("/dev/sda1",))),
        innocent=image(inside(dirty=())),
    ),
)

"""What libvirt, QEMU and the kernel say when a VM does not start, and which part of the VM that is about.

The texts are those of libvirt 11.3 and QEMU 10.0, seen live or in their binaries, with those of older ones that people
still have. libvirt is asked in the C locale; what comes from a daemon in another one is not recognised and is told as
it is.
"""

from __future__ import annotations

import re
from enum import StrEnum, unique
from typing import Final, NamedTuple

from clienthv.errors import ClienthvError, DiskError, GuestError, HostError, TemplateError


@unique
class Fault(StrEnum):
    """What a failure is about: a part of the VM that can be had in another way, or none (``OTHER``)."""

    FUNCTION = "function"  # one PCI function, which the text names
    VFIO = "vfio"  # every PCI function that is handed over
    MEMLOCK = "memlock"  # the same: their memory cannot be locked
    PHYSICAL_FUNCTION = "physical-function"  # the card behind a virtual function
    MDEV = "mdev"
    USB = "usb"
    TPM = "tpm"
    RENDER_NODE = "render-node"
    NETWORK = "network"
    EVDEV = "evdev"
    KVM = "kvm"
    FIRMWARE = "firmware"
    HUGEPAGES = "hugepages"
    CONNECTION = "connection"  # libvirt's daemon went away
    RUNS_ALREADY = "runs-already"
    OTHER = "other"


class Known(NamedTuple):
    """A text that is known: what it is about, the error it becomes, and the next step."""

    fault: Fault
    pattern: str
    family: type[ClienthvError]
    hint: str


_UNREACHABLE: Final = "the account QEMU runs as cannot reach the file; move it, or open the folder"
_NOT_THERE: Final = "a file of the VM is not there: put it back, or give --disk, --cdrom or --kernel with its path"
_DISK_HELD: Final = "another program or VM has the image open; stop that first"
_KVM: Final = "clienthv inspect shows the state of KVM and why"
_GROUP: Final = "clienthv devices shows the group; a function of it has a driver of the host's"
_GONE: Final = "clienthv inspect shows what is there; the device was removed or has another address"
_OF_VM: Final = "another VM has the device: stop it, or select another in the profile"
_VFIO: Final = "clienthv devices says what can be handed over; dmesg has the kernel's reason"
_RESET: Final = "clienthv devices says how the device can be reset; a restart of the PC resets it"
_MEMLOCK: Final = "raise memlock in /etc/security/limits.conf, or use qemu:///system, whose daemon may raise it"
_PF: Final = "the card's interface went down: ip link set dev INTERFACE up, and start the VM again"
_RENDER: Final = "clienthv inspect shows the render nodes; QEMU's OpenGL modules are in a package of their own"
_PAGES: Final = "/sys/kernel/mm/hugepages shows how many are free; mount hugetlbfs on /dev/hugepages"
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OVMF: Final = "install ovmf (edk2-ovmf) again"
_SWTPM: Final = (
    'swtpm-tools makes its state; its log is in /var/log/swtpm; or leave the TPM out: [devices.tpm] prefer = ["omit"]'
)
_NET: Final = "clienthv plan --explain shows what a network card can be plugged into"
_MDEV: Final = "clienthv inspect shows the mediated devices; dmesg has the kernel's reason"
_NO_QEMU: Final = "install qemu-system-x86 (qemu-kvm, qemu-base); qemu-system-x86_64 --version shows whether it runs"
_MODEL: Final = 'let the guest have a processor that this PC can give: [devices.cpu] model = "host-model"'
_SMM: Final = 'Secure Boot needs a KVM with SMM; or leave it out: [devices.firmware] prefer = ["uefi", "bios"]'
_APPARMOR: Final = "AppArmor refused it: aa-status shows libvirt's profiles, journalctl -k what was refused"
_PORT: Final = "another program has the port, or all of them: ss -ltnp shows which; stop it, or a VM"

# By number (libvirt, include/libvirt/virterror.h, virErrorNumber), which its ABI promise keeps.
_CODES: Final = {
    55: Known(Fault.RUNS_ALREADY, r"already running|is already active", GuestError, "clienthv status"),
    92: Known(Fault.OTHER, r"", TemplateError, "look at the templates that were changed"),
    68: Known(
        Fault.OTHER,
        r"cannot acquire state change lock",
        GuestError,
        "its QEMU does not answer; clienthv down NAME --force pulls its plug",
    ),
}

# In the order they are looked for: what names its cause before what may stand beside another cause.
_KNOWN: Final = (
    Known(
        Fault.CONNECTION,
        r"^(?:internal error: )?(?:Cannot (?:recv|send|write) data|End of file while reading data|client socket is "
        r"closed|[^/]*connection (?:is|was) closed|Disconnected from)",
        HostError,
        "libvirt's daemon went away; its log says why (journalctl -u libvirtd)",
    ),
    Known(
        Fault.OTHER,
        r"Failed to connect socket to",
        HostError,
        "libvirt's daemon does not run, or is not yours: systemctl start libvirtd (or virtqemud.socket)",
    ),
    Known(
        Fault.OTHER,
        r"could not find capabilities for arch|unable to find any emulator|Cannot check QEMU binary|"
        r"QEMU binary \S+ is not executable|Failed to (?:start|probe) QEMU binary",
        HostError,
        _NO_QEMU,
    ),
    Known(Fault.OTHER, r'Failed to get (?:shared )?"write" lock', DiskError, _DISK_HELD),
    Known(Fault.OTHER, r"No space left on device", DiskError, "make room on the disk"),
    Known(
        Fault.MEMLOCK,
        r"VFIO_MAP_DMA failed: Cannot allocate memory|vfio_(?:container_)?dma_map\(.*= -12 |cannot limit locked memory",
        HostError,
        _MEMLOCK,
    ),
    Known(Fault.MDEV, rf"vfio {_UUID}: ", HostError, _MDEV),
    Known(Fault.VFIO, r"VFIO_MAP_DMA failed|vfio_(?:container_)?dma_map\(", HostError, _VFIO),
    Known(Fault.FUNCTION, r"group \d+ is not viable", HostError, _GROUP),
    Known(
        Fault.FUNCTION,
        r"no iommu_group found|no such host device|host pci device .* not found|device is already attached|"
        r"could not access /sys/bus/pci|Unable to (?:read from|write to|open) '/sys/bus/pci/",
        HostError,
        _GONE,
    ),
    Known(
        Fault.FUNCTION,
        r"PCI device \S+ (?:allocated from network \S+ )?is (?:already )?in use|NVMe device \S+ already",
        HostError,
        _OF_VM,
    ),
    Known(Fault.MDEV, r"mediated device \S+ is in use", HostError, _OF_VM),
    Known(Fault.MDEV, r"mediated device \S+ not found|Mediated host device assignment", HostError, _MDEV),
    Known(
        Fault.FUNCTION,
        r"ould not open '/dev/vfio/\d|ailed to open (?:VFIO group file|'?/dev/vfio/\d)|error getting device from group",
        HostError,
        _VFIO,
    ),
    Known(
        Fault.VFIO,
        r"ailed to set(?:up)? (?:iommu for )?container|Failed to set group container|No available IOMMU models|"
        r"doesn't support (?:passthrough of host PCI|VFIO PCI)|VFIO device assignment is currently not|"
        r"ailed to open '?/dev/vfio/vfio|Failed to load PCI driver module",
        HostError,
        _VFIO,
    ),
    Known(
        Fault.FUNCTION,
        r"PCI device \S+ is not assignable|Non-endpoint PCI devices|must be manually detached|"
        r"[Ff]ailed to (?:bind|unbind|add) .*PCI|failed getting region info",
        HostError,
        _VFIO,
    ),
    Known(
        Fault.FUNCTION,
        r"(?:Unable|Failed|attempt) to reset PCI device|Not resetting active device|"
        r"no FLR, PM reset or bus reset|not doing bus reset|stuck in D3",
        HostError,
        _RESET,
    ),
    Known(
        Fault.PHYSICAL_FUNCTION,
        r"because the PF is not online|Unable to configure VF|The PF device for VF|Cannot set interface (?:MAC|config)",
        HostError,
        _PF,
    ),
    Known(
        Fault.OTHER,
        r"CPU is incompatible with host CPU|CPU doesn't match specification|CPUs? (?:is|are) not "
        r"compatible|doesn't support invariant TSC",
        HostError,
        _MODEL,
    ),
    Known(
        Fault.OTHER,
        r"unsupported machine type|not support machine type|machine '\S+' is not supported",
        HostError,
        "this QEMU does not know the VM's machine type: a newer one does",
    ),
    Known(
        Fault.KVM,
        r"failed to initialize kvm|KVM is not available|Could not access KVM|KVM_CREATE_VM|requires KVM|"
        r"failed to set MSR|kvm_buf_set_msrs|KVM internal error|CPU mode 'host-[a-z]+' .* not supported|"
        r"not support virt type 'kvm'",
        HostError,
        _KVM,
    ),
    Known(
        Fault.OTHER, r"/nvram/\S+_VARS\.\w+'?: ", HostError, "these are the guest's UEFI variables; look at that file"
    ),
    Known(
        Fault.FIRMWARE,
        r"Unable to find (?:'\S+'|any) firmware|(?:OVMF|edk2|/firmware/)\S*'?(?: is not accessible)?: No such file|"
        r"could not load PC BIOS|open '\S+\.fd'|(?:OVMF|edk2)\S*' to be a regular file|master var store",
        HostError,
        _OVMF,
    ),
    Known(Fault.FIRMWARE, r"requires SMM|System Management Mode not supported", HostError, _SMM),
    Known(Fault.HUGEPAGES, r"hugetlbfs|\bhugepage|unable to map backing store for guest RAM", HostError, _PAGES),
    Known(Fault.NETWORK, r"network '\S+' is not active|Network not found", HostError, _NET),
    Known(
        Fault.RENDER_NODE,
        r"3d acceleration is not supported|virtio-(?:vga|gpu)-gl|\begl: |\begl-headless\b|\beglInit|\bEGL_[A-Z]|"
        r"EGL render node|(?i:drm render node)|OpenGL support|opengl is not available|virgl could not",
        HostError,
        _RENDER,
    ),
    Known(Fault.TPM, r"\bswtpm|TPM version|TPM device|tpm-tis|tpm-crb|tpm-emulator", HostError, _SWTPM),
    Known(
        Fault.USB,
        r"Did not find USB device|failed to (?:find|open) host usb device|failed to init libusb|/dev/bus/usb/",
        HostError,
        "plug it in, or clienthv up NAME again: it plans for what is there",
    ),
    Known(Fault.USB, r"USB device \S+ is in use", HostError, _OF_VM),
    Known(
        Fault.USB,
        r"Multiple USB devices for",
        HostError,
        'name the port of the one that is meant: devices = ["IDS@PORT"]',
    ),
    Known(Fault.EVDEV, r"/dev/input/", HostError, "clienthv inspect shows the event devices"),
    Known(
        Fault.NETWORK,
        r"\bpasst\b|requires exclusive access to interfaces|[Uu]nable to (?:create tap|add bridge)|"
        r"Cannot get interface|error creating macv|macvtap tap device|/dev/(?:net/tun|vhost-net)|"
        r"vhost-net was requested|bridge helper",
        HostError,
        _NET,
    ),
    Known(
        Fault.OTHER,
        r"No more available PCI slots",
        GuestError,
        "start the VM with the device instead: its machine has no free slot that fits (a conventional PCI device needs "
        "a bridge)",
    ),
    Known(Fault.OTHER, r"AppArmor", HostError, _APPARMOR),
    Known(Fault.OTHER, r"Address already in use|find an unused port", HostError, _PORT),
    Known(
        Fault.OTHER,
        r"(?:ould not open|Cannot access storage file) '/_'.*: No such file|Path '/_' is not accessible",
        DiskError,
        _NOT_THERE,
    ),
    Known(Fault.OTHER, r"Cannot access storage file|ould not open '/_': Permission", DiskError, _UNREACHABLE),
    Known(Fault.OTHER, r"Permission denied", HostError, _UNREACHABLE),
    Known(Fault.OTHER, r"Cannot allocate memory", HostError, "close programs, or lower size.memory in the profile"),
    Known(
        Fault.OTHER,
        r"Failed to parse user",
        HostError,
        "install libvirt-daemon-system: it makes the account that QEMU runs as",
    ),
)


def recognise(code: int | None, text: str) -> Known | None:
    """What a text that libvirt or QEMU gave is about: by libvirt's error number, then by its words; None if unknown."""
    by_code = _CODES.get(code) if code is not None else None
    if by_code is not None and re.search(by_code.pattern, text):
        return by_code
    told = _without_names(text)
    return next((known for known in _KNOWN if re.search(known.pattern, told)), None)


# What a VM, a network or a profile is called, and where its files lie, is up to strangers.
_NAMES: Final = re.compile(r"\(vm='[^']*'\)|\b(domain|matching name|profile) '[^']*'")
_OPTION: Final = re.compile(r"(^|\s)-[a-z]+ (?:\{.*?\}|\S+): ", re.MULTILINE)
_PATH: Final = re.compile(r"""(?<=['"`])/[^'"`\n]*(?=['"`])|(?<![\w/.~'"`])/\S+""")
_OF_THE_PC: Final = ("/dev/", "/sys/", "/proc/", "/usr/", "/etc/")
_OF_LIBVIRT: Final = re.compile(
    r"(?:/(?P<of>nvram|swtpm|passt)/)?[^/]*?(?P<end>_VARS\.\w+|(?:-swtpm)?\.(?:sock|socket|log|pid))(?P<rest>\W*)$"
)
_OF_FIRMWARE: Final = re.compile(r"/(?P<name>(?:OVMF|edk2)[\w.-]*\.(?:fd|bin))(?P<rest>\W*)$")
_HARMLESS: Final = re.compile(r"warning: |Performance may be slow|peer-to-peer transactions on BARs")
_PEER_TO_PEER: Final = re.compile(r"VFIO_MAP_DMA failed: Invalid argument|dma_map\(.*= -22 ")


def _without_names(text: str) -> str:
    """A text without what strangers choose, without the options that QEMU repeats, and without its warnings."""
    told = _OPTION.sub(r"\1", "\n".join(serious(text)))
    return _PATH.sub(_place, _NAMES.sub(r"\1", told))


def _place(found: re.Match[str]) -> str:
    """What a path tells of a failure: the PC's own as they are, of libvirt's what they are for, of others nothing."""
    path = found[0]
    if path.startswith(_OF_THE_PC):
        return path
    own, firmware = _OF_LIBVIRT.search(path), _OF_FIRMWARE.search(path)
    if firmware is not None and (own is None or own["of"] != "nvram"):
        return f"/{firmware['name']}{firmware['rest']}"
    return f"/{own['of'] or '_'}/_{own['end']}{own['rest']}" if own is not None else "/_"


def serious(text: str) -> list[str]:
    """The lines without warnings. QEMU lets one device reach the other's memory where it can, and says if it cannot."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any("peer-to-peer transactions on BARs" in line for line in lines):
        lines = [line for line in lines if not _PEER_TO_PEER.search(line)]
    return [line for line in lines if not _HARMLESS.search(line)]


_WRAPPING: Final = re.compile(
    r"^(?:internal error: )?"
    r"(?:QEMU unexpectedly closed the monitor[^:]*: |process exited while connecting to monitor: )?"
    r"(?:\S+Z )?(?:qemu(?:-system-\S+)?: )?(?:-[a-z]+ (?:\{.*?\}|\S+): )?"
)
_BY_QEMU: Final = re.compile(r"(?:^|\s)qemu(?:-system-\S+)?: ")


def said(text: str) -> str:
    """What happened, in one line: of QEMU's own the last but warnings, without what libvirt and QEMU put before it."""
    lines = serious(text) or [text.strip()]
    by_qemu = [line for line in lines if _BY_QEMU.search(line)]
    if by_qemu:
        return _WRAPPING.sub("", by_qemu[-1])
    return " ".join(line for number, line in enumerate(lines) if not any(line in before for before in lines[:number]))

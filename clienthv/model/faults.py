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
_IMAGE: Final = r"(?:Cannot access storage file|Could not open) ''"  # as _CHOSEN leaves it
_FILE_GONE: Final = "the file is not there any more: give another path with --disk, --cdrom, --kernel or --initrd"
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
_OVMF: Final = "install ovmf (edk2-ovmf) again"
_SWTPM: Final = (
    'swtpm-tools makes its state; its log is in /var/log/swtpm; or leave the TPM out: [devices.tpm] prefer = ["omit"]'
)
_NET: Final = "clienthv plan --explain shows what a network card can be plugged into"

# By number (libvirt, include/libvirt/virterror.h, virErrorNumber), which its ABI promise keeps.
_CODES: Final = {
    55: Known(Fault.RUNS_ALREADY, r"already running|is already active", GuestError, "clienthv status"),
    92: Known(Fault.OTHER, r"", TemplateError, "look at the templates that were changed"),
}

# In the order they are looked for: what names its cause before what may stand beside another cause.
_KNOWN: Final = (
    Known(
        Fault.CONNECTION,
        r"Cannot (?:recv|send|write) data|End of file while reading data|client socket is closed|connection (?:is|was) "
        r"closed|Disconnected from",
        HostError,
        "libvirt's daemon went away; its log says why (journalctl -u libvirtd)",
    ),
    Known(Fault.OTHER, rf"{_IMAGE}.*: No such file", DiskError, _FILE_GONE),
    Known(Fault.OTHER, rf"{_IMAGE}.*: Permission denied", DiskError, _UNREACHABLE),
    Known(Fault.OTHER, r'Failed to get (?:shared )?"write" lock', DiskError, _DISK_HELD),
    Known(Fault.OTHER, r"No space left on device", DiskError, "make room on the disk"),
    Known(
        Fault.MEMLOCK,
        r"VFIO_MAP_DMA failed: Cannot allocate memory|vfio_(?:container_)?dma_map\(.*= -12 |cannot limit locked memory",
        HostError,
        _MEMLOCK,
    ),
    Known(Fault.VFIO, r"VFIO_MAP_DMA failed|vfio_(?:container_)?dma_map\(", HostError, _VFIO),
    Known(Fault.FUNCTION, r"group \d+ is not viable", HostError, _GROUP),
    Known(
        Fault.FUNCTION,
        r"no iommu_group found|no such host device|host pci device .* not found|device is already attached|"
        r"could not access /sys/bus/pci",
        HostError,
        _GONE,
    ),
    Known(Fault.FUNCTION, r"PCI device \S+ is in use by driver", HostError, _OF_VM),
    Known(
        Fault.MDEV, r"mediated device \S+ (?:not found|is in use)|Mediated host device assignment", HostError, _OF_VM
    ),
    Known(
        Fault.FUNCTION,
        r"Could not open '/dev/vfio/\d|Failed to open VFIO group file|Failed to open /dev/vfio/vfio",
        HostError,
        _VFIO,
    ),
    Known(
        Fault.VFIO,
        r"ailed to set(?:up)? (?:iommu for )?container|Failed to set group container|No available IOMMU models|"
        r"doesn't support (?:passthrough of host PCI|VFIO PCI)|VFIO device assignment is currently not",
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
        r"Unable to reset PCI device|no FLR, PM reset or bus reset|not doing bus reset|stuck in D3",
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
        r"Unable to find (?:'\S+'|any) firmware|(?:OVMF|edk2|/firmware/)\S*'?: No such file|could not load PC BIOS|"
        r"open '\S+\.fd'",
        HostError,
        _OVMF,
    ),
    Known(Fault.HUGEPAGES, r"hugetlbfs|unable to map backing store for guest RAM", HostError, _PAGES),
    Known(
        Fault.RENDER_NODE,
        r"3d acceleration is not supported|virtio-vga-gl|\begl[-:A-Z]|\bEGL\b|DRM render node|OpenGL|opengl",
        HostError,
        _RENDER,
    ),
    Known(Fault.TPM, r"\bswtpm|TPM version|TPM device|tpm-tis|tpm-crb", HostError, _SWTPM),
    Known(
        Fault.USB,
        r"Did not find USB device|failed to (?:find|open) host usb device",
        HostError,
        "plug it in, or clienthv up NAME again: it plans for what is there",
    ),
    Known(
        Fault.USB,
        r"Multiple USB devices for",
        HostError,
        'name the port of the one that is meant: devices = ["IDS@PORT"]',
    ),
    Known(Fault.EVDEV, r"/dev/input/", HostError, "clienthv inspect shows the event devices"),
    Known(
        Fault.NETWORK,
        r"\bpasst\b|requires exclusive access to interfaces|network '\S+' is not active|Network not found|"
        r"[Uu]nable to (?:create tap|add bridge)|Cannot get interface|error creating macvtap",
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
    Known(Fault.OTHER, r"Cannot access storage file", DiskError, _UNREACHABLE),
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
    told = _CHOSEN.sub("''", text)
    return next((known for known in _KNOWN if re.search(known.pattern, told)), None)


# A VM can be called anything, and an image lie anywhere: only what the system names itself tells what it is.
_CHOSEN: Final = re.compile(
    r"\(vm='[^']*'\)"
    r"|'(?!/(?:dev|sys|proc|usr|run)/)(?![^']*_VARS\.)/[^']*(?<!\.fd)'"
    r"|(?<=\"filename\":)\"(?!/(?:dev|sys|proc|usr|run)/)(?![^\"]*_VARS\.)/[^\"]*(?<!\.fd)\""
)


_WRAPPING: Final = re.compile(
    r"^(?:internal error: )?"
    r"(?:QEMU unexpectedly closed the monitor[^:]*: |process exited while connecting to monitor: )?"
    r"(?:\S+Z )?(?:qemu(?:-system-\S+)?: )?(?:-[a-z]+ (?:\{.*?\}|\S+): )?"
)
_BY_QEMU: Final = re.compile(r"(?:^|\s)qemu(?:-system-\S+)?: (?!warning: )")


def said(text: str) -> str:
    """What happened, in one line: of QEMU's own the last but warnings, without what libvirt and QEMU put before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    by_qemu = [line for line in lines if _BY_QEMU.search(line)]
    return _WRAPPING.sub("", by_qemu[-1]) if by_qemu else " ".join(lines)

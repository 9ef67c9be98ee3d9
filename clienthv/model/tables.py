"""The tables of a profile: what a guest is, how big, and per kind of device an ordered ladder of strategies."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from clienthv.model import values
from clienthv.model.host import RoleName
from clienthv.model.input import EVENT_NAME_PATTERN
from clienthv.model.network import RUNG_PATTERN
from clienthv.model.particulars import MdevTypeId
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.selector import Selector
from clienthv.model.usb import USB_WISH_PATTERN

SCHEMA: Final = 1

Driver = Literal["virtio", "nvidia", "amd", "intel"]
CpuModel = Literal["host-passthrough", "host-model", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
DiskBus = Literal["virtio-blk", "virtio-scsi"]
DRIVERS: Final = get_args(Driver)
DRIVER_OF: Final[dict[str, Driver]] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""What drives a graphics card, by the PCI vendor that makes it."""
CPU_MODELS: Final = get_args(CpuModel)
Size = Annotated[str, Meta(pattern=values.SIZE_PATTERN, description="a size with its unit: 512 MiB, 8 GiB")]
Ladder = Annotated[tuple[Strategy, ...], Meta(min_length=1, description="strategies, the most wanted first")]

UsbNames = Annotated[
    tuple[Annotated[str, Meta(pattern=USB_WISH_PATTERN)], ...],
    # The guest's controller has 15 ports at most (QEMU, hw/usb/hcd-xhci.h, XHCI_MAXPORTS_2), and the pointer has one.
    Meta(
        max_length=14,
        description="USB devices to hand over: 046d:c52b, or 046d:c52b@1-2.3 for the one on that port, or class:webcam",
    ),
]


Rungs = Annotated[
    tuple[Annotated[str, Meta(pattern=RUNG_PATTERN)], ...],
    Meta(max_length=8, description="bridge, network, macvtap, passt or user, the first three with :NAME where needed"),
]


EventNames = Annotated[
    tuple[Annotated[str, Meta(pattern=EVENT_NAME_PATTERN)], ...],
    Meta(max_length=8, description="keyboards and pointers of the host: names below /dev/input/by-path or by-id"),
]


class Guest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs inside: its osinfo id, the device drivers it carries beyond what every OS has, and its manners.

    ``power_button`` is whether it shuts down when its (ACPI) power button is pressed, as installed desktops do.
    """

    os: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]*$(?!\n)", max_length=64)] = "unknown"
    drivers: tuple[Driver, ...] = ()
    power_button: bool = True


class SizeOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How big the VM is. The ``_min`` values say how far it may shrink on a small PC; without them it may not.

    ``hugepages`` asks for memory from the kernel's pool of huge pages, where enough of them are free.
    """

    vcpus: Annotated[int, Meta(ge=1, le=1024)] = 2
    vcpus_min: Annotated[int, Meta(ge=1, le=1024)] | None = None
    memory: Size = "4 GiB"
    memory_min: Size | None = None
    hugepages: bool = False


class Boot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct kernel boot: absolute paths (the last match of a ``*`` is taken) and the kernel's command line."""

    kernel: Annotated[str, Meta(pattern="^/", max_length=1024)] | None = None
    initrd: Annotated[str, Meta(pattern="^/", max_length=1024)] | None = None
    cmdline: Annotated[str, Meta(max_length=2048)] | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of device: the ladder, which of the host's devices may be used, and which refusals are lifted.

    ``require`` are the strategies without which there shall be no VM; ``forbid`` are never taken.
    ``allow`` lifts the refusal to take what the host itself uses, only for devices that ``select`` names exactly.
    ``devices`` are single USB devices, for ``usb`` alone.
    ``mdev_type``, for the GPU alone, is the type of mediated device to take; without it the largest that there is.
    ``bus``, for the disk alone, is how a paravirtual one hangs, ``pin``, for the cpu alone, whether each virtual
    processor gets a thread of the host to itself.
    ``redirect``, for ``usb`` alone, is how many devices of whoever looks at the screen can be plugged in over SPICE.
    ``looking_glass``, for the display alone, is the largest picture that Looking Glass shall carry ("2560x1440").
    ``trust``, for the network card alone, lets the guest change its virtual function's MAC address and filters,
    and ``network`` is what a virtual one is plugged into, the most wanted first. ``evdev`` are keyboards and pointers,
    for ``input`` alone.
    """

    prefer: Ladder | None = None
    require: tuple[Strategy, ...] = ()
    forbid: tuple[Strategy, ...] = ()
    select: tuple[Selector, ...] = ()
    allow: tuple[RoleName, ...] = ()
    model: CpuModel | None = None
    devices: UsbNames = ()
    bus: DiskBus | None = None
    pin: bool = False
    trust: bool = False
    mdev_type: MdevTypeId | None = None
    redirect: Annotated[int, Meta(ge=0, le=4)] = 0
    looking_glass: Annotated[str, Meta(pattern=r"^[1-9][0-9]{2,4}x[1-9][0-9]{2,4}$(?!\n)")] | None = None
    network: Rungs = ()
    evdev: EventNames = ()


class Devices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ladders, one table per kind."""

    cpu: Device = Device()
    firmware: Device = Device()
    gpu: Device = Device()
    nic: Device = Device()
    disk: Device = Device()
    audio: Device = Device()
    usb: Device = Device()
    input: Device = Device()
    tpm: Device = Device()
    display: Device = Device()


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole profile with everything it extends merged in."""

    schema: Annotated[int, Meta(ge=1, le=SCHEMA)] = SCHEMA
    name: str = ""
    description: Annotated[str, Meta(max_length=200)] = ""
    guest: Guest = Guest()
    size: SizeOf = SizeOf()
    boot: Boot = Boot()
    devices: Devices = Devices()

    def device(self, kind: Kind) -> Device:
        """The table of one kind."""
        table: Device = getattr(self.devices, kind.value)
        return table

    def ladder(self, kind: Kind) -> tuple[Strategy, ...]:
        """The ladder of one kind; a profile that gives none gets the portable end of what the kind knows.

        What is required ends it: strategies outside of that are no way down.
        """
        device = self.device(kind)
        ladder = device.prefer or DEFAULT_LADDERS[kind]
        return tuple(s for s in ladder if s in device.require) if device.require else ladder


_S = Strategy
DEFAULT_LADDERS: Final[dict[Kind, tuple[Strategy, ...]]] = {
    Kind.CPU: STRATEGIES[Kind.CPU],
    Kind.FIRMWARE: (_S.UEFI, _S.BIOS),
    Kind.GPU: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.NIC: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.DISK: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.AUDIO: (_S.EMULATED, _S.OMIT),
    Kind.USB: (_S.EMULATED, _S.OMIT),
    Kind.INPUT: (_S.EMULATED, _S.OMIT),
    Kind.TPM: (_S.OMIT,),
    Kind.DISPLAY: (_S.PARAVIRTUAL, _S.EMULATED),
}


class ProfileText(msgspec.Struct, frozen=True):
    """A profile as written: its name, where it comes from, and the whole text."""

    name: str
    origin: str
    text: str

"""A profile made of answers: what is proposed for a guest on a PC, and the text that says why each line is there."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from clienthv.model import values
from clienthv.model.devices import Device, Devices, Verdict
from clienthv.model.guest import GENERIC, GuestOs
from clienthv.model.host import Host
from clienthv.model.plan import Kind
from clienthv.model.profile_checks import LEAST_MIB
from clienthv.model.roles import RoleName
from clienthv.model.tables import DRIVER_OF, DRIVERS

Portability = Literal["portable", "balanced", "performance"]
PORTABILITIES: Final = get_args(Portability)
VIRTUAL: Final = "virtual"
"""The answer that no graphics card is handed over."""
AUTO: Final = "auto"
"""The answer that the ladder of the profile it starts from shall find one."""
_DISPLAY: Final = "03"  # PCI Code and ID Assignment Specification, base class of display controllers
_OLD: Final = "legacy-windows"
_MOST: Final = 300  # characters of what an image says
_WIDTH: Final = 110
_DANGERS: Final = {
    RoleName.BOOT_DISPLAY: "the host shows its screen on it: while the VM runs this PC has no screen and no console",
    RoleName.CONNECTED_DISPLAY: "the only screen that is plugged in hangs on it, and shows the VM while that runs",
}


class Gpu(NamedTuple):
    """A graphics card that could be handed over: its verdict, and what the host itself uses it for."""

    device: Device
    roles: tuple[RoleName, ...]

    @property
    def address(self) -> str:
        """Where it is."""
        return self.device.address

    @property
    def free(self) -> bool:
        """Whether it can be handed over as the PC is now."""
        return self.device.verdict is not Verdict.NO

    @property
    def dangers(self) -> tuple[str, ...]:
        """What the host loses with it, or may lose where the host document does not tell."""
        unknown = {objection.reason.value for objection in self.device.objections}
        return tuple(
            ("it is not known whether the host needs it; if so, " if f"{role.value}-unknown" in unknown else "")
            + _DANGERS.get(role, f"the host uses it ({role.value})")
            for role in self.roles
        )


class Size(NamedTuple):
    """Virtual processors, and memory in MiB; the ``least`` is how far each may shrink on a small PC."""

    vcpus: int
    memory_mib: int
    least_vcpus: int
    least_memory_mib: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The answers.

    ``virtio`` is whether virtio drivers were installed in the guest; ``gpu`` the card that it gets, if any, and
    ``driver`` what drives that; ``auto`` is whether one shall be looked for. ``no_virtio_disk`` is why its image does
    not start from a virtio disk, if it does not.
    ``allow`` are the uses by the host that are given up for the card; ``usb`` names devices as a profile does.
    """

    name: str
    guest: GuestOs
    portability: Portability = "balanced"
    virtio: bool = True
    gpu: Gpu | None = None
    auto: bool = False
    driver: str | None = None
    no_virtio_disk: str | None = None
    allow: tuple[RoleName, ...] = ()
    size: Size
    usb: tuple[str, ...] = ()

    @property
    def extends(self) -> str:
        """The profile whose values it starts from."""
        return _OLD if is_old(self.guest) else self.portability


def is_old(guest: GuestOs) -> bool:
    """Whether a system is from before PCI Express: all its devices are emulated, wherever it runs."""
    return guest.emulated.machine == "pc"


def name_for(guest: GuestOs) -> str:
    """A profile's name for an operating system."""
    return re.sub(r"[^a-z0-9]+", "-", guest.id).strip("-")[:50] or "desktop"


def gpus(devices: Devices, host: Host) -> tuple[Gpu, ...]:
    """The graphics cards of a PC, those first that can be handed over now; no virtual functions."""
    cards = {f.address for f in host.pci if f.base_class.startswith(_DISPLAY) and f.physfn is None}
    found = [Gpu(d, _roles(d)) for d in devices.devices if d.serves_as is Kind.GPU and d.address in cards]
    return tuple(sorted(found, key=lambda gpu: not gpu.free))


def _roles(device: Device) -> tuple[RoleName, ...]:
    """What a refusal names that can be lifted; a use that the host document does not tell counts."""
    reasons = {objection.reason.value.removesuffix("-unknown") for objection in device.objections}
    return tuple(role for role in RoleName if role.value in reasons)


def driver_of(gpu: Gpu, host: Host) -> str | None:
    """What drives a card in the guest, by its vendor; None where that is not known."""
    function = host.by_address.get(gpu.address)
    return DRIVER_OF.get(function.vendor_id or "") if function is not None else None


def size_for(guest: GuestOs, portability: Portability, host: Host) -> Size:
    """A size for a desktop of that system: twice as much for the most of a PC, and never more than half of it."""
    factor = 2 if portability == "performance" else 1
    vcpus = min(4 * factor, host.cpu.threads or 4 * factor, guest.max_vcpus or 1024)
    least_vcpus = guest.min_vcpus or 1
    usual = (256 if guest.no_gpu else 1024) if is_old(guest) else 8192 if guest.family == "windows" else 4096
    least = max(LEAST_MIB, guest.min_memory_mib or (0 if is_old(guest) else 1024))
    there = host.memory.available_mib or host.memory.total_mib
    half = max(1024, there // 2 // 1024 * 1024) if there is not None else usual * factor
    memory = max(least, min(usual * (1 if is_old(guest) else factor), half, guest.max_memory_mib or 1 << 40))
    return Size(max(vcpus, least_vcpus), memory, least_vcpus, min(least, memory))


def text(draft: Draft) -> str:
    """The profile as a TOML file, with a comment on each line: why it is so, and what else is possible."""
    return "\n".join(
        [
            *_comment("Written by clienthv new. Change what you like: docs/reference/profile.md describes every key."),
            *_comment(f"What it means on this PC: clienthv plan {draft.name} --explain"),
            "schema = 1",
            *_base(draft),
            f'description = "{draft.guest.id}, {_kind_of(draft)}"',
            *_guest(draft),
            *_size(draft.size),
            *_firmware(draft.guest),
            *_disk(draft),
            *_gpu(draft),
            *_usb(draft),
            "",
        ]
    )


def _comment(sentence: str) -> Iterator[str]:
    """A sentence as comment lines. Names of devices come from elsewhere: no character of theirs ends a line."""
    plain = "".join(c if c.isprintable() else "?" for c in sentence)
    yield from (f"# {line}" for line in textwrap.wrap(plain, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}]"


def _kind_of(draft: Draft) -> str:
    kind = "all devices emulated" if is_old(draft.guest) else draft.portability
    return f"{kind}, with the graphics card {draft.gpu.address}" if draft.gpu is not None else kind


def _base(draft: Draft) -> Iterator[str]:
    if is_old(draft.guest):
        yield from _comment(f"{draft.guest.id} has drivers for old devices alone, which QEMU emulates on every PC.")
    else:
        yield from _comment(
            "What is not said below is as in this profile. portable: virtual devices alone, runs on any PC; balanced: "
            "fast virtual devices and 3D by the host's GPU, and still moves; performance: devices of this PC first."
        )
    yield f'extends = "{draft.extends}"'


def _guest(draft: Draft) -> Iterator[str]:
    guest = draft.guest
    yield from ("", "[guest]")
    yield from _comment(
        "No system of osinfo-db: devices that systems since about 2009 have drivers for. Better: its osinfo id."
        if guest.id in GENERIC
        else "The osinfo id: what osinfo-db knows of it decides which devices it is given."
    )
    yield f'os = "{guest.id}"'
    makers = DRIVERS[1:] if draft.auto else (draft.driver,)
    drivers = tuple(d for d in ("virtio" if draft.virtio else None, *makers) if d is not None)
    yield from _comment(
        'Drivers that are in the guest beyond what came with it: "virtio", "nvidia", "amd", "intel". '
        + ("" if draft.virtio else 'Without "virtio", disk and network are emulated unless the system brings them. ')
        + (f'A passed-through card needs "{draft.driver}": install it in the guest.' if draft.driver else "")
    )
    yield f"drivers = {_listed(drivers)}"


def _size(size: Size) -> Iterator[str]:
    yield from ("", "[size]")
    yield from _comment("The _min values say how far the VM may shrink on a PC that has less; without them it may not.")
    yield f"vcpus = {size.vcpus}"
    yield f"vcpus_min = {size.least_vcpus}"
    yield f'memory = "{values.format_mib(size.memory_mib)}"'
    yield f'memory_min = "{values.format_mib(size.least_memory_mib)}"'


def _firmware(guest: GuestOs) -> Iterator[str]:
    if guest.needs_secure_boot:
        yield from ("", "[devices.firmware]")
        yield from _comment(f"{guest.id} asks for Secure Boot; UEFI without it where the PC's firmware files lack it.")
        yield 'prefer = ["uefi-secure-boot", "uefi"]'
    if guest.needs_tpm:
        yield from ("", "[devices.tpm]")
        yield from _comment(f'{guest.id} asks for a TPM 2.0: in software, else the PC\'s own. "omit" starts without.')
        yield 'prefer = ["emulated", "passthrough"]'


def _disk(draft: Draft) -> Iterator[str]:
    if draft.no_virtio_disk is not None:
        yield from ("", "[devices.disk]")
        why = draft.no_virtio_disk[:_MOST]
        yield from _comment(f"The image does not start from a virtio disk ({why}); from SATA it may.")
        yield 'prefer = ["emulated"]'


def _gpu(draft: Draft) -> Iterator[str]:
    if draft.gpu is None and (draft.auto or is_old(draft.guest)):
        return
    yield from ("", "[devices.gpu]")
    if draft.gpu is None:
        yield from _comment(
            'A virtual card: the VM moves. To hand over a real one, put "passthrough" first and name it with select; '
            "clienthv devices lists them."
        )
        ladder = ("paravirtual", "emulated") if draft.portability == "portable" else _VIRTUAL_RUNGS
        yield f"prefer = {_listed(ladder)}"
        return
    yield from _comment(
        "The first that is possible is taken. The card ties the VM to this PC; where it is missing or refused, the VM "
        'starts with a virtual one. require = ["passthrough"] means: with the card or not at all.'
    )
    yield f"prefer = {_listed(('passthrough', *_VIRTUAL_RUNGS))}"
    yield from _comment(
        f'{draft.gpu.device.name}. Other ways to name it: "name:*RX 580*", "10de:1b80", "vendor:amd", or the path '
        "of bridges, which stays when cards are added."
    )
    yield f"select = {_listed((draft.gpu.address,))}"
    if draft.allow:
        yield from _comment(f"DANGER, and meant: {'; '.join(draft.gpu.dangers)}. Remove this line to have it refused.")
        yield f"allow = {_listed(tuple(role.value for role in draft.allow))}"


_VIRTUAL_RUNGS: Final = ("paravirtual-3d", "paravirtual", "emulated")


def _usb(draft: Draft) -> Iterator[str]:
    if not draft.usb:
        return
    yield from ("", "[devices.usb]")
    yield from _comment(
        "USB devices of the host that the guest gets while it runs: by ids, 046d:c52b@1-2 for the one on that port, or "
        "class:webcam. One that is not plugged in, or that the host needs, is left out."
    )
    yield f"devices = {_listed(draft.usb)}"

"""What a definition that clienthv did not make amounts to in clienthv's words: each device, and a profile for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from clienthv.model import values
from clienthv.model.domain import DomainFacts, HostDevice
from clienthv.model.host import PciFunction
from clienthv.model.plan import HOST_DEVICES, STRATEGIES, Decision, Kind, Strategy
from clienthv.model.profile import DEFAULT_LADDERS, Device, Devices, Guest, Profile, SizeOf
from clienthv.model.tables import DRIVER_OF, Driver
from clienthv.model.values import PciAddress
from clienthv.portability.network import plug_of
from clienthv.strategies import pci

_S = Strategy
_KIND_OF_CLASS: Final = {"03": Kind.GPU, "02": Kind.NIC, "01": Kind.DISK, "04": Kind.AUDIO, "0c": Kind.USB}
UNNAMED: Final = "libvirt's choice"
"""The model of a device whose definition names none."""
_LEAST_MIB: Final = 1024
_MOST_MIB: Final = 900 << 20  # 900 TiB: no PC has it, and a profile can say it
_BELOW: Final[dict[Kind, tuple[Strategy, ...]]] = {
    Kind.CPU: (_S.BINARY_TRANSLATION,),
    Kind.GPU: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.NIC: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.DISK: (_S.PARAVIRTUAL, _S.EMULATED),
    Kind.AUDIO: (_S.EMULATED, _S.OMIT),
    Kind.USB: (_S.EMULATED, _S.OMIT),
    Kind.INPUT: (_S.EMULATED,),
    Kind.TPM: (_S.EMULATED, _S.OMIT),
    Kind.DISPLAY: (_S.PARAVIRTUAL, _S.EMULATED),
}
"""What a device may become where it cannot stay what it is. A guest boots by the firmware that it was installed for."""


def kind_of(function: PciFunction | None, device: HostDevice, domain: DomainFacts) -> Kind | None:
    """What a PCI function of the host is to the guest; guessed where its PC is not known, None for the rest.

    Two functions of one slot of which the guest gets both, while it has no other screen (or shows one by shared memory,
    as Looking Glass does), are a graphics card and its sound: that is how people hand them over. So is what has a ROM.
    """
    if device.interface:
        return Kind.NIC
    if function is not None and function.base_class:
        if function.base_class == "0c03" or not function.base_class.startswith("0c"):
            return _KIND_OF_CLASS.get(function.base_class[:2])
        return None
    if device.type != "pci" or device.address is None:
        return None
    place = PciAddress.parse(device.address)
    alike = domain.by_slot[place.slot]
    is_card = any(d.as_gpu and _is_first(d) for d in alike) or (
        len(alike) > 1 and any(map(_is_first, alike)) and (domain.shared_memory or not _has_screen(domain))
    )
    if not is_card:
        return None
    return Kind.GPU if place.function == 0 else Kind.AUDIO if place.function == 1 else None


def goes_with_a_card(device: HostDevice, domain: DomainFacts, functions: Mapping[str, PciFunction]) -> bool:
    """Whether a function is handed over as part of a graphics card: its sound, USB-C and serial functions.

    On a slot that holds more than those, an APU's, only the sound is (``strategies/pci.py``, ``companions``).
    """
    if device.address is None or kind_of(functions.get(device.address), device, domain) is Kind.GPU:
        return False
    slot = PciAddress.parse(device.address).slot
    cards = (d for d in domain.by_slot[slot] if kind_of(functions.get(d.address or ""), d, domain) is Kind.GPU)
    if next(cards, None) is None:
        return False
    function = functions.get(device.address)
    alone = all(
        f.base_class[:2] == "03" or f.base_class in pci.CARD_COMPANIONS
        for f in (functions.get(f"{slot}.{number}") for number in range(8))
        if f is not None
    )
    return function is None or alone or function.base_class == "0403"


def _has_screen(domain: DomainFacts) -> bool:
    return any(v.model not in ("vga", "none", "") or v.accel3d for v in domain.video)


def _is_first(device: HostDevice) -> bool:
    return device.address is not None and PciAddress.parse(device.address).function == 0


def decisions(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> dict[Kind, Decision]:
    """What each kind of device is in a definition. ``functions`` are those of its PC, where that is known."""
    passed = dict(_passed(domain, functions))
    found = {
        Kind.CPU: _made(Kind.CPU, *_cpu(domain)),
        Kind.FIRMWARE: _made(Kind.FIRMWARE, *_firmware(domain)),
        Kind.GPU: _made(Kind.GPU, *_gpu(domain)),
        Kind.NIC: _nic(domain),
        Kind.DISK: _made(Kind.DISK, *_disk(domain)),
        Kind.AUDIO: _made(Kind.AUDIO, *_audio(domain)),
        Kind.USB: _made(Kind.USB, *_usb(domain)),
        Kind.INPUT: _made(Kind.INPUT, *_input(domain)),
        Kind.TPM: _made(Kind.TPM, *_tpm(domain)),
        Kind.DISPLAY: _made(Kind.DISPLAY, *_display(domain)),
    }
    return found | passed


def profile(
    domain: DomainFacts, today: Mapping[Kind, Decision], os: str, functions: Mapping[str, PciFunction]
) -> Profile:
    """A profile that asks for what a definition has, and below each device for what travels."""
    tables = {kind.value: Device(prefer=_ladder(kind, today)) for kind in DEFAULT_LADDERS}
    nic = today[Kind.NIC]
    plugs = tuple(dict.fromkeys([str(nic.network), "user"])) if nic.network is not None else ()
    tables["nic"] = Device(prefer=_ladder(Kind.NIC, today), network=plugs)
    memory = min(domain.memory_mib or _LEAST_MIB, _MOST_MIB)
    return Profile(
        name=domain.name or "domain",
        guest=Guest(os=os, drivers=_drivers(domain, functions)),
        size=SizeOf(
            vcpus=min(max(domain.vcpus, 1), 1024),
            vcpus_min=1,
            memory=f"{memory} MiB",
            memory_min=values.format_mib(min(memory, _LEAST_MIB)),
            hugepages=domain.hugepages,
        ),
        devices=Devices(**tables),
    )


def with_a_screen(profile: Profile, today: Mapping[Kind, Decision]) -> Profile:
    """A profile for where the graphics card that shows a guest's screen stays behind: of another nobody sees it."""
    handed_over = Kind.GPU in today and today[Kind.GPU].strategy in (*HOST_DEVICES, _S.MDEV)
    if not handed_over or Kind.DISPLAY not in today or today[Kind.DISPLAY].strategy is not _S.OMIT:
        return profile
    display = msgspec.structs.replace(profile.devices.display, prefer=_BELOW[Kind.DISPLAY])
    return msgspec.structs.replace(profile, devices=msgspec.structs.replace(profile.devices, display=display))


def _ladder(kind: Kind, today: Mapping[Kind, Decision]) -> tuple[Strategy, ...]:
    now = today[kind].strategy
    if now is _S.OMIT:
        return (_S.OMIT,)
    if kind is Kind.FIRMWARE:
        return (now, _S.UEFI) if now is _S.UEFI_SECURE_BOOT else (now,)
    return tuple(dict.fromkeys([now, *(s for s in _BELOW[kind] if s in STRATEGIES[kind])]))


def _drivers(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> tuple[Driver, ...]:
    """The drivers that a guest must have by what it has now."""
    virtio = (
        any(d.bus == "virtio" for d in domain.disks)
        or any((n.model or "").startswith("virtio") for n in domain.nics)
        or any(v.model == "virtio" for v in domain.video)
    )
    cards = (functions.get(d.address or "") for d in domain.host_devices)
    vendors = {f.vendor_id for f in cards if f is not None and f.base_class.startswith("03")}
    found: list[Driver] = ["virtio"] if virtio else []
    found += [driver for vendor, driver in DRIVER_OF.items() if vendor in vendors]
    return tuple(found)


def _made(kind: Kind, strategy: Strategy, model: str, backing: str) -> Decision:
    return Decision(
        kind=kind, name=f"{kind}0", strategy=strategy, device=None, functions=(), model=model, backing=backing,
        why="so its definition says", rejected=(),
    )  # fmt: skip


def _passed(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> Iterator[tuple[Kind, Decision]]:
    """Devices of the host, the first of each kind; what belongs to a graphics card goes with it."""
    seen: set[Kind] = set()
    for device in domain.host_devices:
        if device.address is not None:
            kind = kind_of(functions.get(device.address), device, domain)
            if kind is None or kind in seen or goes_with_a_card(device, domain, functions):
                continue
            seen.add(kind)
            function = functions.get(device.address)
            virtual = device.interface or (function is not None and function.physfn is not None)
            label = function.label if function is not None else device.address
            made = _made(kind, _S.VF if virtual else _S.PASSTHROUGH, "the device itself", f"{label} ({device.address})")
            yield kind, made
        elif device.type == "mdev" and Kind.GPU not in seen:
            seen.add(Kind.GPU)
            yield Kind.GPU, _made(Kind.GPU, _S.MDEV, "a mediated device", device.source or "")


def _cpu(domain: DomainFacts) -> tuple[Strategy, str, str]:
    cpu = domain.cpu
    name = (cpu.model or cpu.mode) if cpu is not None else "QEMU's default"
    if domain.type == "kvm":
        return _S.HARDWARE_VIRTUALIZATION, name, "KVM"
    return _S.BINARY_TRANSLATION, name, "QEMU's TCG"


def _firmware(domain: DomainFacts) -> tuple[Strategy, str, str]:
    if not domain.firmware.uefi:
        return _S.BIOS, "SeaBIOS", "QEMU"
    return (_S.UEFI_SECURE_BOOT if domain.firmware.secure_boot else _S.UEFI), "OVMF", "QEMU"


def _gpu(domain: DomainFacts) -> tuple[Strategy, str, str]:
    if not domain.video:
        return _S.OMIT, "none", "nothing"
    video = domain.video[0]
    if video.model != "virtio":
        return _S.EMULATED, video.model or UNNAMED, "QEMU"
    drawn = video.accel3d or any(g.gl for g in domain.graphics)
    return (_S.PARAVIRTUAL_3D if drawn else _S.PARAVIRTUAL), "virtio", "QEMU"


def _nic(domain: DomainFacts) -> Decision:
    if not domain.nics:
        return _made(Kind.NIC, _S.OMIT, "none", "nothing")
    nic = domain.nics[0]
    model, plug = nic.model or "rtl8139", plug_of(nic)  # libvirt's default for x86 where none is named
    strategy = _S.PARAVIRTUAL if model.startswith("virtio") else _S.EMULATED
    made = _made(Kind.NIC, strategy, "virtio" if strategy is _S.PARAVIRTUAL else model, str(plug or nic.type))
    return msgspec.structs.replace(made, network=plug if plug is not None and plug.type != "user" else None)


def _disk(domain: DomainFacts) -> tuple[Strategy, str, str]:
    disks = domain.writable
    if not disks:
        return _S.OMIT, "none", "nothing"
    first = disks[0]
    scsi = first.bus == "scsi" and any(c.startswith("scsi virtio") for c in domain.controllers)
    backing = next((d.source for d in disks if d.source and d.source.startswith("/dev/")), "a disk image")
    if first.bus == "virtio" or scsi:
        return _S.PARAVIRTUAL, "virtio-scsi" if scsi else "virtio", backing
    return _S.EMULATED, first.bus or "sata", backing


def _audio(domain: DomainFacts) -> tuple[Strategy, str, str]:
    if not domain.sounds:
        return _S.OMIT, "none", "nothing"
    model = domain.sounds[0]
    return (_S.PARAVIRTUAL if model == "virtio" else _S.EMULATED), model, "the display's sound"


def _usb(domain: DomainFacts) -> tuple[Strategy, str, str]:
    models = [c.partition(" ")[2] for c in domain.controllers if c.startswith("usb")]
    if "none" in models:
        return _S.OMIT, "none", "nothing"
    return _S.EMULATED, models[0] if models and models[0] else "qemu-xhci", "QEMU"


def _input(domain: DomainFacts) -> tuple[Strategy, str, str]:
    if any(i.endswith(" virtio") for i in domain.inputs):
        return _S.PARAVIRTUAL, "virtio", "the display"
    tablet = "tablet usb" in domain.inputs
    return _S.EMULATED, "usb-tablet" if tablet else "ps2", "the display"


def _tpm(domain: DomainFacts) -> tuple[Strategy, str, str]:
    if domain.tpm is None:
        return _S.OMIT, "none", "nothing"
    if domain.tpm.backend == "passthrough":
        return _S.PASSTHROUGH, domain.tpm.model or "tpm-tis", "the host's TPM"
    return _S.EMULATED, domain.tpm.model or "tpm-tis", "swtpm"


def _display(domain: DomainFacts) -> tuple[Strategy, str, str]:
    kinds = [g.type for g in domain.graphics if g.type != "egl-headless"]
    if not kinds:
        return _S.OMIT, "none", "nothing"
    return (_S.PARAVIRTUAL if "spice" in kinds else _S.EMULATED), "spice" if "spice" in kinds else kinds[0], "QEMU"

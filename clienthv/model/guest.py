"""What a guest's operating system has drivers for and needs: known, or None where nobody says."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Family = Literal["windows", "linux", "other"]
VirtioDevice = Literal["block", "scsi", "net", "gpu", "sound", "input"]
GENERIC: Final = frozenset({"unknown", "linux"})
"""Ids that name no operating system: there is nothing to look up."""


class Emulated(msgspec.Struct, frozen=True, kw_only=True):
    """The models that QEMU emulates for a guest; None where it has a driver for none."""

    machine: Literal["q35", "pc"] = "q35"
    disk: Literal["sata", "ide"] = "sata"
    gpu: str = "vga"
    nic: str = "e1000e"
    audio: str = "ich9"
    usb: str | None = "qemu-xhci"
    tablet: bool = True
    acpi: bool = True


class GuestOs(msgspec.Struct, frozen=True, kw_only=True):
    """One operating system. ``found`` is whether osinfo-db has it; None where nobody looked.

    ``virtio`` are the virtio devices it has drivers for as it comes from the box. ``no_gpu`` means that no vendor of
    today's graphics cards has a driver for it. Sizes are in MiB.
    """

    id: str
    family: Family = "other"
    found: bool | None = None
    virtio: frozenset[VirtioDevice] = frozenset()
    emulated: Emulated = Emulated()
    bios: bool | None = None
    uefi: bool | None = None
    secure_boot: bool | None = None
    needs_secure_boot: bool = False
    needs_tpm: bool = False
    no_gpu: bool = False
    min_vcpus: int | None = None
    min_memory_mib: int | None = None
    max_vcpus: int | None = None
    max_memory_mib: int | None = None


# Cirrus: "All Windows versions starting from Windows 95 should recognize and use this graphic card" (QEMU manual,
# -vga). The other models are those whose drivers came with the systems: RTL8029 and Sound Blaster 16 with Windows
# 95 to Me (as the v86 project's guide to Windows 9x in QEMU has them, ACPI off too), PCnet with NT 4.0, RTL8139 and
# AC'97 with 2000 and XP. AHCI, HDA and EHCI came with Vista, the 82574L (e1000e) with 7, xHCI with 8 (osinfo-db).
_9X: Final = Emulated(
    machine="pc", disk="ide", gpu="cirrus", nic="ne2k_pci", audio="sb16", usb=None, tablet=False, acpi=False
)
_98: Final = msgspec.structs.replace(_9X, usb="piix3-uhci")
_NT: Final = msgspec.structs.replace(_9X, nic="pcnet", acpi=True)
_2000: Final = Emulated(machine="pc", disk="ide", gpu="cirrus", nic="rtl8139", audio="ac97", usb="piix3-uhci")
_XP: Final = msgspec.structs.replace(_2000, usb="ich9-ehci1")
_VISTA: Final = Emulated(nic="e1000", usb="ich9-ehci1")
_7: Final = Emulated(usb="ich9-ehci1")

_ERAS: Final[tuple[tuple[str, Emulated], ...]] = (
    ("msdos", _9X), ("win1.0", _9X), ("win2.", _9X), ("win3.", _9X), ("win95", _9X), ("win98", _98), ("winme", _98),
    ("winnt", _NT), ("win2k3", _XP), ("win2k8r2", _7), ("win2k8", _VISTA), ("win2k1", Emulated()),
    ("win2k2", Emulated()), ("win2k", _2000), ("winxp", _XP), ("winvista", _VISTA), ("win7", _7), ("win", Emulated()),
)  # fmt: skip
"""By the beginning of an id, the first that fits."""

_LINUX: Final = (
    "linux", "alma", "alpine", "alt", "arch", "cent", "debian", "elementary", "eos", "fedora", "gentoo", "mageia",
    "manjaro", "nixos", "ol", "opensuse", "pop", "rhel", "rocky", "silverblue", "slackware", "sle", "trisquel",
    "ubuntu", "void",
)  # fmt: skip


def built_in(os: str) -> GuestOs:
    """What the beginning of an id alone tells: the family, and for Windows what it boots with and can drive."""
    era = next((devices for prefix, devices in _ERAS if os.startswith(prefix)), None)
    if era is None:
        return GuestOs(id=os, family="linux" if os.startswith(_LINUX) else "other")
    old = era.machine == "pc"
    dos_based = era in (_9X, _98)
    # Windows 11: "UEFI, Secure Boot capable" and "TPM version 2.0" (Microsoft, Windows 11 system requirements).
    eleven = os.startswith("win11")
    return GuestOs(
        id=os,
        family="windows",
        emulated=era,
        bios=not eleven,
        # x64 Windows boots by UEFI from Vista SP1 on; Secure Boot came with 8 (Microsoft, Windows hardware docs).
        uefi=not old,
        secure_boot=not old and era not in (_VISTA, _7),
        needs_secure_boot=eleven,
        needs_tpm=eleven,
        no_gpu=dos_based or era is _NT,
        # Windows 95 to Me use one processor, and fail with more than 512 MiB (Microsoft KB 253912).
        max_vcpus=1 if dos_based else None,
        max_memory_mib=512 if dos_based else None,
    )

"""What starts an image, by which firmware, and what state its file systems are in: from a few sectors."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from clienthv.images.seen import Disk, FileSystem, Seen
from clienthv.model.contents import Answer

_BIOS_BOOT: Final = "21686148-6449-6E6F-744E-656564454649"
_BOOT_CODE: Final = 440  # bytes before the disk's signature (UEFI Specification, Legacy MBR)
_SIGNATURE: Final = b"\x55\xaa"
_FALLBACK: Final = "efi/boot/boot"
_EXT_MAGIC: Final = 0xEF53
_EXT_RECOVER: Final = 0x4
_NTFS_DIRTY: Final = 0x1
_VOLUME_INFORMATION: Final = 0x70


class Boot(NamedTuple):
    """By which firmware an image starts, as far as boot loaders tell, and what was looked at.

    ``fallback`` is whether UEFI finds a loader without a boot entry in its variables.
    """

    bios: Answer
    uefi: Answer
    fallback: Answer
    evidence: tuple[str, ...]


def boot_of(seen: Seen) -> Boot:
    """What boot loaders an image has."""
    bios, why = _bios(seen.disk)
    loaders = [f"{f.device}: {name}" for f in seen.file_systems for name in f.loaders if name.lower().endswith(".efi")]
    fallback = any(name.partition(": ")[2].lower().startswith(_FALLBACK) for name in loaders)
    shown = ", ".join(loaders[:4]) + (f" and {len(loaders) - 4} more" if len(loaders) > 4 else "")
    efi = f"UEFI: {shown}" if loaders else "UEFI: no FAT file system has a loader below EFI"
    return Boot(bios, bool(loaders), fallback if loaders else None, (why, efi))


def _bios(disk: Disk) -> tuple[Answer, str]:
    """Whether a BIOS finds boot code that goes on somewhere, and by what sign."""
    first = bytes.fromhex(disk.first)
    if len(first) < 512:
        return None, "BIOS: the first sector could not be read"
    if first[510:512] != _SIGNATURE:
        return False, "BIOS: the first sector is not a boot sector"
    if not first[:_BOOT_CODE].strip(b"\0"):
        return False, "BIOS: the first sector has no boot code"
    if b"GRUB" in first[:_BOOT_CODE]:
        return _grub(disk, first)
    active = [p for p in disk.partitions if p.active]
    if disk.table is None:
        return True, "BIOS: boot code in the first sector of a disk without partitions"
    starting = [p for p in active if _starts(bytes.fromhex(p.start))]
    if starting:
        return (
            True,
            f"BIOS: boot code in the first sector and in that of partition {starting[0].number}, which is active",
        )
    which = f"partition {active[0].number}, which is active, has none" if active else "no partition is active"
    return False, f"BIOS: boot code in the first sector, but {which}"


def _grub(disk: Disk, first: bytes) -> tuple[Answer, str]:
    """GRUB's first stage loads the second from the BIOS boot partition, or from the sectors before the first one."""
    if disk.table == "gpt":
        core = next((p for p in disk.partitions if p.type.upper() == _BIOS_BOOT), None)
        if core is None:
            return None, "BIOS: GRUB in the first sector; where its second stage is nobody could tell"
        there = bool(bytes.fromhex(core.start).strip(b"\0"))
        return (
            there,
            f"BIOS: GRUB in the first sector, its second stage {'in' if there else 'not in'} the BIOS boot partition",
        )
    there = bool(first[512:1024].strip(b"\0"))
    return there, f"BIOS: GRUB in the first sector, {'and' if there else 'nothing'} in the one after it"


def _starts(sector: bytes) -> bool:
    """Whether a partition's first sector is a boot sector: a jump, something behind it, and the signature."""
    return len(sector) == 512 and sector[0] in (0xEB, 0xE9, 0xFA, 0x33) and sector[510:512] == _SIGNATURE


def encrypted(seen: Seen) -> tuple[str, ...]:
    """What is encrypted, by device."""
    kinds = {"crypto_LUKS": "LUKS", "BitLocker": "BitLocker"}
    return tuple(f"{f.device} ({kinds[f.type]})" for f in seen.of_type(*kinds))


def dirty(seen: Seen) -> tuple[str, ...] | None:
    """The file systems that were not unmounted cleanly; None where nobody could tell of any."""
    states = {f: _dirty(f) for f in seen.file_systems}
    found = tuple(f"{f.device} ({f.type})" for f, is_so in states.items() if is_so)
    return found if found or any(s is not None for s in states.values()) else None


def _dirty(one: FileSystem) -> Answer:
    state = bytes.fromhex(one.state)
    if one.type.startswith("ext"):
        return _ext_dirty(state)
    return _ntfs_dirty(bytes.fromhex(one.record)) if one.type == "ntfs" else None


def _ext_dirty(block: bytes) -> Answer:
    """The feature needs_recovery of an ext superblock (Linux, Documentation/filesystems/ext4/super.rst)."""
    if len(block) < 0x64 or struct.unpack_from("<H", block, 0x38)[0] != _EXT_MAGIC:
        return None
    return bool(struct.unpack_from("<I", block, 0x60)[0] & _EXT_RECOVER)


def _ntfs_dirty(record: bytes) -> Answer:
    """The dirty flag of NTFS's $Volume, in its attribute $VOLUME_INFORMATION (Linux, fs/ntfs3/ntfs.h)."""
    if len(record) < 1024 or record[:4] != b"FILE":
        return None
    at = struct.unpack_from("<H", record, 0x14)[0]
    while at + 24 <= 510:  # what lies behind has sector tails replaced
        kind, length = struct.unpack_from("<II", record, at)
        if kind == _VOLUME_INFORMATION:
            value = at + struct.unpack_from("<H", record, at + 0x14)[0]
            return bool(struct.unpack_from("<H", record, value + 10)[0] & _NTFS_DIRTY) if value + 12 <= 510 else None
        if length < 24:
            return None
        at += length
    return None


def hibernated(seen: Seen) -> tuple[str, ...] | None:
    """What holds a system that was put to sleep on disk: swap by its signature, Windows by hiberfil.sys.

    The sources are Linux, kernel/power/swap.c (S1SUSPEND), and ntfs-3g, libntfs-3g/volume.c ("hibr").
    """
    swaps = seen.of_type("swap", "swsuspend")
    found = [f.device for f in swaps if f.type == "swsuspend" or bytes.fromhex(f.state).startswith(b"S1SUSPEND")]
    head = bytes.fromhex(seen.windows.hibernation or "") if seen.windows else b""
    if head.lower() == b"hibr":
        found.append("Windows (hiberfil.sys)")
    return tuple(found) if found or seen.roots else None

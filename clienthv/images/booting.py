"""What starts an image, by which firmware, and what state its file systems are in: from a few sectors."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from clienthv.images.seen import Disk, FileSystem, Seen
from clienthv.model.contents import Answer

_BIOS_BOOT: Final = "21686148-6449-6E6F-744E-656564454649"
_XBOOTLDR: Final = "BC13C2FF-59E6-4262-A352-B275FD6F7172"  # UAPI Group, Boot Loader Specification
_BOOT_CODE: Final = 440  # bytes before the disk's signature (UEFI Specification, Legacy MBR)
_SIGNATURE: Final = b"\x55\xaa"
_FALLBACK: Final = "efi/boot/boot"
_EXT_MAGIC: Final = 0xEF53
_EXT_RECOVER: Final = 0x4
_LILO_AT: Final = 6  # LILO, first.S: its signature
_NTFS_DIRTY: Final = 0x1
_BTRFS_MAGIC: Final = b"_BHRfS_M"
_UNTOLD: Final = ("xfs", "f2fs", "jfs", "reiserfs", "nilfs2", "hfsplus", "ufs", "zfs_member")
"""File systems whose state is not read here."""
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
    loaders = [f"{f.device}: {n}" for f in seen.file_systems for n in f.loaders or () if n.lower().endswith(".efi")]
    unread = [f.device for f in seen.of_type("vfat") if f.loaders is None]
    fallback = any(name.partition(": ")[2].lower().startswith(_FALLBACK) for name in loaders)
    shown = ", ".join(loaders[:4]) + (f" and {len(loaders) - 4} more" if len(loaders) > 4 else "")
    efi = f"UEFI: {shown}" if loaders else "UEFI: no FAT file system has a loader below EFI"
    if unread and not loaders:
        efi = f"UEFI: the FAT file system on {unread[0]} could not be read"
    return Boot(bios, True if loaders else None if unread else False, fallback if loaders else None, (why, efi))


def unseen(seen: Seen) -> str | None:
    """Where kernels of an installed Linux may be that were not looked at; None where there is no such place.

    A kernel on a FAT file system that is not mounted at /boot is started by what the Boot Loader Specification says.
    """
    told = [line.split() for line in seen.files.get("/etc/fstab", "").splitlines()]
    wanted = {"/", *(words[1].rstrip("/") for words in told if len(words) > 1 and not words[0].startswith("#"))}
    missing = next((p for p in ("/", "/boot") if p in wanted and p not in seen.mounted), None)
    if missing is not None:
        return f"what fstab mounts at {missing} was not found"
    for system in seen.of_type("vfat"):
        if system.loaders is None:
            return f"the FAT file system on {system.device} could not be read"
        if system.kernels:
            return f"{system.kernels[0]} on {system.device} was not looked into"
    apart = any(p.type.upper() == _XBOOTLDR for p in seen.disk.partitions) and "/boot" not in seen.mounted
    return "the partition for boot loaders (XBOOTLDR) was not looked into" if apart else None


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
    if first[_LILO_AT : _LILO_AT + 4] == b"LILO":
        return None, "BIOS: LILO in the first sector; where its second stage is nobody could tell"
    if disk.table is None or not disk.partitions:
        return True, "BIOS: boot code in the first sector of a disk without partitions"
    if disk.table == "gpt":
        return None, "BIOS: boot code in the first sector; what it starts on a GPT disk nobody could tell"
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
    """The file systems that were not unmounted cleanly; None where none is known to be, and not of all could be told.

    The subvolumes of a btrfs have no state of their own.
    """
    kept = [f for f in seen.file_systems if not f.device.startswith("btrfsvol:")]
    states = {f: _dirty(f) for f in kept if f.type.startswith("ext") or f.type in ("ntfs", "btrfs", *_UNTOLD)}
    found = tuple(f"{f.device} ({f.type})" for f, is_so in states.items() if is_so)
    told = states and all(s is not None for s in states.values()) and not encrypted(seen)
    return found if found or told else None


def _dirty(one: FileSystem) -> Answer:
    state = bytes.fromhex(one.state)
    if one.type.startswith("ext"):
        return _ext_dirty(state)
    if one.type == "btrfs":
        return _btrfs_dirty(state)
    return _ntfs_dirty(bytes.fromhex(one.record)) if one.type == "ntfs" else None


def _btrfs_dirty(block: bytes) -> Answer:
    """Whether a btrfs superblock names a log that is still to be replayed (Linux, include/uapi/linux/btrfs_tree.h)."""
    if len(block) < 0x68 or block[0x40:0x48] != _BTRFS_MAGIC:
        return None
    return bool(struct.unpack_from("<Q", block, 0x60)[0])


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

    None where none is known to, and something could not be read. The sources are Linux, kernel/power/swap.c
    (S1SUSPEND), and ntfs-3g, libntfs-3g/volume.c ("hibr").
    """
    swaps, windows = seen.of_type("swap", "swsuspend"), seen.of_type("ntfs")
    found = [f.device for f in swaps if f.type == "swsuspend" or bytes.fromhex(f.state).startswith(b"S1SUSPEND")]
    asleep = [f.device for f in windows if bytes.fromhex(f.hibernation or "").lower() == b"hibr"]
    found += [f"Windows on {device} (hiberfil.sys)" for device in asleep]
    unread = any(not f.state for f in swaps) or any(f.hibernation is None for f in windows) or encrypted(seen)
    return tuple(found) if found or (seen.roots and not unread) else None

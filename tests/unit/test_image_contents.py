"""What is made of what was seen in an image: no process is started here."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from clienthv.images import appliance, contents, initramfs, kept
from clienthv.images.seen import Disk, FileSystem, Kernel, Partition, Root, Seen, Service, Windows
from clienthv.model.contents import SCHEMA, ImageContents

LINUX = Root("/dev/sda1", "linux", "debian", "Debian GNU/Linux 13", "x86_64", "debian13", 13, 0)
WINDOWS = Root("/dev/sda2", "windows", "windows", "Windows 10 Pro", "x86_64", "win10", 10, 0)
EXTLINUX = Disk("msdos", (b"\x33\xc0" + bytes(508) + b"\x55\xaa").ljust(1024, b"\0").hex(), ())
VIRTIO = ("virtio_pci.ko", "virtio_blk.ko.xz", "virtio-scsi.ko.zst", "sd_mod.ko.gz", "ahci.ko", "ata_piix.ko")


def sector(code: bytes, behind: bytes = b"") -> str:
    """A first sector with boot code, and the one after it."""
    return ((code.ljust(510, b"\0") + b"\x55\xaa") + behind.ljust(512, b"\0")).hex()


def active() -> Partition:
    return Partition(1, "131", active=True, start=(b"\xeb\x58\x90".ljust(510, b"\0") + b"\x55\xaa").hex())


def cpio(*names: str, size: int = 5) -> bytes:
    """A cpio archive in the format newc."""
    out = b""
    for name in (*names, "TRAILER!!!"):
        length = 0 if name == "TRAILER!!!" else size
        fields = (0, 0o100644, 0, 0, 1, 0, length, 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + "".join(f"{f:08X}" for f in fields).encode() + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + b"x" * length + bytes(-length % 4)
    return out


def of(data: bytes) -> frozenset[str]:
    return initramfs.modules(io.BytesIO(data))


def kernel(version: str = "6.12", copy: str | None = "initrd-0", **more: Any) -> Kernel:
    values: dict[str, Any] = {
        "path": f"/boot/vmlinuz-{version}",
        "version": version,
        "initrd": f"/boot/initrd.img-{version}" if copy else None,
        "copy": copy,
        "built_in": ("kernel/drivers/nvme/host/nvme.ko",),
        "modules": ("kernel/drivers/net/virtio_net.ko", "kernel/drivers/gpu/drm/i915/i915.ko.xz"),
    }
    return Kernel(**{**values, **more})


def seen(root: Root | None = LINUX, disk: Disk | None = None, **more: Any) -> Seen:
    started = Disk("msdos", sector(b"\x33\xc0"), (active(),))
    values: dict[str, Any] = {"file_systems": (), "notes": (), **more}
    return Seen(disk=disk or started, roots=(root,) if root else (), **values)


def linux(folder: Path, packed: bytes | None = None, **more: Any) -> ImageContents:
    """What a Linux is whose only kernel has this initial RAM disk."""
    (folder / "initrd-0").write_bytes(cpio(*(f"lib/modules/6.12/{n}" for n in VIRTIO)) if packed is None else packed)
    values: dict[str, Any] = {"kernels": (kernel(),), "files": {}, "present": ("/boot/grub/grub.cfg",), **more}
    return contents.contents_of(seen(**values), folder)


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
        zstandard.ZstdCompressor().compress,
    ],
)
def test_modules_are_found_in_every_packing_after_an_archive_with_microcode(pack: Callable[[bytes], bytes]) -> None:
    microcode = cpio("kernel/x86/microcode/AuthenticAMD.bin", size=5001).ljust(8192, b"\0")
    packed = pack(cpio("init", "lib/modules/6.1/kernel/virtio-blk.ko.zst").ljust(4096, b"\0") + cpio("nvme.ko"))
    assert of(microcode + packed + bytes(512)) == {"virtio_blk", "nvme"}


def test_what_is_no_initial_ram_disk_is_unreadable() -> None:
    whole = cpio("virtio_blk.ko", size=4000)
    for data in (
        b"\x02\x21\x4c\x18" + bytes(100),
        b"#!/bin/sh\n",
        whole[:200],
        whole[:3000],
        gzip.compress(whole)[:-30],
        gzip.compress(whole[:3000]),
        b"\x28\xb5\x2f\xfd" + bytes(40),
        whole.replace(b"070701", b"07070X"),
    ):
        with pytest.raises(initramfs.UnreadableError):
            of(data)
    assert of(b"") == of(bytes(4096)) == frozenset()


def test_a_small_file_that_unpacks_to_a_huge_one_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "_MOST", 32 << 20)
    bomb = zstandard.ZstdCompressor().compress(cpio("big", size=64 << 20))
    assert len(bomb) < 64 << 10
    with pytest.raises(initramfs.UnreadableError, match="larger"):
        of(bomb)


def test_a_driver_counts_when_every_kernel_has_it(tmp_path: Path) -> None:
    (tmp_path / "initrd-1").write_bytes(cpio("ahci.ko", "sd_mod.ko"))
    found = linux(tmp_path, kernels=(kernel(), kernel("6.1", "initrd-1")))
    answers = {d.driver: d.bootable for d in found.boot_drivers}
    assert answers == {"virtio-blk": False, "virtio-scsi": False, "ahci": True, "ide": False, "nvme": True}
    evidence = next(d.evidence for d in found.boot_drivers if d.driver == "virtio-blk")
    assert evidence == "kernel 6.1 lacks virtio_blk, virtio_pci (/boot/initrd.img-6.1)"


def test_what_cannot_be_read_is_unknown_and_not_missing(tmp_path: Path) -> None:
    found = linux(tmp_path, b"\x02\x21\x4c\x18" + bytes(100))
    assert {d.bootable for d in found.boot_drivers} == {None}
    assert "lz4" in found.boot_drivers[0].evidence
    assert {d.bootable for d in linux(tmp_path, kernels=(kernel(copy=None, initrd="/boot/i"),)).boot_drivers} == {None}
    assert linux(tmp_path, kernels=(kernel(modules=None),)).network_drivers is None
    without = linux(tmp_path, kernels=(kernel(copy=None),))
    assert {d.driver for d in without.boot_drivers if d.bootable} == {"nvme"}, "what is built in is there"


def test_gpu_drivers_are_those_that_a_vendor_brought(tmp_path: Path) -> None:
    assert linux(tmp_path).gpu_drivers == ()
    own = kernel(modules=("updates/dkms/nvidia-drm.ko.xz", "kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko"))
    assert linux(tmp_path, kernels=(own,)).gpu_drivers == ("nvidia",)
    library = ("/usr/lib64/libGLX_nvidia.so.0",)
    assert linux(tmp_path, present=library).gpu_drivers == ("nvidia",)


@pytest.mark.parametrize(
    ("disk", "bios"),
    [
        (Disk("msdos", sector(b"\x33\xc0"), (active(),)), True),
        (Disk("msdos", sector(b"\x33\xc0"), (Partition(1, "131", active=False, start=""),)), False),
        (Disk("msdos", sector(b"\x33\xc0"), (Partition(1, "131", active=True, start="00" * 512),)), False),
        (Disk("msdos", sector(b""), (active(),)), False),
        (Disk("msdos", "00" * 1024, ()), False),
        (Disk("msdos", sector(b"\xeb\x63GRUB ", b"core"), ()), True),
        (Disk("msdos", sector(b"\xeb\x63GRUB "), ()), False),
        (Disk("gpt", sector(b"\xeb\x63GRUB "), ()), None),
        (Disk("gpt", sector(b"GRUB "), (Partition(1, "21686148-6449-6E6F-744E-656564454649", False, "52e8"),)), True),
        (Disk("gpt", sector(b"GRUB "), (Partition(1, "21686148-6449-6e6f-744e-656564454649", False, "0000"),)), False),
        (Disk(None, "", ()), None),
        (Disk("msdos", sector(b"\xeb\x58\x90"), ()), True),
        (Disk("msdos", sector(b"\xfa\xeb\x21\1\xb4\1LILO"), (Partition(1, "131", False, ""),)), None),
        (Disk("gpt", sector(b"\x33\xc0"), (active(),)), None),
    ],
)  # fmt: skip
def test_boot_code_of_a_bios_has_to_lead_somewhere(tmp_path: Path, disk: Disk, bios: bool | None) -> None:
    found = linux(tmp_path, disk=disk)
    assert (found.bios, found.uefi, found.bootable) == (bios, False, bios), found.evidence


def test_uefi_without_the_fallback_loader_hangs_on_a_boot_entry(tmp_path: Path) -> None:
    def esp(*names: str) -> tuple[FileSystem, ...]:
        return (FileSystem("/dev/sda1", "vfat", "", "", names),)

    empty = Disk("gpt", "00" * 1024, ())
    own = linux(tmp_path, disk=empty, file_systems=esp("EFI/debian/grubx64.efi"))
    assert (own.bootable, own.uefi, own.bios) == (True, True, False)
    assert any("boot entry" in tie for tie in own.tied_to)
    both = linux(tmp_path, disk=empty, file_systems=esp("EFI/debian/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"))
    assert (both.uefi, both.tied_to) == (True, ())
    nothing = linux(tmp_path, disk=empty, file_systems=esp("EFI/debian/grub.cfg"))
    assert (nothing.bootable, nothing.uefi) == (False, False)


def test_without_a_kernel_or_a_configuration_it_is_not_said_to_start(tmp_path: Path) -> None:
    assert linux(tmp_path, kernels=()).bootable is False
    assert linux(tmp_path, present=()).bootable is None
    unified = FileSystem("/dev/sda1", "vfat", "", "", ("EFI/BOOT/BOOTX64.EFI", "EFI/Linux/arch.efi"))
    assert linux(tmp_path, kernels=(), present=(), file_systems=(unified,)).bootable is True


FSTAB = "# /boot was on /dev/sda1\nUUID=1 / ext4 defaults 0 1\nLABEL=gone\t/boot/ ext4 defaults 0 2\n"
XBOOTLDR = Partition(2, "bc13c2ff-59e6-4262-a352-b275fd6f7172", active=False, start="")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"files": {"/etc/fstab": FSTAB}}, "what fstab mounts at /boot was not found"),
        ({"mounted": ()}, "what fstab mounts at / was not found"),
        (
            {"file_systems": (FileSystem("/dev/sda1", "vfat", "", "", None),)},
            "elsewhere: the FAT file system on /dev/sda1",
        ),
        ({"file_systems": (FileSystem("/dev/sda1", "vfat", "", "", (), ("0123/6.12/linux",)),)}, "0123/6.12/linux on"),
        ({"disk": Disk("gpt", EXTLINUX.first, (XBOOTLDR,))}, "XBOOTLDR"),
    ],
)
def test_a_kernel_that_may_be_where_nobody_looked_is_unknown_and_not_missing(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    found = linux(tmp_path, kernels=(), **more)
    assert (found.bootable, found.gpu_drivers) == (None, None)
    assert words in "; ".join(found.evidence)
    mounted = {**more, "mounted": ("/", "/boot"), "file_systems": ()}
    assert linux(tmp_path, kernels=(), **mounted).bootable is False
    assert words not in "; ".join(linux(tmp_path, **more).evidence), "there is a kernel in /boot"


def test_a_system_partition_that_cannot_be_read_may_have_a_loader(tmp_path: Path) -> None:
    systems = (FileSystem("/dev/sda1", "vfat", "", "", None),)
    found = linux(tmp_path, disk=Disk("gpt", "00" * 1024, ()), file_systems=systems)
    assert (found.bootable, found.uefi, found.bios) == (None, None, False)
    assert "UEFI: the FAT file system on /dev/sda1 could not be read" in found.evidence


TIES = {
    "/etc/udev/rules.d/70-persistent-net.rules": 'SUBSYSTEM=="net", ATTR{address}=="52:54:00:AA:BB:cc", NAME="eth0"',
    "/etc/systemd/network/10-lan.link": "[Match]\nMACAddress=52:54:00:00:00:01\n# 52:54:00:00:00:02\n",
    "/etc/systemd/network/20.network": "[Match]\nName=enp3s0\n",
    "/etc/systemd/network/30.network": "[Match]\nName=en*\n",
    "/etc/network/interfaces": "auto lo\niface lo inet loopback\nauto enp3s0\niface enp3s0 inet dhcp\n",
    "/etc/fstab": "UUID=1-2 / ext4 0 1\n/dev/sda2 none swap sw 0 0\n#/dev/sdb1 /old ext4\n/dev/mapper/a-b /c ext4\n",
    "/boot/grub/grub.cfg": "linux /vmlinuz root=/dev/nvme0n1p2 ro\n",
    "/etc/X11/xorg.conf.d/10.conf": 'Section "Device"\n Driver "nvidia"\n BusID "PCI:1:0:0"\n',
    "/etc/modprobe.d/vfio.conf": "options vfio-pci ids=10de:1b80,10de:10f0\noptions kvm ignore_msrs=1\n",
}


def test_what_is_bound_to_hardware_is_named_with_its_file(tmp_path: Path) -> None:
    assert linux(tmp_path, files=TIES).tied_to == (
        "/etc/udev/rules.d/70-persistent-net.rules binds a network interface to the MAC address 52:54:00:aa:bb:cc",
        "/etc/systemd/network/10-lan.link binds a network interface to the MAC address 52:54:00:00:00:01",
        "/etc/systemd/network/20.network names the network interface enp3s0",
        "/etc/network/interfaces names the network interface enp3s0",
        "/etc/fstab names a disk by its device name (/dev/sda2)",
        "/boot/grub/grub.cfg names a disk by its device name (/dev/nvme0n1p2)",
        "/etc/X11/xorg.conf.d/10.conf gives Xorg a GPU by its PCI address (PCI:1:0:0)",
        "/etc/X11/xorg.conf.d/10.conf gives Xorg the driver nvidia",
        "/etc/modprobe.d/vfio.conf gives vfio-pci devices by their ids (10de:1b80,10de:10f0)",
    )


@pytest.mark.parametrize("path", TIES)
@pytest.mark.parametrize("text", ["\n" * 65000, "options " + " " * 65000, "/dev/sd" + "a" * 65000, "iface a\n" * 8000])
def test_a_file_made_to_be_slow_is_not(tmp_path: Path, path: str, text: str) -> None:
    began = time.process_time()
    linux(tmp_path, files={path: text})
    assert time.process_time() - began < 1


def ext(needs_recovery: bool) -> str:
    block = bytearray(1024)
    struct.pack_into("<H", block, 0x38, 0xEF53)
    struct.pack_into("<I", block, 0x60, 0x2C6 if needs_recovery else 0x2C2)
    return block.hex()


def ntfs(flags: int) -> str:
    record = bytearray(1024)
    struct.pack_into("<4s16xH", record, 0, b"FILE", 0x38)
    struct.pack_into("<II", record, 0x38, 0x10, 0x60)
    struct.pack_into("<II12xH", record, 0x98, 0x70, 0x28, 0x18)
    struct.pack_into("<8xBBH", record, 0x98 + 0x18, 3, 1, flags)
    return record.hex()


def test_states_of_file_systems(tmp_path: Path) -> None:
    systems = (
        FileSystem("/dev/sda1", "ext4", ext(needs_recovery=True), "", ()),
        FileSystem("/dev/sda2", "ext4", ext(needs_recovery=False), "", ()),
        FileSystem("/dev/sda3", "ntfs", "", ntfs(1), ()),
        FileSystem("/dev/sda4", "ntfs", "", ntfs(0), ()),
        FileSystem("/dev/sda5", "swap", b"S1SUSPEND\0".hex(), "", ()),
        FileSystem("/dev/sda6", "swap", b"SWAPSPACE2".hex(), "", ()),
        FileSystem("/dev/sda7", "swsuspend", "", "", ()),
        FileSystem("/dev/sda8", "btrfs", btrfs(log=30408704), "", ()),
        FileSystem("/dev/sda9", "btrfs", btrfs(log=0), "", ()),
        FileSystem("/dev/sda10", "ntfs", "", ntfs(0), (), hibernation=b"HIBR".hex()),
        FileSystem("/dev/sda11", "ntfs", "", ntfs(0), (), hibernation=b"wake".hex()),
    )
    found = linux(tmp_path, file_systems=systems)
    assert found.dirty == ("/dev/sda1 (ext4)", "/dev/sda3 (ntfs)", "/dev/sda8 (btrfs)")
    assert found.hibernated == ("/dev/sda5", "/dev/sda7", "Windows on /dev/sda10 (hiberfil.sys)")
    unknown = linux(tmp_path, file_systems=(FileSystem("/dev/sda1", "btrfs", "", "", ()),))
    assert (unknown.dirty, unknown.hibernated) == (None, ())
    damaged = ntfs(1).replace("70000000", "71000000")
    assert linux(tmp_path, file_systems=(FileSystem("/dev/sda1", "ntfs", "", damaged, ()),)).dirty is None


def btrfs(log: int) -> str:
    block = bytearray(512)
    struct.pack_into("<8s24xQ", block, 0x40, b"_BHRfS_M", log)
    return block.hex()


@pytest.mark.parametrize(
    ("more", "dirty", "hibernated"),
    [
        ((), (), ()),
        ((FileSystem("/dev/sda2", "vfat", "", "", ()), FileSystem("/dev/sda3", "unknown", "", "", ())), (), ()),
        ((FileSystem("btrfsvol:/dev/sda2/@", "btrfs", "", "", ()),), (), ()),
        ((FileSystem("/dev/sda2", "xfs", "", "", ()),), None, ()),
        ((FileSystem("/dev/sda2", "swap", "", "", ()),), (), None),
        ((FileSystem("/dev/sda2", "ntfs", "", ntfs(0), None),), (), None),
        ((FileSystem("/dev/sda2", "ntfs", "", ntfs(0), (), hibernation=""),), (), ()),
        ((FileSystem("/dev/sda2", "crypto_LUKS", "", "", ()),), None, None),
    ],
)
def test_no_state_is_said_to_be_good_while_another_could_not_be_read(
    tmp_path: Path, more: tuple[FileSystem, ...], dirty: object, hibernated: object
) -> None:
    clean = FileSystem("/dev/sda1", "ext4", ext(needs_recovery=False), "", ())
    found = linux(tmp_path, file_systems=(clean, *more))
    assert (found.dirty, found.hibernated) == (dirty, hibernated)


def windows(tmp_path: Path, services: dict[str, Service], **more: Any) -> ImageContents:
    values = {"file_systems": (FileSystem("/dev/sda1", "ntfs", "", ntfs(0), ("bootmgr", "Boot/BCD")),), **more}
    told = Windows(current=1, services=services)
    return contents.contents_of(seen(WINDOWS, windows=told, **values), tmp_path)


def test_a_service_of_windows_starts_at_boot_when_its_start_is_0_and_its_file_is_there(tmp_path: Path) -> None:
    file = "system32/drivers/x.sys"
    found = windows(
        tmp_path,
        {
            "viostor": Service(0, None, file, present=True),
            "vioscsi": Service(0, None, file, present=False),
            "storahci": Service(0, 3, file, present=True),
            "msahci": Service(0, None, file, present=True),
            "stornvme": Service(None, None, file, present=True),
            "intelide": Service(3, None, file, present=True),
            "nvlddmkm": Service(4, None, file, present=True),
            "amdkmdag": Service(3, None, file, present=True),
        },
    )
    answers = {d.driver: d.bootable for d in found.boot_drivers}
    assert answers == {"virtio-blk": True, "virtio-scsi": False, "ahci": True, "ide": False, "nvme": None}
    assert (found.gpu_drivers, found.network_drivers, found.guest_agent) == (("amd",), (), False)
    assert (found.bootable, found.bios, found.uefi) == (True, True, False)


def test_windows_needs_its_boot_manager(tmp_path: Path) -> None:
    nothing = windows(tmp_path, {}, file_systems=())
    assert (nothing.bootable, nothing.bios, nothing.uefi) == (False, False, False)
    names = ("EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Microsoft/Boot/BCD")
    esp = windows(tmp_path, {}, file_systems=(FileSystem("/dev/sda1", "vfat", "", "", names),))
    assert (esp.bootable, esp.uefi) == (True, True)
    closed = (FileSystem("/dev/sda1", "vfat", "", "", None), FileSystem("/dev/sda2", "ntfs", "", ntfs(0), None))
    nobody = windows(tmp_path, {}, file_systems=closed)
    assert (nobody.bootable, nobody.bios, nobody.uefi) == (None, None, None), "neither could be read"
    unread = contents.contents_of(seen(WINDOWS, windows=None), tmp_path)
    assert (unread.boot_drivers, unread.gpu_drivers, unread.guest_agent) == ((), None, None)


def test_nothing_recognised_and_an_encrypted_disk_are_problems_with_every_answer_none(tmp_path: Path) -> None:
    nothing = contents.contents_of(seen(None), tmp_path)
    assert nothing.problem == "no operating system was recognised in it"
    locked = contents.contents_of(
        seen(None, file_systems=(FileSystem("/dev/sda2", "BitLocker", "", "", ()),)), tmp_path
    )
    assert "encrypted (/dev/sda2 (BitLocker))" in (locked.problem or "")
    for found in (nothing, locked):
        assert msgspec.structs.replace(found, problem=None, evidence=()) == ImageContents()


def test_what_is_said_of_an_image_has_bounds() -> None:
    good = msgspec.to_builtins(seen())
    assert msgspec.convert(good, Seen) == seen()
    for change in (
        {"notes": ["x" * 401]},
        {"kernels": [msgspec.to_builtins(kernel(copy="../../etc/passwd"))]},
        {"disk": {"table": "msdos", "first": "zz", "partitions": []}},
        {"files": {"/etc/fstab": "x" * (65 << 10)}},
        {"roots": [msgspec.to_builtins(LINUX)] * 9},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**good, **change}, Seen)
    assert appliance.clean("a\x1b[31m\nb\u202e" + "x" * 500) == "a [31m b " + "x" * (200 - 9)


def qcow2(backing: int = 0, crypt: int = 0, features: int = 0, version: int = 3) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, 1 << 20, crypt).ljust(72, b"\0")
    return (head + struct.pack(">Q", features)).ljust(65536, b"\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (qcow2(backing=200), "leads to another file"),
        (qcow2(features=4), "leads to another file"),
        (qcow2(backing=200, version=2), "leads to another file"),
        (qcow2(crypt=2), "is encrypted"),
        (b"conectix", "is not a qcow2 image"),
    ],
)
def test_images_that_lead_elsewhere_are_not_opened(tmp_path: Path, data: bytes, words: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(data)
    found = contents.inspect(image, "qcow2", cache=None, say=lambda _: None)  # a process would fail the test
    assert words in (found.problem or "")


def test_what_is_no_file_is_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        assert contents.inspect(path, "raw", cache=tmp_path, say=lambda _: None).problem is not None


def test_what_was_found_is_kept_for_the_image_as_it_is(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "a" / "cache"
    image.write_bytes(bytes(1 << 20))
    name = kept.key(image, "raw")
    assert kept.recall(folder, name) is None
    found = ImageContents(os="debian13", bootable=True, evidence=("a",))
    assert kept.keep(folder, name, found)
    assert kept.recall(folder, name) == found
    assert contents.inspect(image, "raw", cache=folder, say=lambda _: None) == found
    assert [p.stat().st_mode & 0o777 for p in (folder, folder / f"{name}.json")] == [0o700, 0o600]
    assert [p.name for p in folder.iterdir()] == [f"{name}.json"]
    assert kept.key(image, "qcow2") != name
    status = image.stat()
    image.write_bytes(bytes(1 << 19) + b"x" + bytes((1 << 19) - 1))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = kept.key(image, "raw")
    assert changed != name, "its middle has changed, and the time of that was set back"
    image.write_bytes(bytes((1 << 20) - 1) + b"x")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert kept.key(image, "raw") not in (name, changed), "its end has changed"


def test_a_small_vm_that_an_interrupt_left_half_made_is_removed(tmp_path: Path) -> None:
    own = tmp_path / "appliance" / f".guestfs-{os.geteuid()}"
    for name in ("appliance.d", "appliance.d.abcdefgh"):
        (own / name).mkdir(parents=True)
    (own / "lock").touch()
    assert contents._appliance(tmp_path, tmp_path) == tmp_path / "appliance"
    assert {p.name for p in own.iterdir()} == {"appliance.d", "lock"}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff", b"[]", b'{"schema":%d}' % (SCHEMA + 1), b'{"bootable":"yes"}', b" " * (2 << 20) + b"{}"],
)
def test_a_damaged_cache_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "x.json").write_bytes(damage)
    assert kept.recall(tmp_path, "x") is None
    (tmp_path / "y.json").symlink_to(tmp_path / "x.json")
    assert kept.recall(tmp_path, "y") is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not kept.keep(tmp_path / "file", "x", ImageContents())

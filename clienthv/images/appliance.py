"""A program of its own: opens one disk image through libguestfs, and says what is in it as one JSON document.

It is run by ``process.guestfs`` as ``PYTHON -I appliance.py OVERLAY FOLDER``, imports nothing but the standard library
and guestfs, and judges nothing: ``clienthv.images`` does. OVERLAY is a qcow2 image over the one to look at, which QEMU
opens read-only, and nothing from it is run. libguestfs's own overlay (``readonly``) is not used: version 1.48 has QEMU
guess the format of what is in it, and a stranger's disk could lead to any file. Initial RAM disks are copied to FOLDER.
Lines before the document tell how far it is.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any, Final

NO_GUESTFS: Final = 64
"""The exit code that says: this Python has no libguestfs."""
_TEXT: Final = 64 << 10  # bytes of a configuration file
_LIST: Final = 2 << 20  # bytes of a list of modules
_INITRD: Final = 512 << 20
_KERNELS: Final = 12
_FILES: Final = 120
_NAMES: Final = 400
_REG_DWORD: Final = 4
_ENCRYPTED: Final = ("crypto_LUKS", "BitLocker")
_EMPTY: Final[dict[str, Any]] = {"state": "", "record": "", "loaders": [], "kernels": [], "hibernation": None}
_BTRFS_AT: Final = 64 << 10  # its superblock (Linux, fs/btrfs: BTRFS_SUPER_INFO_OFFSET)
_KERNEL_NAMES: Final = ("/boot/vmlinuz*", "/boot/vmlinux*", "/boot/kernel-*")
_INITRD_NAMES: Final = (
    "initrd.img-{}", "initramfs-{}.img", "initramfs-{}", "initrd-{}", "initrd-{}.img", "initramfs-genkernel-{}",
)  # fmt: skip
_ON_FAT: Final = ("vmlinuz", "linux", "bzimage")
_INTERESTING: Final = ("nvidia", "amdgpu", "i915", "virtio", "e1000", "igb", "8139")
_CONFIGURATION: Final = (
    "/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
    "/boot/loader/entries/*.conf", "/boot/extlinux/extlinux.conf", "/etc/network/interfaces",
    "/etc/network/interfaces.d/*", "/etc/X11/xorg.conf", "/etc/X11/xorg.conf.d/*.conf",
    "/etc/udev/rules.d/70-persistent-net.rules", "/etc/systemd/network/*.link", "/etc/systemd/network/*.network",
    "/etc/netplan/*.yaml", "/etc/NetworkManager/system-connections/*", "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/modprobe.d/*.conf", "/etc/initramfs-tools/conf.d/resume",
)  # fmt: skip
_PRESENT: Final = (
    "/boot/grub/i386-pc/core.img", "/boot/grub2/i386-pc/core.img", "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
    "/boot/extlinux/ldlinux.sys", "/boot/extlinux/extlinux.conf", "/usr/bin/cloud-init", "/usr/sbin/qemu-ga",
    "/usr/bin/qemu-ga", "/var/lib/dpkg/info/nvidia-driver.list", "/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0",
    "/usr/lib64/libGLX_nvidia.so.0", "/usr/lib/libGLX_nvidia.so.0",
)  # fmt: skip
_SERVICES: Final = (
    "viostor", "vioscsi", "storahci", "msahci", "stornvme", "intelide", "pciide", "atapi", "disk", "netkvm", "e1g60",
    "e1iexpress", "e1i65x64", "rtl8139", "rtl8023xp", "nvlddmkm", "amdkmdag", "amdkmdap", "amdwddmg", "igfx", "igfxn",
    "igfxnd", "qemu-ga", "cloudbase-init",
)  # fmt: skip


def tell(line: str) -> None:
    """One line of how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def clean(text: str, most: int = 200) -> str:
    """Words from the image, without control characters and not longer than ``most`` characters."""
    return "".join(c if c.isprintable() else " " for c in text[:most]).strip()


class Image:
    """A disk image that libguestfs has opened. What cannot be read is None, and noted."""

    def __init__(self, guestfs: Any, folder: Path) -> None:
        self.g = guestfs
        self.folder = folder
        self.notes: list[str] = []

    def ask(self, call: str, *arguments: Any, default: Any = None) -> Any:
        """What a call of libguestfs answers; the default where it fails, which is noted."""
        try:
            return getattr(self.g, call)(*arguments)
        except (RuntimeError, ValueError) as e:  # the latter for names that are not UTF-8
            if len(self.notes) < _NAMES:
                self.notes.append(clean(f"{call}: {e}"))
            return default

    def text(self, path: str, most: int) -> str | None:
        """The beginning of a file, as text."""
        parts: list[bytes] = []
        for at in range(0, most, _TEXT):
            part = self.ask("pread", path, _TEXT, at)
            if part is None:
                return None
            parts.append(part)
            if len(part) < _TEXT:
                break
        return b"".join(parts).decode("utf-8", "replace")

    def windows_file(self, path: str) -> str | None:
        """The real name of a file of Windows, which does not tell upper case from lower; None where it is not there."""
        real = self.ask("case_sensitive_path", path)
        return real if real and self.ask("is_file_opts", real, True, default=False) else None

    def hexed(self, call: str, name: str, count: int, offset: int) -> str:
        """Bytes of a device or file in hexadecimal digits; empty where they cannot be read."""
        data = self.ask(call, name, count, offset)
        return data.hex() if data else ""

    def glob(self, pattern: str) -> list[str]:
        """The ordinary files that a pattern matches, through links."""
        found = self.ask("glob_expand", pattern, default=[]) if "*" in pattern else [pattern]
        return [p for p in found[:_NAMES] if self.ask("is_file_opts", p, True, default=False)]


def disk(image: Image) -> dict[str, Any]:
    """The first disk's partition table and its first sectors."""
    partitions = []
    kind = image.ask("part_get_parttype", "/dev/sda")
    for part in image.ask("part_list", "/dev/sda", default=[])[:_NAMES] if kind else []:
        number = part["part_num"]
        gpt = kind == "gpt"
        partitions.append(
            {
                "number": number,
                "type": clean(str(image.ask("part_get_gpt_type" if gpt else "part_get_mbr_id", "/dev/sda", number))),
                "active": bool(image.ask("part_get_bootable", "/dev/sda", number, default=False)),
                "start": image.hexed("pread_device", "/dev/sda", 512, part["part_start"]),
            }
        )
    return {
        "table": kind if kind in ("gpt", "msdos") else None,
        "first": image.hexed("pread_device", "/dev/sda", 1024, 0),
        "partitions": partitions,
    }


def file_systems(image: Image) -> list[dict[str, Any]]:
    """Each file system with the bytes that say what state it is in: looked at before anything is mounted."""
    found = []
    for device, kind in list(image.ask("list_filesystems", default={}).items())[:_NAMES]:
        one: dict[str, Any] = {**_EMPTY, "device": clean(device), "type": clean(kind)}
        if kind.startswith("ext"):
            one["state"] = image.hexed("pread_device", device, 1024, 1024)
        elif kind in ("swap", "swsuspend"):
            one["state"] = image.hexed("pread_device", device, 10, 4086)
        elif kind == "ntfs":
            one["loaders"], one["hibernation"] = boot_managers(image, device)
            one["state"] = image.hexed("pread_device", device, 512, 0)
            at = ntfs_volume_record(bytes.fromhex(one["state"]))
            one["record"] = image.hexed("pread_device", device, 1024, at) if at else ""
        elif kind == "btrfs" and device.startswith("/dev/"):
            one["state"] = image.hexed("pread_device", device, 512, _BTRFS_AT)
        elif kind == "vfat":
            one["loaders"], one["kernels"] = efi_programs(image, device)
        found.append(one)
    devices = [*image.ask("list_devices", default=[]), *image.ask("list_partitions", default=[])]
    for device in [*devices, *image.ask("lvs", default=[])][:_NAMES]:
        if image.ask("vfs_type", device, default="") in _ENCRYPTED:  # list_filesystems leaves them out
            found.append({**_EMPTY, "device": clean(device), "type": image.ask("vfs_type", device)})
    return found[:_NAMES]


def ntfs_volume_record(sector: bytes) -> int:
    """Where NTFS keeps the record of $Volume, the fourth of its master file table; 0 where the sector is not its."""
    if len(sector) < 512 or sector[3:7] != b"NTFS":
        return 0
    sector_size, cluster = struct.unpack_from("<HB", sector, 11)
    (table,) = struct.unpack_from("<Q", sector, 48)
    (size,) = struct.unpack_from("<b", sector, 64)
    sectors = cluster if cluster <= 128 else 1 << (256 - cluster)  # above that, a power of two
    record = size * sectors * sector_size if size > 0 else 1 << min(-size, 16)
    at = int(table * sectors * sector_size + 3 * record)
    return at if 0 < at < 1 << 50 else 0


def efi_programs(image: Image, device: str) -> tuple[list[str] | None, list[str]]:
    """The programs below EFI of a FAT file system, None where it cannot be read; and the kernels that lie in it."""
    mounted = image.ask("mount_ro", device, "/", default=False) is not False
    found = image.ask("find", "/") if mounted else None
    image.ask("umount_all")
    if found is None:
        return None, []
    names = [n for n in found if n.lower().startswith("efi/") and n.lower().endswith((".efi", "/bcd"))]
    kernels = [n for n in found if n.lower().rpartition("/")[2].startswith(_ON_FAT)]
    return [clean(n) for n in names[:_NAMES]], [clean(n) for n in kernels[:_KERNELS]]


def boot_managers(image: Image, device: str) -> tuple[list[str] | None, str | None]:
    """What a BIOS starts Windows by, in an NTFS file system, and the head of its hiberfil.sys, empty where none is.

    Both are None where it cannot be read.
    """
    if image.ask("mount_ro", device, "/", default=False) is False:
        return None, None
    found = [name for name in ("bootmgr", "Boot/BCD") if image.windows_file(f"/{name}")]
    hibernation = image.windows_file("/hiberfil.sys")
    head = (image.hexed("pread", hibernation, 4, 0) or None) if hibernation else ""
    image.ask("umount_all")
    return found, head


def root(image: Image, device: str) -> dict[str, Any]:
    """What libguestfs recognises in an operating system's root file system."""
    one: dict[str, Any] = {"device": clean(device)}
    for key in ("type", "distro", "product_name", "arch", "osinfo", "major_version", "minor_version"):
        told = image.ask(f"inspect_get_{key}", device)
        one[key] = clean(told) if isinstance(told, str) else told
    return one


def mount(image: Image, device: str) -> list[str]:
    """Mount an operating system's file systems, read-only; where that worked."""
    points = image.ask("inspect_get_mountpoints", device, default={})
    ordered = sorted(points.items(), key=lambda pair: len(pair[0]))
    done = [point for point, source in ordered if image.ask("mount_ro", source, point, default=False) is not False]
    return [clean(point) for point in done[:_NAMES]]


def kernels(image: Image) -> list[dict[str, Any]]:
    """Every installed kernel: its version, its initial RAM disk copied out, and its modules."""
    found: dict[str, dict[str, Any]] = {}
    for path in [p for pattern in _KERNEL_NAMES for p in image.glob(pattern)]:
        real = image.ask("realpath", path, default=path)
        if real in found or len(found) == _KERNELS:
            continue
        version = kernel_version(image, real)
        folder = modules_folder(image, version) if version else None
        name = path.rpartition("/")[2].partition("-")[2]
        initrd = find_initrd(image, [name, version or ""])
        listed = image.text(f"{folder}/modules.dep", _LIST) if folder else None
        built_in = image.text(f"{folder}/modules.builtin", _LIST) if folder else None
        found[real] = {
            "path": clean(path),
            "version": clean(version) if version else None,
            "initrd": clean(initrd) if initrd else None,
            "copy": copied(image, initrd, len(found)) if initrd else None,
            "built_in": None if built_in is None else [clean(n) for n in built_in.split()][:20000],
            "modules": None if listed is None else interesting(listed),
        }
    return list(found.values())


def kernel_version(image: Image, path: str) -> str | None:
    """The version in an x86 kernel's header (Linux, Documentation/arch/x86/boot.rst); else that in the file's name."""
    header = image.ask("pread", path, 0x220, 0) or b""
    if len(header) >= 0x210 and header[0x202:0x206] == b"HdrS":
        (at,) = struct.unpack_from("<H", header, 0x20E)
        said = (image.ask("pread", path, 200, at + 0x200) or b"") if at else b""
        version = said.partition(b"\0")[0].decode("ascii", "replace").split(" ")[0]
        if version and "/" not in version:
            return version
    return path.rpartition("/")[2].partition("-")[2] or None


def modules_folder(image: Image, version: str) -> str | None:
    """The folder of a kernel's modules."""
    folders = [f"{lib}/modules/{version}" for lib in ("/usr/lib", "/lib")]
    return next((f for f in folders if image.ask("is_dir_opts", f, True, default=False)), None)


def find_initrd(image: Image, names: list[str]) -> str | None:
    """The initial RAM disk that stands beside a kernel of one of these names."""
    paths = [f"/boot/{pattern.format(name)}" for name in names if name for pattern in _INITRD_NAMES]
    return next((p for p in paths if image.ask("is_file_opts", p, True, default=False)), None)


def copied(image: Image, path: str, number: int) -> str | None:
    """The name in FOLDER of a copy of an initial RAM disk; None where it is too big or cannot be read."""
    if image.ask("filesize", path, default=_INITRD) >= _INITRD:
        return None
    name = f"initrd-{number}"
    return name if image.ask("download", path, str(image.folder / name), default=False) is None else None


def interesting(dependencies: str) -> list[str]:
    """The modules of modules.dep that somebody asks for, by their paths."""
    paths = (line.partition(":")[0] for line in dependencies.splitlines())
    return [clean(p) for p in paths if any(word in p.rpartition("/")[2] for word in _INTERESTING)][:_NAMES]


def configuration(image: Image) -> dict[str, str]:
    """The text of configuration files that may name hardware."""
    paths = [p for pattern in _CONFIGURATION for p in image.glob(pattern)][:_FILES]
    texts = {clean(p): image.text(p, _TEXT) for p in paths}
    return {path: text for path, text in texts.items() if text is not None}


def windows(image: Image) -> dict[str, Any] | None:
    """The boot-start drivers and services of a Windows, from its SYSTEM hive."""
    hive = image.windows_file("/windows/system32/config/system")
    if hive is None or image.ask("hivex_open", hive, default=False) is False:
        return None
    g = image.g
    try:
        top = g.hivex_root()
        select = g.hivex_node_get_child(top, "Select")
        current = dword(g, select, "Current") if select else None
        control = g.hivex_node_get_child(top, f"ControlSet{current or 1:03d}")
        services = g.hivex_node_get_child(control, "Services") if control else 0
        nodes = {name: g.hivex_node_get_child(services, name) for name in _SERVICES} if services else {}
        told = {name: service(image, node, name) for name, node in nodes.items() if node}
    except RuntimeError as e:
        image.notes.append(clean(f"the SYSTEM hive: {e}"))
        return None
    finally:
        image.ask("hivex_close")
    return {"current": current, "services": told}


def dword(g: Any, node: int, name: str) -> int | None:
    """A REG_DWORD of a registry key; None where there is none."""
    value = g.hivex_node_get_value(node, name)
    if not value or g.hivex_value_type(value) != _REG_DWORD:
        return None
    data = g.hivex_value_value(value)
    return int(struct.unpack("<I", data)[0]) if len(data) == struct.calcsize("<I") else None


def service(image: Image, node: int, name: str) -> dict[str, Any]:
    """How a service starts, and whether its file is there."""
    g = image.g
    override = g.hivex_node_get_child(node, "StartOverride")
    path = g.hivex_node_get_value(node, "ImagePath")
    said = g.hivex_value_value(path)[:600].decode("utf-16-le", "replace").partition("\0")[0] if path else ""
    where = said.strip('"').replace("\\", "/").lower().removeprefix("/systemroot/").removeprefix("%systemroot%/")
    inside = where if where.startswith("system32/") else f"system32/drivers/{name}.sys"
    return {
        "start": dword(g, node, "Start"),
        "override": dword(g, override, "0") if override else None,
        "file": clean(inside),
        "present": image.windows_file(f"/windows/{inside}") is not None,
    }


def look(image: Image) -> dict[str, Any]:
    """Everything, in the order that leaves the states of file systems as they are until they were read."""
    tell("reading the partition table and the file systems")
    seen: dict[str, Any] = {"disk": disk(image), "file_systems": file_systems(image)}
    tell("recognising the operating system")
    roots = image.ask("inspect_os", default=[])
    seen["roots"] = [root(image, r) for r in roots[:8]]
    if roots:
        seen["mounted"] = mount(image, roots[0])
        tell("reading what it starts from and what it is bound to")
        family = seen["roots"][0]["type"]
        seen["kernels"] = kernels(image) if family == "linux" else []
        seen["files"] = configuration(image) if family == "linux" else {}
        seen["windows"] = windows(image) if family == "windows" else None
        seen["present"] = [p for p in _PRESENT if image.ask("is_file_opts", p, True, default=False)]
    seen["notes"] = image.notes
    return seen


def main(arguments: list[str]) -> int:
    """Open the image that the arguments name, and print what is in it."""
    overlay, folder = arguments
    try:
        import guestfs
    except ImportError:
        return NO_GUESTFS
    g = guestfs.GuestFS(python_return_dict=True, close_on_exit=True)
    g.set_autosync(False)
    g.set_network(False)
    g.add_drive_opts(overlay, format="qcow2", cachemode="unsafe")
    tell("starting a small VM that looks inside")
    g.launch()
    seen = look(Image(g, Path(folder)))
    g.close()
    tell(json.dumps(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

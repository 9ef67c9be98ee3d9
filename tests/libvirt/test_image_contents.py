"""Real images: three of Debian, and a disk with what counts of a Windows. No VM of libvirt's is needed for them."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from clienthv import portability
from clienthv.images import appliance, contents
from clienthv.lifecycle import subjects
from clienthv.model.contents import ImageContents
from clienthv.model.host import Host
from clienthv.portability import Target
from clienthv.process import appliance as running_guestfs

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(importlib.util.find_spec("guestfs") is None, reason="libguestfs's Python module is not there"),
]
MAKE = Path(__file__).with_name("debian-images")
START = 1 << 20
"""Where the only partition of each Debian image begins."""
EXTLINUX = Path("/usr/lib/EXTLINUX/mbr.bin")
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BASIC = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"


def opened(path: Path, appliances: Path) -> Any:
    """An image, to be written to, in libguestfs without KVM."""
    import guestfs

    appliances.mkdir(parents=True, exist_ok=True)
    g = guestfs.GuestFS(python_return_dict=True)
    g.set_backend("direct")
    g.set_backend_setting("force_tcg", "1")
    g.set_cachedir(str(appliances))
    g.add_drive_opts(str(path), format="raw")
    g.launch()
    return g


class Looks(NamedTuple):
    """A folder of what was found, and a way to look."""

    cache: Path
    said: list[str]

    def at(self, path: Path, kind: Literal["raw", "qcow2"] = "raw", within: float = 300) -> ImageContents:
        self.said.clear()
        return contents.inspect(path, kind, cache=self.cache, say=self.said.append, kvm=False, within=within)


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    return Looks(tmp_path_factory.mktemp("cache") / "clienthv/images", [])


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory, looks: Looks) -> Path:
    """A folder with virtio.img, plain.img and nothing.img."""
    folder = tmp_path_factory.mktemp("debian")
    folder.chmod(0o755)
    for step in ("packages", "disk"):
        subprocess.run([MAKE, folder, step], check=True, timeout=600)
    g = opened(folder / "virtio.img", looks.cache / "appliance")
    g.mount("/dev/sda1", "/")
    g.extlinux("/boot/extlinux")
    g.umount_all()
    g.pwrite_device("/dev/sda", EXTLINUX.read_bytes(), 0)
    g.shutdown()
    g.close()
    subprocess.run([MAKE, folder, "others"], check=True, timeout=60)
    return folder


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, with a short name for sockets: no file and no process outlives a look."""
    folder = Path(tempfile.mkdtemp(prefix="look-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    assert running(folder) == []
    folder.rmdir()


def running(folder: Path) -> list[str]:
    """The programs that were given a file of this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            found += [words[0]] * any(f"{folder}/" in word for word in words)
    return found


def test_a_debian_with_virtio_in_its_initramfs(debian: Path, looks: Looks) -> None:
    before = (debian / "virtio.img").stat().st_mtime_ns
    found = looks.at(debian / "virtio.img")
    assert found.problem is None
    assert (found.os, found.family, found.architecture) == ("debian13", "linux", "x86_64")
    assert found.product is not None
    assert found.product.startswith("Debian")
    assert (found.bootable, found.bios, found.uefi) == (True, True, False), found.evidence
    answers = {d.driver: d.bootable for d in found.boot_drivers}
    assert answers == {"virtio-blk": True, "virtio-scsi": True, "ahci": True, "ide": True, "nvme": True}
    assert found.network_drivers == ("virtio-net",)
    assert (found.hibernated, found.dirty, found.tied_to) == ((), (), ())
    assert (found.cloud_init, found.guest_agent, found.gpu_drivers) == (False, False, ())
    assert looks.said[0] == "starting a small VM that looks inside"
    assert (debian / "virtio.img").stat().st_mtime_ns == before, "the image was written to"


def test_what_was_found_is_kept_until_the_image_changes(debian: Path, looks: Looks) -> None:
    first = looks.at(debian / "virtio.img")
    again = looks.at(debian / "virtio.img")
    assert again == first
    assert looks.said == [], "it was looked at again"
    kept = list(looks.cache.glob("*.json"))
    assert {p.stat().st_mode & 0o777 for p in kept} == {0o600}
    assert looks.cache.stat().st_mode & 0o777 == 0o700


def test_a_debian_without_virtio_in_its_initramfs(debian: Path, looks: Looks) -> None:
    found = looks.at(debian / "plain.img")
    assert found.problem is None
    assert (found.bootable, found.bios) == (True, True)
    answers = {d.driver: d.bootable for d in found.boot_drivers}
    assert answers == {"virtio-blk": False, "virtio-scsi": False, "ahci": True, "ide": True, "nvme": True}
    virtio = next(d for d in found.boot_drivers if d.driver == "virtio-blk")
    assert "lacks virtio_blk (/boot/initrd.img-" in virtio.evidence
    assert found.network_drivers == ("virtio-net",), "the root file system still has it"
    assert found.tied_to == (
        "/etc/udev/rules.d/70-persistent-net.rules binds a network interface to the MAC address 52:54:00:12:34:56",
    )


def test_a_debian_that_nothing_can_start_and_that_was_not_unmounted(debian: Path, looks: Looks) -> None:
    image = debian / "nothing.img"
    before = image.read_bytes()[START : START + 4096]
    found = looks.at(image)
    assert (found.problem, found.os, found.bootable) == (None, "debian13", False)
    assert found.boot_drivers == ()
    assert "kernels: none in /boot" in found.evidence
    assert found.dirty == ("/dev/sda1 (ext4)",)
    assert image.read_bytes()[START : START + 4096] == before, "the journal was replayed into the image"


@pytest.mark.parametrize(
    ("image", "verdict", "code"),
    [("virtio.img", "cold", None), ("plain.img", "adapt", "boot-driver"), ("nothing.img", "blocked", "not-bootable")],
)
def test_they_are_told_apart_by_the_verdict(
    image: str, verdict: str, code: str | None, debian: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.at(debian / image)
    monkeypatch.setenv("XDG_CACHE_HOME", str(looks.cache.parent.parent))
    subject = subjects.of_image(debian / image, "portable", looks.said.append, inspect=True)
    assert looks.said == [], "it was looked at again"
    check = portability.check(subject, Target("a PC", Host()))
    grave = {f.code: f.why for f in check.findings if f.severity in ("blocks", "changes")}
    assert (check.verdict, set(grave)) == (verdict, {code} if code is not None else set())
    disk = next(d.there for d in check.devices if d.kind == "disk") if check.plan is not None else None
    assert disk == {"cold": "paravirtual: virtio", "adapt": "emulated: sata"}.get(verdict, disk)


def test_a_qcow2_image_is_looked_at_as_well(debian: Path, looks: Looks, tmp_path: Path) -> None:
    image = tmp_path / "a, strange: name.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", debian / "virtio.img", image], check=True)
    found = looks.at(image, "qcow2")
    assert (found.problem, found.bootable) == (None, True)
    leads = tmp_path / "leads.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", leads], check=True)
    refused = looks.at(leads, "qcow2")
    assert refused == ImageContents(problem=refused.problem)
    assert "leads to another file" in (refused.problem or "")


def test_what_looks_like_another_format_inside_leads_nowhere(debian: Path, looks: Looks, tmp_path: Path) -> None:
    leads = tmp_path / "leads.img"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", debian / "virtio.img", "-F", "raw", leads], check=True
    )
    with leads.open("r+b") as file:
        file.truncate(4 << 20)
    assert looks.at(leads, "raw").problem == "no operating system was recognised in it"
    wrapped = tmp_path / "wrapped.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", leads, wrapped], check=True)
    assert looks.at(wrapped, "qcow2").problem == "no operating system was recognised in it"


def test_an_image_that_a_vm_writes_to_is_left_alone(debian: Path, looks: Looks) -> None:
    drive = f"file={debian / 'plain.img'},format=raw,if=virtio"
    command = [
        "qemu-system-x86_64",
        "-S",
        "-display",
        "none",
        "-machine",
        "accel=tcg",
        "-drive",
        drive,
        "-qmp",
        "stdio",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vm:
        assert vm.stdout is not None
        assert "QMP" in vm.stdout.readline()
        found = contents.inspect(debian / "plain.img", "raw", cache=None, say=looks.said.append, kvm=False)
        vm.terminate()
    assert found == ImageContents(problem=found.problem)
    assert "is it in use by a VM that runs" in (found.problem or "")


def test_what_takes_too_long_is_ended(debian: Path, looks: Looks, tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["cp", "--sparse=always", debian / "virtio.img", image], check=True)
    began = time.monotonic()
    found = looks.at(image, within=3)
    assert time.monotonic() - began < 10
    assert found == ImageContents(problem=found.problem)
    assert "did not finish within 3 seconds" in (found.problem or "")


def test_an_interrupt_ends_it(debian: Path, looks: Looks, tmp_path: Path, nothing_stays: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["cp", "--sparse=always", debian / "virtio.img", image], check=True)

    def interrupt(line: str) -> None:
        if line.startswith("recognising"):
            assert any("qemu-system" in program for program in running(nothing_stays))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contents.inspect(image, "raw", cache=looks.cache, say=interrupt, kvm=False)


def test_where_libguestfs_is_missing_the_problem_says_what_to_install(
    debian: Path, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python3"  # one that sees no package of the distribution
    bare.write_text('#!/bin/sh\nexec /usr/bin/python3 -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(bare))
    monkeypatch.setattr(running_guestfs, "_SYSTEM_PYTHON", str(tmp_path / "none"))
    found = contents.inspect(debian / "plain.img", "raw", cache=None, say=looks.said.append, kvm=False)
    assert found == ImageContents(problem=found.problem)
    assert "python3-guestfs" in (found.problem or "")


def test_where_libguestfs_finds_no_kernel_the_problem_says_so(
    debian: Path, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERMIN_KERNEL", str(tmp_path / "none"))
    monkeypatch.setenv("SUPERMIN_MODULES", str(tmp_path / "none"))
    found = contents.inspect(debian / "plain.img", "raw", cache=None, say=looks.said.append, kvm=False)
    assert "it needs a kernel in /boot" in (found.problem or "")


def test_an_encrypted_disk(looks: Looks, tmp_path: Path) -> None:
    image = tmp_path / "locked.img"
    header = b"LUKS\xba\xbe" + struct.pack(">H", 1) + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0")
    header += b"sha256".ljust(32, b"\0") + struct.pack(">II", 4096, 64)
    image.write_bytes((header.ljust(168, b"\0") + b"5f0c4a2e-7a2b-4b1a-9d3e-0123456789ab").ljust(4 << 20, b"\0"))
    locked = looks.at(image)
    assert locked.problem == "it is encrypted (/dev/sda (LUKS)): nobody can look inside without its key"
    assert locked.bootable is None


def test_a_kernel_on_the_system_partition_is_not_missing(looks: Looks, tmp_path: Path) -> None:
    """As systemd-boot has it: the root file system has no kernel, and nothing mounts where one is."""
    image = tmp_path / "apart.img"
    with image.open("wb") as file:
        file.truncate(160 << 20)
    g = opened(image, looks.cache / "appliance")
    g.part_init("/dev/sda", "gpt")
    g.part_add("/dev/sda", "p", 2048, 2048 + 80 * 2048 - 1)
    g.part_add("/dev/sda", "p", 2048 + 80 * 2048, -2048)
    g.part_set_gpt_type("/dev/sda", 1, ESP)
    g.mkfs("vfat", "/dev/sda1")
    g.mkfs("ext4", "/dev/sda2")
    g.mount("/dev/sda1", "/")
    for name in ("/EFI/BOOT/BOOTX64.EFI", "/0123/6.12/linux", "/0123/6.12/initrd"):
        g.mkdir_p(name.rpartition("/")[0])
        g.touch(name)
    g.umount_all()
    g.mount("/dev/sda2", "/")
    for folder in ("/bin", "/boot", "/etc"):
        g.mkdir(folder)
    g.write("/etc/fstab", "LABEL=root / ext4 defaults 0 1\n")
    g.write("/etc/debian_version", "13.0\n")
    g.umount_all()
    g.shutdown()
    g.close()
    found = looks.at(image)
    assert (found.family, found.bootable, found.uefi, found.bios) == ("linux", None, True, False), found.evidence
    assert "kernels elsewhere: 0123/6.12/linux on /dev/sda1 was not looked into" in found.evidence


# What follows is no Windows: a disk that has what is looked at in one.


def _cell(data: bytes) -> bytes:
    size = (len(data) + 4 + 7) // 8 * 8
    return struct.pack("<i", -size) + data.ljust(size - 4, b"\0")


def empty_hive() -> bytes:
    """A registry hive that has its root key alone, as bytes, in the format that hivex reads."""
    stamp, none = 0x01D9000000000000, 0xFFFFFFFF
    rights = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
    key = b""
    for at in (0, 0x20 + len(_cell(bytes(76 + 4)))):
        links = (0, none, 0, 0, none, none, 0, none, at, none, 0, 0, 0, 0, 0)
        key = _cell(struct.pack("<2sHQ15IHH", b"nk", 0x2C, stamp, *links, 4, 0) + b"root")
    at = 0x20 + len(key)
    security = _cell(struct.pack("<2sHIIII", b"sk", 0, at, at, 1, len(rights)) + rights)
    left = 4096 - 32 - len(key) - len(security)
    page = struct.pack("<4sIIIIQI", b"hbin", 0, 4096, 0, 0, stamp, 0) + key + security + struct.pack("<i", left)
    head = struct.pack("<4sIIQ7I", b"regf", 1, 1, stamp, 1, 5, 0, 1, 0x20, 4096, 1).ljust(508, b"\0")
    total = 0
    for (word,) in struct.iter_unpack("<I", head):
        total ^= word
    return (head + struct.pack("<I", total)).ljust(4096, b"\0") + page.ljust(4096, b"\0")


def dword(value: int) -> tuple[int, bytes]:
    return 4, struct.pack("<I", value)


def words(value: str) -> tuple[int, bytes]:
    return 1, (value + "\0").encode("utf-16-le")


def grow(g: Any, path: str, keys: dict[str, dict[str, tuple[int, bytes]]]) -> None:
    """Write a hive with these keys and values."""
    g.write(path, empty_hive())
    g.hivex_open(path, write=True)
    for key, values in keys.items():
        node = g.hivex_root()
        for part in key.split("\\"):
            node = g.hivex_node_get_child(node, part) or g.hivex_node_add_child(node, part)
        for name, (kind, data) in values.items():
            g.hivex_node_set_value(node, name, kind, data)
    g.hivex_commit(None)
    g.hivex_close()


SERVICES = "ControlSet002\\Services\\"
SYSTEM = {
    "Select": {"Current": dword(2)},
    # What is not current does not count.
    "ControlSet001\\Services\\viostor": {"Start": dword(3)},
    SERVICES + "viostor": {"Start": dword(0), "ImagePath": words("System32\\drivers\\viostor.sys")},
    SERVICES + "vioscsi": {"Start": dword(0), "ImagePath": words("\\SystemRoot\\System32\\drivers\\vioscsi.sys")},
    SERVICES + "storahci": {"Start": dword(0), "ImagePath": words("System32\\drivers\\storahci.sys")},
    SERVICES + "storahci\\StartOverride": {"0": dword(3)},
    SERVICES + "stornvme": {"Start": dword(3), "ImagePath": words("System32\\drivers\\stornvme.sys")},
    SERVICES + "netkvm": {"Start": dword(3), "ImagePath": words("System32\\drivers\\netkvm.sys")},
    SERVICES + "nvlddmkm": {"Start": dword(3), "ImagePath": words("System32\\drivers\\nvlddmkm.sys")},
    SERVICES + "QEMU-GA": {"Start": dword(2), "ImagePath": words('"C:\\Program Files\\Qemu-ga\\qemu-ga.exe"')},
    "ControlSet002\\Control\\ComputerName\\ComputerName": {"ComputerName": words("PC")},
}
SOFTWARE = {
    "Microsoft\\Windows NT\\CurrentVersion": {
        "ProductName": words("Windows 10 Pro"),
        "CurrentMajorVersionNumber": dword(10),
        "CurrentMinorVersionNumber": dword(0),
        "CurrentVersion": words("6.3"),
        "CurrentBuildNumber": words("19045"),
        "InstallationType": words("Client"),
    }
}


def write_windows(g: Any) -> None:
    """An EFI system partition with the boot manager, and an NTFS with hives and driver files."""
    g.part_init("/dev/sda", "gpt")
    g.part_add("/dev/sda", "p", 2048, 2048 + 80 * 2048 - 1)
    g.part_add("/dev/sda", "p", 2048 + 80 * 2048, -2048)
    g.part_set_gpt_type("/dev/sda", 1, ESP)
    g.part_set_gpt_type("/dev/sda", 2, BASIC)
    g.mkfs("vfat", "/dev/sda1")
    g.mkfs("ntfs", "/dev/sda2")
    g.mount("/dev/sda1", "/")
    g.mkdir_p("/EFI/Microsoft/Boot")
    g.touch("/EFI/Microsoft/Boot/bootmgfw.efi")
    g.touch("/EFI/Microsoft/Boot/BCD")
    g.umount_all()
    g.mount("/dev/sda2", "/")
    g.mkdir_p("/Windows/System32/config")
    g.mkdir_p("/Windows/System32/drivers")
    for name in ("viostor", "storahci", "netkvm", "nvlddmkm", "stornvme"):
        g.touch(f"/Windows/System32/drivers/{name.upper()}.SYS")
    program = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664)
    g.write("/Windows/System32/cmd.exe", program.ljust(84, b"\0") + struct.pack("<HHH", 240, 0x22, 0x20B) + bytes(400))
    g.write("/hiberfil.sys", b"HIBR" + bytes(4092))
    grow(g, "/Windows/System32/config/SYSTEM", SYSTEM)
    grow(g, "/Windows/System32/config/SOFTWARE", SOFTWARE)
    g.umount_all()
    at = appliance.ntfs_volume_record(g.pread_device("/dev/sda2", 512, 0))
    record = bytearray(g.pread_device("/dev/sda2", 1024, at))
    where = record.index(struct.pack("<I", 0x70), struct.unpack_from("<H", record, 0x14)[0])
    flags = where + struct.unpack_from("<H", record, where + 0x14)[0] + 10
    record[flags] |= 1
    g.pwrite_device("/dev/sda2", bytes(record), at)
    sector = g.pread_device("/dev/sda2", 512, 0)
    mirror = struct.unpack_from("<Q", sector, 56)[0] * sector[13] * struct.unpack_from("<H", sector, 11)[0]
    g.pwrite_device("/dev/sda2", bytes(record), mirror + 3 * 1024)


def test_what_counts_of_a_windows(looks: Looks, tmp_path: Path) -> None:
    image = tmp_path / "windows.img"
    with image.open("wb") as file:
        file.truncate(160 << 20)
    g = opened(image, looks.cache / "appliance")
    write_windows(g)
    g.shutdown()
    g.close()
    found = looks.at(image)
    assert found.problem is None
    assert (found.os, found.family, found.product, found.version) == ("win10", "windows", "Windows 10 Pro", "10.0")
    assert (found.bootable, found.uefi, found.bios) == (True, True, False), found.evidence
    answers = {d.driver: (d.bootable, d.evidence) for d in found.boot_drivers}
    assert answers == {
        "virtio-blk": (True, "ControlSet002: viostor starts at boot, and system32/drivers/viostor.sys is there"),
        "virtio-scsi": (False, "ControlSet002: vioscsi starts at boot, but system32/drivers/vioscsi.sys is not there"),
        "ahci": (
            False,
            "ControlSet002: storahci does not start at boot (StartOverride is 3); there is no service msahci",
        ),
        "ide": (False, "ControlSet002: there is no service intelide"),
        "nvme": (False, "ControlSet002: stornvme does not start at boot (Start is 3)"),
    }
    assert (found.network_drivers, found.gpu_drivers) == (("virtio-net",), ("nvidia",))
    assert (found.guest_agent, found.cloud_init) == (True, False)
    assert found.hibernated == ("Windows on /dev/sda2 (hiberfil.sys)",)
    assert found.dirty == ("/dev/sda2 (ntfs)",)

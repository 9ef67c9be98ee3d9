"""Who has a device open, and what its memory is used for: read from trees of files."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import tempfile
from pathlib import Path

import pytest

from clienthv.inspect import Holder, anonymise, read, read_holders
from clienthv.inspect.files import Tree
from clienthv.inspect.holders import read_programs
from clienthv.inspect.resources import read_framebuffers, read_mmio64_mib
from clienthv.model.particulars import Particulars
from tests.inspect.test_odd_trees import device, function, link

GPU = "pci0000:00/0000:00:01.0/0000:01:00.0"
SOUND = "pci0000:00/0000:00:1f.3"
SOUND_CARD = "0000:00:1f.3"


@pytest.fixture
def root(tmp_path: Path) -> str:
    return furnished(str(tmp_path))


def furnished(pc: str) -> str:
    """A PC with a graphics card and a sound card, and the kernel's thread that shows all processes are to be seen."""
    card = function(pc, GPU, **{"class": "0x030000"})
    (card / "driver").symlink_to("../../../../bus/pci/drivers/nouveau")
    function(pc, SOUND, **{"class": "0x040300"})
    device(pc, "drm", f"{GPU}/drm/card1")
    device(pc, "drm", f"{GPU}/drm/renderD128")
    device(pc, "sound", f"{SOUND}/sound/card0/pcmC0D0p")
    device(pc, "sound", f"{SOUND}/sound/card0/controlC0")
    program(pc, 2, "kthreadd")
    return pc


def program(root: str, number: int, name: str, *files: str) -> Path:
    folder = Path(root, "proc", str(number))
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    for handle, file in enumerate(files):
        (folder / "fd" / str(handle)).symlink_to(file)
    return folder


def mapped(process: Path, *files: str) -> None:
    """Give a process a heap, a library and these files in its memory."""
    lines = ["55d0a0000000-55d0a0021000 rw-p 00000000 00:00 0                          [heap]"]
    lines += [
        f"7f3c5c0{n}0000-7f3c5c0{n}1000 rw-s 00000000 00:06 {400 + n}                        {file}"
        for n, file in enumerate(("/usr/lib/libc.so.6", *files))
    ]
    (process / "maps").write_text("\n".join([*lines, "7f3c5c200000-7f3c5c201000 rw-p 00000000 00:00 0 "]) + "\n")


def node(root: str, place: str, file: str, kind: str = "char") -> None:
    """A device with a device file, listed by its number, which the kernel gives and which matters to nobody here."""
    folder = Path(root, "sys/devices", place)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "uevent").write_text(f"MAJOR=1\nMINOR=2\nDEVNAME={file}\n")
    link(Path(root, "sys/dev", kind, f"1:{place.replace('/', ':')}"), folder)


def found(root: str, address: str = "0000:01:00.0") -> Particulars:
    return read(root).by_address[address].known


def test_programs_that_have_a_node_of_the_card_open_are_named_once(root: str) -> None:
    program(root, 10, "Xorg", "/dev/null", "/dev/dri/card1")
    program(root, 11, "firefox", "/dev/dri/renderD128", "/dev/dri/card1")
    program(root, 12, "firefox", "/dev/dri/renderD128")
    program(root, 13, "bash", "/dev/dri/card0", "socket:[1]")
    assert found(root).holders == ("Xorg", "firefox")
    assert found(root, SOUND_CARD).holders == ()


def test_a_card_that_is_only_mapped_is_held_as_well(root: str) -> None:
    mapped(program(root, 10, "game", "/dev/null"), "/dev/dri/renderD128", "/dev/dri/renderD128")
    mapped(program(root, 11, "bash"), "/dev/dri/renderD1280", "/dev/dri/card1 (deleted)")
    assert found(root).holders == ("game",)
    assert found(root, SOUND_CARD).holders == ()


def test_memory_that_may_not_be_looked_at_is_not_known(ordinary_user: None) -> None:
    with tempfile.TemporaryDirectory() as root:
        process = program(furnished(root), 10, "Xorg", "/dev/dri/card1")
        mapped(process, "/dev/snd/pcmC0D0p")
        (process / "maps").chmod(0)
        assert found(root).holders == ("Xorg",)
        assert found(root, SOUND_CARD).holders is None


def test_the_memory_of_a_real_process_is_read() -> None:
    libc = ctypes.CDLL(None)  # mmap.mmap keeps a descriptor of its own
    libc.mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(mmap.PAGESIZE)
    with Path("/dev/zero").open("rb") as file:
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), ctypes.c_long(0))
    try:
        assert Path("/proc/self/comm").read_text().strip() in read_programs(Tree(), "/dev/zero")
    finally:
        libc.munmap(ctypes.c_void_p(at), size)


def test_an_anonymised_document_tells_the_desktops_programs_and_no_others(root: str) -> None:
    for number, name in enumerate(("Xorg", "secret-game", "other-game"), 10):
        program(root, number, name, "/dev/dri/card1")
    host = anonymise(read(root))
    assert host.by_address["0000:01:00.0"].known.holders == ("Xorg", "a program")
    assert anonymise(host) == host


def test_a_stream_is_a_use_and_the_mixer_is_none(root: str) -> None:
    program(root, 10, "wireplumber", "/dev/snd/controlC0")
    assert found(root, SOUND_CARD).holders == ()
    program(root, 11, "mpv", "/dev/snd/pcmC0D0p")
    assert found(root, SOUND_CARD).holders == ("mpv",)


def test_where_not_every_process_is_to_be_seen_nobody_is_not_known(root: str) -> None:
    Path(root, "proc/2/comm").write_text("bash\n")
    assert found(root).holders is None
    program(root, 10, "Xorg", "/dev/dri/card1")
    assert found(root).holders == ("Xorg",)
    assert found(root, SOUND_CARD).holders is None


def test_a_tree_without_processes_knows_nothing_of_them(tmp_path: Path) -> None:
    function(str(tmp_path), GPU, **{"class": "0x030000"})
    device(str(tmp_path), "drm", f"{GPU}/drm/card1")
    assert found(str(tmp_path)).holders is None


def test_other_kinds_of_devices_have_no_programs(root: str) -> None:
    function(root, "pci0000:00/0000:00:17.0")
    assert found(root, "0000:00:17.0").holders is None


def test_nvidias_own_nodes_are_told_apart_by_their_minor(root: str) -> None:
    driver = Path(root, "sys/devices", GPU, "driver")
    driver.unlink()
    driver.symlink_to("../../../../bus/pci/drivers/nvidia")
    information = Path(root, "proc/driver/nvidia/gpus/0000:01:00.0/information")
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA\nDevice Minor: \t 3\n")
    program(root, 10, "python3", "/dev/nvidia0", "/dev/nvidiactl")
    assert found(root).holders == ()
    program(root, 11, "nvidia-persiste", "/dev/nvidia3")
    assert found(root).holders == ("nvidia-persiste",)
    information.unlink()
    assert found(root).holders == ("python3",), "the only card there is"


def test_memory_that_firmware_wants_mapped_is_read_per_group(root: str) -> None:
    group = Path(root, "sys/kernel/iommu_groups/7")
    group.mkdir(parents=True)
    (group / "reserved_regions").write_text(
        "0x00000000000e0000 0x00000000000fffff direct\n"
        "0x00000000bf000000 0x00000000bf0fffff direct-relaxable\n"
        "0x00000000fee00000 0x00000000feefffff msi\n"
    )
    assert found(root).reserved_memory is None
    Path(root, "sys/devices", GPU, "iommu_group").symlink_to(group)
    assert found(root).reserved_memory == ("0x00000000000e0000-0x00000000000fffff",)


def test_64_bit_bars_are_added_up_and_the_rom_and_others_are_not(root: str) -> None:
    Path(root, "sys/devices", GPU, "resource").write_text(
        "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
        "0x0000000800000000 0x0000000fffffffff 0x000000000014220c\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x0000001000000000 0x0000001001ffffff 0x000000000014220c\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"
        "0x00000000f7000000 0x00000000f707ffff 0x0000000000046200\n"
    )
    assert found(root).mmio64_mib == 32 * 1024 + 32
    Path(root, "sys/devices", GPU, "resource").write_text("nothing of the kind\n")
    assert read_mmio64_mib(Tree(root), f"/sys/devices/{GPU}") is None


def test_the_screen_of_the_boot_is_found_by_how_the_lines_nest(root: str) -> None:
    iomem = Path(root, "proc/iomem")
    assert read_framebuffers(Tree(root)) is None
    iomem.write_text(
        "00000000-00000000 : PCI Bus 0000:00\n"
        "  00000000-00000000 : PCI Bus 0000:01\n"
        "    00000000-00000000 : 0000:01:00.0\n"
        "      00000000-00000000 : BOOTFB\n"
        "        00000000-00000000 : simpledrm\n"
        "  00000000-00000000 : 0000:00:1f.3\n"
        "  00000000-00000000 : BOOTFB\n"
    )
    assert found(root).framebuffer == "simpledrm"
    assert found(root, SOUND_CARD).framebuffer == ""


@pytest.mark.parametrize(("text", "label"), [("Onboard Video\n", "Onboard Video"), ("", None), ("a" * 101, None)])
def test_what_firmware_calls_a_device_is_read(root: str, text: str, label: str | None) -> None:
    Path(root, "sys/devices", GPU, "label").write_text(text)
    assert found(root).firmware_label == label


def test_every_file_of_a_sound_card_counts_and_the_mixer_too(root: str) -> None:
    for name in ("pcmC0D0p", "controlC0"):
        node(root, f"{SOUND}/sound/card0/{name}", f"snd/{name}")
    node(root, "virtual/sound/timer", "snd/timer")
    program(root, 100, "mpv", "/dev/snd/pcmC0D0p", "/dev/snd/controlC0", "/dev/snd/pcmC0D0p", "/dev/snd/timer")
    program(root, 20, "wireplumber", "/dev/snd/controlC0")
    assert read_holders(SOUND_CARD, root) == (
        Holder(20, "wireplumber", "/dev/snd/controlC0"),
        Holder(100, "mpv", "/dev/snd/controlC0"),
        Holder(100, "mpv", "/dev/snd/pcmC0D0p"),
    )
    assert read_holders("0000:01:00.0", root) == ()


def test_what_is_below_a_usb_controller_is_held_with_it(root: str) -> None:
    controllers = ("pci0000:00/0000:00:14.0", "pci0000:00/0000:00:1a.0")
    for number, controller in enumerate(controllers):
        function(root, controller)
        usb = f"{controller}/usb{number}/{number}-1"
        node(root, usb, f"bus/usb/00{number}/002")
        node(root, f"{usb}/{number}-1:1.0/video4linux/video{number}", f"video{number}")
        node(root, f"{usb}/{number}-1:1.1/0003:046D:C52B.0001/hidraw/hidraw{number}", f"hidraw{number}")
        node(root, f"{usb}/{number}-1:1.2/ttyUSB{number}/tty/ttyUSB{number}", f"ttyUSB{number}")
        node(root, f"{usb}/{number}-1:1.3/host{number}/block/sd{number}", f"sd{number}", "block")
    mapped(program(root, 10, "zoom", "/dev/video1"), "/dev/video0")
    program(root, 11, "minicom", "/dev/ttyUSB0", "/dev/ttyUSB1")
    program(root, 12, "steam", "/dev/hidraw0", "/dev/bus/usb/000/002", "/dev/sd0")
    assert {holder[1:] for holder in read_holders("0000:00:14.0", root)} == {
        ("zoom", "/dev/video0"), ("minicom", "/dev/ttyUSB0"), ("steam", "/dev/hidraw0"),
        ("steam", "/dev/bus/usb/000/002"), ("steam", "/dev/sd0"),
    }  # fmt: skip


@pytest.mark.parametrize("disk", [f"{GPU}/nvme/nvme0/nvme0n1", "virtual/nvme-subsystem/nvme-subsys0/nvme0n1"])
def test_an_nvme_disk_is_its_controllers_with_one_path_or_several(root: str, disk: str) -> None:
    node(root, f"{GPU}/nvme/nvme0", "nvme0")
    device(root, "block", disk)
    if "virtual" in disk:
        link(Path(root, "sys/devices", disk).parent / "nvme0", Path(root, "sys/devices", GPU, "nvme/nvme0"))
    node(root, disk, "nvme0n1", "block")
    node(root, f"{disk}/nvme0n1p1", "nvme0n1p1", "block")
    program(root, 10, "smartd", "/dev/nvme0", "/dev/nvme1")
    program(root, 11, "dd", "/dev/nvme0n1p1")
    assert read_holders("0000:01:00.0", root) == (
        Holder(10, "smartd", "/dev/nvme0"),
        Holder(11, "dd", "/dev/nvme0n1p1"),
    )


def test_nvidias_nodes_are_held_without_a_driver_to_be_seen(root: str) -> None:
    for number in ("1", "2"):
        information = Path(root, f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information")
        information.parent.mkdir(parents=True)
        information.write_text(f"Device Minor: \t {number}\n")
    program(root, 10, "python3", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidiactl")
    assert read_holders("0000:01:00.0", root) == (Holder(10, "python3", "/dev/nvidia1"),)


def test_packet_sockets_hold_the_interfaces_that_they_are_bound_to(root: str) -> None:
    for number, name in ((0, "enp0s0"), (3, "enp1s0"), (30, "enp2s0")):
        function(root, f"pci0000:00/0000:00:{number:02}.0")
        device(root, "net", f"pci0000:00/0000:00:{number:02}.0/net/{name}", ifindex=str(number))
    table = Path(root, "proc/net/packet")
    table.parent.mkdir(parents=True)
    table.write_text(
        "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
        "0000000000000000 3      3    0003   3     1 0      0      101   \n"
        "0000000000000000 3      3    88cc   30    1 0      0      102   \n"
        "0000000000000000 3      3    0003   0     1 0      0      103   \n"
        "garbage\n"
    )
    program(root, 10, "tcpdump", "socket:[101]")
    program(root, 11, "lldpd", "socket:[102]", "socket:[1011]", "/dev/null")
    program(root, 12, "dhcpcd", "socket:[103]")
    assert read_holders("0000:00:03.0", root) == (Holder(10, "tcpdump", "enp1s0"),)


def test_a_vfio_group_is_the_guests_unless_the_host_has_a_driver(root: str) -> None:
    card = Path(root, "sys/devices", GPU)
    link(card / "iommu_group", Path(root, "sys/kernel/iommu_groups/7"))
    program(root, 10, "qemu-system-x86", "/dev/vfio/7", "/dev/vfio/vfio", "anon_inode:[vfio-device]")
    assert read_holders("0000:01:00.0", root) == (), "nouveau has it"
    held = (Holder(10, "qemu-system-x86", "/dev/vfio/7"),)
    (card / "driver").unlink()
    assert read_holders("0000:01:00.0", root) == held, "its driver is being removed"
    (card / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    assert read_holders("0000:01:00.0", root) == held


def test_a_mediated_device_is_a_part_of_its_card(root: str) -> None:
    mdev = Path(root, "sys/devices", GPU, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001")
    link(mdev / "iommu_group", Path(root, "sys/kernel/iommu_groups/12"))
    program(root, 10, "qemu-system-x86", "/dev/vfio/12")
    assert read_holders("0000:01:00.0", root) == (Holder(10, "qemu-system-x86", "/dev/vfio/12"),)


def test_what_can_be_seen_is_told_where_not_all_can(ordinary_user: None) -> None:
    with tempfile.TemporaryDirectory() as root:
        furnished(root)
        node(root, f"{GPU}/drm/card1", "dri/card1")
        for number, name in enumerate(("Xorg", "hidden", "half-hidden"), 10):
            mapped(program(root, number, name, "/dev/dri/card1"))
        Path(root, "proc/11/fd").chmod(0)
        Path(root, "proc/12/maps").chmod(0)
        seen = read_holders("0000:01:00.0", root)
        Path(root, "proc/11/fd").chmod(0o700)
    assert [holder.name for holder in seen] == ["Xorg", "half-hidden"]


@pytest.mark.parametrize("address", ["0000:01:00.0", "", "..", "a\0b"])
def test_where_nothing_is_known_nobody_is_seen(tmp_path: Path, address: str) -> None:
    assert read_holders(address, str(tmp_path)) == ()


def test_a_real_packet_socket_is_seen() -> None:
    cards = [(f.address, name) for f in read("/").pci for name in f.interfaces or ()]
    if not cards or os.geteuid() != 0:
        pytest.skip("needs a network card on PCI, and root")
    address, name = cards[0]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as bound:  # protocol 0: it receives nothing
        bound.bind((name, 0))
        assert (os.getpid(), name) in {(holder.pid, holder.what) for holder in read_holders(address)}
    assert (os.getpid(), name) not in {(holder.pid, holder.what) for holder in read_holders(address)}

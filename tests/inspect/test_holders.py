"""Who has a device open, and what its memory is used for: read from trees of files."""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from pathlib import Path

import pytest

from clienthv.inspect import anonymise, read
from clienthv.inspect.files import Tree
from clienthv.inspect.holders import read_programs
from clienthv.inspect.resources import read_framebuffers, read_mmio64_mib
from clienthv.model.particulars import Particulars
from tests.inspect.test_odd_trees import device, function

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

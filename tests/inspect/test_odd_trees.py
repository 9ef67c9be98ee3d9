"""Trees from strangers and unusual storage and network set-ups, read through root=."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clienthv.inspect import anonymise, link_is_up, read, read_boot_id, read_card
from clienthv.model.host import Host, RoleName, decode, encode
from clienthv.report import hosts

Tree = Callable[[dict[str, str]], str]
ROUTE_HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
DEFAULT = "{} 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n"


def function(root: str, place: str, **attributes: str) -> Path:
    """A PCI function at a place below /sys/devices, listed on its bus."""
    folder = Path(root, "sys/devices", place)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ({"vendor": "0x8086", "device": "0x1234", "class": "0x010802"} | attributes).items():
        (folder / name).write_text(text + "\n")
    listed(root, "bus/pci/devices", folder)
    return folder


def device(root: str, subsystem: str, place: str, **attributes: str) -> Path:
    """A device of a class at a place below /sys/devices."""
    folder = Path(root, "sys/devices", place)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in attributes.items():
        (folder / name).write_text(text + "\n")
    listed(root, f"class/{subsystem}", folder)
    return folder


def listed(root: str, where: str, folder: Path) -> None:
    listing = Path(root, "sys", where)
    listing.mkdir(parents=True, exist_ok=True)
    (listing / folder.name).symlink_to(os.path.relpath(folder, listing))


def link(at: Path, to: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(os.path.relpath(to, at.parent))


def holders(host: Host, role: RoleName) -> set[str]:
    return {r.address for r in host.roles if r.role is role}


def whole(host: Host) -> Host:
    """The host, checked to be a document that reads back, anonymised or not."""
    decode(encode(anonymise(host)), "test")
    assert decode(encode(host), "test") == host
    return host


def test_an_empty_folder_is_a_pc_of_which_nothing_is_known(tmp_path: Path) -> None:
    host = whole(read(str(tmp_path)))
    assert host.roles_read == ()
    assert host.kvm.usable is None
    assert host.iommu.enabled is None
    assert host.iommu.kind is None
    assert host.tpm_device is None
    assert len(host.unknown) >= len(RoleName)


def test_values_that_cannot_be_are_left_out(tree: Tree) -> None:
    root = tree({"/proc/meminfo": "MemTotal: lots kB\n", "/proc/cpuinfo": "processor\n:::\nflags\n"})
    function(
        root, "pci0000:00/0000:00:01.0",
        **{"class": "0x30000", "vendor": "garbage", "device": "", "numa_node": "٣"}, revision="0xabc", boot_vga="7",
    )  # fmt: skip
    found = whole(read(root)).pci[0]
    assert (found.class_code, found.vendor_id, found.device_id, found.numa_node) == (None, None, None, None)
    assert (found.revision, found.boot_vga) == (None, None)


def test_dangling_links_and_folders_in_place_of_files_are_survived(tree: Tree) -> None:
    root = tree({"/sys/class/net/.keep": ""})
    here = function(root, "pci0000:00/0000:00:01.0")
    (here / "driver").symlink_to("../../../bus/pci/drivers/gone")
    (here / "iommu_group").symlink_to("not-a-number")
    (here / "physfn").symlink_to("../elsewhere")
    (here / "reset_method").mkdir()
    os.mkfifo(here / "revision")
    Path(root, "sys/class/net/loop").symlink_to("loop")
    Path(root, "sys/bus/pci/devices/0000:00:1f.0").symlink_to("../../../devices/gone/0000:00:1f.0")
    found = whole(read(root)).by_address["0000:00:01.0"]
    assert (found.driver, found.iommu_group, found.physfn, found.reset_methods) == ("gone", None, None, None)


def test_names_that_are_not_utf_8_are_left_out(tree: Tree) -> None:
    root = tree({"/sys/class/iommu/dmar0/x": "", "/proc/self/mountinfo": ""})
    Path(root, os.fsdecode(b"sys/class/iommu/a\xffb")).mkdir()
    Path(root, "proc/self/mountinfo").write_bytes(b"22 1 8:1 / /mnt/\xff\xfe rw - ext4 /dev/sda1 rw\n")
    Path(root, "proc/cmdline").write_bytes(b"quiet\0 root=/dev/\xff\n")
    assert whole(read(root)).iommu.kind == "vt-d"


def test_addresses_of_wide_domains_are_read_with_the_vmd_that_holds_them(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n"})
    function(root, "pci0000:00/0000:00:0e.0", **{"class": "0x010400"})
    inner = "pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
    function(root, inner)
    device(root, "block", f"{inner}/nvme/nvme0/nvme0n1", dev="259:0")
    device(root, "block", f"{inner}/nvme/nvme0/nvme0n1/nvme0n1p1", dev="259:1", partition="1")
    host = whole(read(root))
    assert host.by_address["10000:e1:00.0"].bridge_path == ("0000:00:0e.0", "10000:e0:06.0")
    assert holders(host, RoleName.MOUNTED_DISK) == {"10000:e1:00.0"}


def test_an_nvme_disk_with_multipath_leads_to_every_controller_of_its_subsystem(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 259:1 / / rw - xfs /dev/nvme0n1 rw\n"})
    path = "pci0000:00/0000:02:00.0"
    function(root, path)
    controller = Path(root, "sys/devices", path, "nvme/nvme0")
    device(root, "block", f"{path}/nvme/nvme0/nvme0c0n1", dev="259:9", hidden="1")
    disk = device(root, "block", "virtual/nvme-subsystem/nvme-subsys0/nvme0n1", dev="259:1")
    link(disk.parent / "nvme0", controller)
    host = whole(read(root))
    assert holders(host, RoleName.MOUNTED_DISK) == {"0000:02:00.0"}
    assert host.pci[0].block_devices == ("nvme0n1",)


def test_every_disk_of_a_btrfs_is_mounted(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 0:31 /@ / rw - btrfs /dev/sda rw\n", "/dev/sda": "", "/dev/sdb": ""})
    for number, name in enumerate(("sda", "sdb")):
        function(root, f"pci0000:00/0000:00:1{number}.0")
        disk = device(root, "block", f"pci0000:00/0000:00:1{number}.0/block/{name}", dev=f"8:{number}")
        link(Path(root, "sys/fs/btrfs/5d8f/devices", name), disk)
    assert holders(whole(read(root)), RoleName.MOUNTED_DISK) == {"0000:00:10.0", "0000:00:11.0"}


def test_a_zfs_root_that_cannot_be_followed_leaves_the_role_unknown(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 0:31 / / rw - zfs rpool/ROOT/debian rw\n"})
    function(root, "pci0000:00/0000:00:10.0")
    device(root, "block", "pci0000:00/0000:00:10.0/block/sda", dev="8:0")
    host = whole(read(root))
    assert not host.read(RoleName.MOUNTED_DISK)
    assert any("mounted-disk" in sentence and "zfs" in sentence for sentence in host.unknown)


def test_slaves_that_go_in_a_circle_end(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 253:0 / / rw - ext4 /dev/dm-0 rw\n"})
    for name, other in (("dm-0", "dm-1"), ("dm-1", "dm-0")):
        device(root, "block", f"virtual/block/{name}", dev=f"253:{name[-1]}")
        Path(root, f"sys/devices/virtual/block/{name}/slaves/{other}").mkdir(parents=True)
    assert whole(read(root)).read(RoleName.MOUNTED_DISK)


@pytest.mark.parametrize("upper", ["bond0", "vlan9", "macvlan0"])
def test_a_default_route_leads_down_to_every_card(tree: Tree, upper: str) -> None:
    root = tree({"/proc/net/route": ROUTE_HEAD + DEFAULT.format(upper)})
    above = device(root, "net", f"virtual/net/{upper}")
    for number in (0, 1):
        function(root, f"pci0000:00/0000:00:1{number}.0", **{"class": "0x020000"})
        card = device(root, "net", f"pci0000:00/0000:00:1{number}.0/net/eth{number}")
        link(above / f"lower_eth{number}", card)
    host = whole(read(root))
    assert holders(host, RoleName.DEFAULT_ROUTE) == {"0000:00:10.0", "0000:00:11.0"}


def test_the_slaves_file_of_a_bond_is_enough(tree: Tree) -> None:
    root = tree({"/proc/net/route": ROUTE_HEAD + DEFAULT.format("bond0")})
    above = device(root, "net", "virtual/net/bond0")
    (above / "bonding").mkdir()
    (above / "bonding/slaves").write_text("eth0 eth9\n")
    function(root, "pci0000:00/0000:00:10.0", **{"class": "0x020000"})
    device(root, "net", "pci0000:00/0000:00:10.0/net/eth0")
    assert holders(whole(read(root)), RoleName.DEFAULT_ROUTE) == {"0000:00:10.0"}


def test_a_default_route_through_a_tunnel_is_said_to_be_untraceable(tree: Tree) -> None:
    root = tree({"/proc/net/route": ROUTE_HEAD + DEFAULT.format("tun0")})
    device(root, "net", "virtual/net/tun0")
    host = whole(read(root))
    assert host.read(RoleName.DEFAULT_ROUTE)
    assert any("tun0" in sentence for sentence in host.unknown)


def test_a_route_that_rejects_is_no_default_route(tree: Tree) -> None:
    root = tree({"/proc/net/route": ROUTE_HEAD + DEFAULT.format("eth0").replace("0003", "0201")})
    function(root, "pci0000:00/0000:00:10.0")
    device(root, "net", "pci0000:00/0000:00:10.0/net/eth0")
    assert holders(whole(read(root)), RoleName.DEFAULT_ROUTE) == set()


def test_a_vt_d_unit_without_interrupt_remapping_decides(tree: Tree) -> None:
    root = tree({"/sys/class/iommu/dmar0/intel-iommu/ecap": "c40660462\n"})
    assert read(root).iommu.interrupt_remapping is False


def test_intremap_off_decides_unless_remapped_interrupts_are_seen(tree: Tree) -> None:
    root = tree({"/proc/cmdline": "quiet intremap=off -- iommu=pt\n"})
    host = read(root)
    assert host.iommu.interrupt_remapping is False
    assert host.iommu.parameters == ("intremap=off",)


UNSAFE = "vfio_iommu_type1.allow_unsafe_interrupts"


@pytest.mark.parametrize(
    ("module", "cmdline", "allowed"),
    [
        ("Y", "quiet", True),
        ("N", f"quiet {UNSAFE}=1", False),
        ("garbage", f"{UNSAFE}=1", None),
        ("", "quiet", None),
        ("", f"{UNSAFE}=1", True),
        ("", f"{UNSAFE.replace('_', '-')}=Y", True),
        ("", UNSAFE, True),
        ("", f"{UNSAFE}=1 {UNSAFE}=0", False),
        ("", f"{UNSAFE}=perhaps", None),
        ("", f"quiet -- {UNSAFE}=1", None),
    ],
)
def test_the_module_says_whether_unsafe_interrupts_are_allowed_and_before_it_is_loaded_the_command_line(
    module: str, cmdline: str, allowed: bool | None, tree: Tree
) -> None:
    files = {"/proc/cmdline": f"{cmdline}\n"}
    if module:
        files["/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"] = f"{module}\n"
    host = read(tree(files))
    assert host.iommu.unsafe_interrupts is allowed
    assert any("allow_unsafe_interrupts: Y" in said for said in host.iommu.evidence) is (module == "Y")
    assert any("unsafe interrupts allowed" in line for line in hosts.lines(host)) is (allowed is True)


def test_that_vfio_may_do_without_interrupt_remapping_is_missed_only_where_it_matters(tree: Tree) -> None:
    def missed(interrupts: str) -> bool:
        root = tree({"/sys/kernel/iommu_groups/0/type": "DMA\n", "/proc/interrupts": interrupts})
        return any("modprobe vfio_iommu_type1" in sentence for sentence in read(root).unknown)

    assert missed("9: 0 IO-APIC 9-fasteoi acpi")
    assert not missed("9: 0 IR-IO-APIC 9-fasteoi acpi")


def test_no_iommu_groups_of_vfio_do_not_count(tree: Tree) -> None:
    root = tree({"/sys/kernel/iommu_groups/0/name": "vfio-noiommu\n"})
    host = read(root)
    assert (host.iommu.enabled, host.iommu.groups) == (False, 0)


def test_a_missing_kvm_device_is_told_from_an_unread_dev_folder(tree: Tree) -> None:
    root = tree({"/dev/null0": "", "/proc/cpuinfo": "processor: 0\nflags: svm npt lm\n"})
    kvm = read(root).kvm
    assert (kvm.device_present, kvm.usable) == (False, False)
    assert kvm.evidence[0] == "/dev/kvm: is not there"


def test_a_display_adapter_without_boot_vga_leaves_the_boot_display_unknown(tree: Tree) -> None:
    root = tree({})
    function(root, "pci0000:00/0000:00:02.0", **{"class": "0x030000"})
    assert not whole(read(root)).read(RoleName.BOOT_DISPLAY)


def test_what_an_ordinary_user_may_not_read_is_unknown_and_named(ordinary_user: None) -> None:
    with tempfile.TemporaryDirectory() as root:
        for name in ("proc/cmdline", "sys/firmware/acpi/tables/DMAR", "dev/kvm", "proc/self/mountinfo"):
            Path(root, name).parent.mkdir(parents=True, exist_ok=True)
            Path(root, name).write_text("quiet\n")
            Path(root, name).chmod(0)
        Path(root, "sys/kernel/iommu_groups").mkdir(parents=True)
        Path(root, "sys/kernel/iommu_groups").chmod(0)
        for number in (1, 2):
            here = function(root, f"pci0000:00/0000:00:0{number}.0")
            (here / "reset_method").write_text("flr\n")
            (here / "reset_method").chmod(0)
        host = whole(read(root))
        Path(root, "sys/kernel/iommu_groups").chmod(0o700)
    assert host.kernel.cmdline is None
    assert host.iommu.enabled is None
    assert host.iommu.acpi_table == "DMAR"
    assert not host.read(RoleName.MOUNTED_DISK)
    assert host.pci[0].reset_methods is None
    assert (host.kvm.device_openable, host.kvm.usable) == (False, False)
    assert any("group, kvm, is needed" in said for said in host.kvm.evidence)
    for path in (
        "/proc/cmdline",
        "/sys/kernel/iommu_groups",
        "reset_method and 1 more like it",
        "/proc/self/mountinfo",
    ):
        assert any(path in sentence and "as root" in sentence for sentence in host.unknown), path


def test_the_cache_of_a_bcache_disk_is_mounted_too(tree: Tree) -> None:
    root = tree({"/proc/self/mountinfo": "22 1 252:0 / / rw - ext4 /dev/bcache0 rw\n"})
    disks = []
    for number, name in enumerate(("sda", "nvme0n1")):
        function(root, f"pci0000:00/0000:00:1{number}.0")
        disks.append(device(root, "block", f"pci0000:00/0000:00:1{number}.0/block/{name}", dev=f"8:{number}"))
    cached = device(root, "block", "virtual/block/bcache0", dev="252:0")
    link(cached / "slaves/sda", disks[0])
    (disks[1] / "bcache").mkdir()
    link(cached / "bcache/cache/cache0", disks[1] / "bcache")
    assert holders(whole(read(root)), RoleName.MOUNTED_DISK) == {"0000:00:10.0", "0000:00:11.0"}


def test_a_card_is_read_alone_with_the_drivers_of_its_virtual_functions(tree: Tree) -> None:
    root = tree({"/proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n"})
    card = function(root, "pci0000:00/0000:01:00.0", sriov_totalvfs="7", sriov_numvfs="2", sriov_vf_device="1520")
    device(root, "net", "pci0000:00/0000:01:00.0/net/enp1s0", flags="0x1002")
    device(root, "net", "pci0000:00/0000:02:00.0/net/enp2s0", flags="0x1003")
    for number, driver in enumerate(("igbvf", "")):
        here = function(root, f"pci0000:00/0000:01:10.{number}")
        link(card / f"virtfn{number}", here)
        if driver:
            link(here / "driver", Path(root, "sys/bus/pci/drivers", driver))
    found = read_card("0000:01:00.0", root)
    assert found is not None
    assert (found.interfaces, found.drivers) == (("enp1s0",), {"0000:01:10.0": "igbvf"})
    assert (found.sriov.vf_device_id, found.sriov.link_up, found.sriov.writable) == ("1520", False, True)
    assert read_card("0000:01:10.0", root) is None
    assert read_card("0000:09:00.0", root) is None
    assert (link_is_up("enp2s0", root), link_is_up("gone", root)) == (True, None)
    assert read_boot_id(root) == "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize("text", ["", "not a uuid", "11111111-2222-3333-4444-555555555555 and more"])
def test_a_boot_that_has_no_name_is_told_by_no_name(text: str, tree: Tree) -> None:
    assert read_boot_id(tree({"/proc/sys/kernel/random/boot_id": text})) == ""


FILES = (
    "proc/cpuinfo", "proc/cmdline", "proc/interrupts", "proc/meminfo", "proc/swaps", "proc/self/mountinfo",
    "proc/net/route", "proc/net/ipv6_route", "proc/net/if_inet6", "proc/bus/input/devices",
    "proc/sys/kernel/osrelease", "sys/class/dmi/id/chassis_type", "sys/class/dmi/id/sys_vendor",
    "sys/class/iommu/dmar0/intel-iommu/ecap", "sys/module/kvm_amd/parameters/nested",
    "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
    "sys/devices/system/cpu/cpu0/topology/core_id", "sys/devices/system/cpu/cpu0/topology/physical_package_id",
)  # fmt: skip
ATTRIBUTES = (
    "class", "vendor", "revision", "numa_node", "boot_vga", "reset_method", "sriov_totalvfs", "sriov_numvfs",
    "sriov_offset", "sriov_stride", "sriov_vf_device", "sriov_drivers_autoprobe",
)  # fmt: skip
SEEDS = (
    "processor : 0\nflags :",
    "S: Sysfs=/devices/pci0000:00/0000:00:01.0/input\nH: Handlers=kbd\nB: KEY=",
    "22 1 8:0 / / rw - ext4 /dev/sda rw\n",
    *("eth0 0 ", "0x", "-1", "99999999999999999999", "1", "a\n" + "f " * 9),
)
GARBAGE = st.one_of(
    st.binary(max_size=80),
    st.tuples(st.sampled_from(SEEDS), st.text(max_size=40)).map(lambda p: (p[0] + p[1]).encode("utf-8", "replace")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=st.dictionaries(st.sampled_from(FILES), GARBAGE, max_size=8),
    attributes=st.dictionaries(st.sampled_from(ATTRIBUTES), GARBAGE, max_size=5),
)
def test_garbage_in_any_file_never_raises(files: dict[str, bytes], attributes: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as root:
        here = function(root, "pci0000:00/0000:00:01.0")
        device(root, "block", "pci0000:00/0000:00:01.0/block/sda", dev="8:0")
        device(root, "net", "pci0000:00/0000:00:01.0/net/eth0")
        for name, data in attributes.items():
            (here / name).write_bytes(data)
        for name, data in files.items():
            file = Path(root, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        whole(read(root))


def test_a_chroot_that_hides_the_root_file_system_leaves_mounted_disks_unknown(tree: Tree) -> None:
    root = tree(
        {"/sys/class/block/loop0/dev": "7:0", "/proc/self/mountinfo": "22 1 0:5 / /dev rw - devtmpfs udev rw\n"}
    )
    host = read(root)
    assert RoleName.MOUNTED_DISK not in host.roles_read
    assert any("chroot or container" in sentence for sentence in host.unknown)


def test_a_mounted_disk_that_sysfs_does_not_know_leaves_mounted_disks_unknown(tree: Tree) -> None:
    root = tree({"/sys/class/block/loop0/dev": "7:0", "/proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"})
    assert RoleName.MOUNTED_DISK not in read(root).roles_read


def test_a_card_with_a_driver_and_no_interface_may_serve_another_network_namespace(tree: Tree) -> None:
    root = tree({"/proc/net/route": ROUTE_HEAD, "/sys/class/net/lo/x": "", "/sys/bus/pci/drivers/igb/x": ""})
    card = function(root, "pci0000:00/0000:00:03.0", **{"class": "0x020000"})
    link(card / "driver", Path(root, "sys/bus/pci/drivers/igb"))
    host = whole(read(root))
    assert not {RoleName.NETWORK, RoleName.DEFAULT_ROUTE} & set(host.roles_read)
    assert any("another network namespace" in sentence for sentence in host.unknown)


@pytest.mark.parametrize(
    ("features", "through"),
    [("0" * 33 + "1" + "0" * 30, True), ("1" * 33 + "0" + "1" * 30, False), ("1" * 33, None), ("rubbish", None)],
    ids=["bit 33 is set", "bit 33 alone is not", "cut short", "rubbish"],
)
def test_whether_a_virtio_device_goes_through_the_iommu_is_read_from_its_features(
    features: str, through: bool | None, tmp_path: Path
) -> None:
    folder = function(str(tmp_path), "pci0000:00/0000:00:03.0", vendor="0x1af4", device="0x1041")
    (folder / "virtio0").mkdir()
    (folder / "virtio0/features").write_text(features + "\n")
    (read_function,) = whole(read(str(tmp_path))).pci
    assert read_function.access_platform is through


def test_a_balloon_that_declined_does_not_say_that_it_goes_past_the_iommu(tmp_path: Path) -> None:
    folder = function(str(tmp_path), "pci0000:00/0000:00:03.0", vendor="0x1af4", device="0x1045")
    (folder / "virtio0").mkdir()
    (folder / "virtio0/features").write_text("0" * 64 + "\n")
    link(folder / "virtio0/driver", tmp_path / "sys/bus/virtio/drivers/virtio_balloon")
    (read_function,) = whole(read(str(tmp_path))).pci
    assert read_function.access_platform is None

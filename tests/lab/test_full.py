"""Plans carried out: what the host and the guest inside show, against what the plan said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", ["full"], indirect=True, scope="session")]

Untouched = Callable[[], list[str]]
GPU, GPU_AUDIO, SRIOV_NIC, VF = "1002:5046", "8086:2668", "8086:10c9", "8086:10ca"


def uses_kvm(pc: Pc, name: str) -> bool:
    """Whether a VM's QEMU holds a KVM virtual machine, by the kernel's list of its open files."""
    pid = pc.ok(f"cat /run/libvirt/qemu/{name}.pid").strip()
    return "anon_inode:kvm-vm" in pc.ok(f"ls -l /proc/{pid}/fd")


def test_performance_passes_the_gpu_and_a_virtual_function(pc: Pc, untouched: Untouched) -> None:
    interface = pc.interface(SRIOV_NIC)
    assert not int(pc.ok(f"cat /sys/class/net/{interface}/flags"), 16) & 1, "the PF is down before"

    pc.up("performance", work="ping=192.0.2.1 from=192.0.2.2/24")
    pc.ok(f"ip address add 192.0.2.1/24 dev {interface}")
    assert uses_kvm(pc, "performance")
    assert pc.driver(pc.function(GPU)) == pc.driver(pc.function(GPU_AUDIO)) == "vfio-pci"
    assert pc.driver(pc.function(SRIOV_NIC)) == "igb", "the card itself stays with the host"

    report = pc.guest("performance")
    assert GPU in report.pci
    assert report.pci[GPU_AUDIO] == "snd_hda_intel"
    assert report.pci[VF] == "igbvf"
    assert "kvm-clock" in report.of("clocksource")[0]
    mac = pc.domain("performance").find("devices/interface/mac")
    assert mac is not None
    assert report.of("net") == [f"{mac.get('address')} driver igbvf carrier 1"]
    assert report.of("ping") == ["192.0.2.1 answered 3"]

    pc.ok(f"ip address del 192.0.2.1/24 dev {interface}")
    assert "shut down by itself" in pc.down("performance")
    assert pc.state() == untouched()


@pytest.mark.long
def test_two_guests_talk_over_virtual_functions_of_one_card(pc: Pc, untouched: Untouched) -> None:
    nic = {"prefer": ["vf"], "select": [pc.function(SRIOV_NIC)]}
    for number in (1, 2):
        pc.up(pc.profile(f"vf{number}", nic=nic), work=f"ping=192.0.2.{3 - number} from=192.0.2.{number}/24")
    assert pc.guest("vf2").of("ping") == ["192.0.2.1 answered 3"]
    pc.down("vf1")
    assert pc.host.file(f"/sys/bus/pci/devices/{pc.function(SRIOV_NIC)}/sriov_numvfs").content_string != "0\n"
    assert pc.ok("virsh domstate vf2").strip() == "running"
    pc.down("vf2")
    assert pc.state() == untouched()


@pytest.mark.long
def test_of_two_vms_that_want_the_one_gpu_one_has_it_and_the_other_runs_on_virtio(pc: Pc, untouched: Untouched) -> None:
    wants = {"gpu": {"prefer": ["passthrough", "paravirtual"]}, "display": {"prefer": ["emulated"]}}
    for name in ("first", "second"):
        pc.up(pc.profile(name, **wants))
    assert pc.driver(pc.function(GPU)) == "vfio-pci"
    assert [len(pc.domain(name).findall("devices/hostdev")) for name in ("first", "second")] == [2, 0]
    assert GPU in pc.guest("first").pci
    other = pc.guest("second").pci
    assert GPU not in other
    assert "1af4:1050" in other
    again = pc.plan("second")["gpu"]
    assert "used-by-vm" in {r["reason"] for r in again["rejected"] if r["device"] == pc.function(GPU)}
    for name in ("first", "second"):
        pc.down(name)
    assert pc.state() == untouched()


@pytest.mark.long
def test_a_trusted_virtual_function_is_trusted_by_the_card(pc: Pc, untouched: Untouched) -> None:
    card = pc.function(SRIOV_NIC)
    interface = pc.interface(SRIOV_NIC)
    pc.up(pc.profile("trusted", nic={"prefer": ["vf"], "select": [card], "trust": True}))
    mac = pc.domain("trusted").find("devices/interface/mac")
    assert mac is not None
    mine = [line for line in pc.ok(f"ip link show {interface}").splitlines() if mac.get("address", "-") in line]
    assert len(mine) == 1
    assert "trust on" in mine[0]
    pc.down("trusted", "--force")
    assert pc.state() == untouched()


@pytest.mark.long
def test_portable_touches_no_device_and_shows_virtio_alone(pc: Pc, untouched: Untouched) -> None:
    pc.up("portable", "--new-disk", "64 MiB", work="write=vda")
    assert pc.state() == untouched()
    assert uses_kvm(pc, "portable")
    report = pc.guest("portable")
    assert {ids for ids in report.pci if ids.startswith(("8086:10", "1002:"))} == set()
    assert [line.split(" driver ")[1] for line in report.of("net")] == ["virtio_net carrier 1"]
    assert [line.split()[0] for line in report.of("block")] == ["vda"]
    (written,) = report.of("write")
    assert written.startswith("vda sha256 ")
    disk = pc.domain("portable").find("devices/disk/source")
    assert disk is not None
    pc.down("portable")
    first = f"qemu-img dd -f qcow2 -O raw bs=64k count=16 if={disk.get('file')} of=/tmp/first && sha256sum /tmp/first"
    assert pc.ok(first).split()[0] == written.split()[-1]
    pc.ok(f"rm /tmp/first {disk.get('file')}")


def test_an_nvme_controller_is_written_by_the_guest_and_read_back_by_the_host(pc: Pc, untouched: Untouched) -> None:
    nvme = pc.function("1b36:0010")
    pc.up(pc.profile("flash", disk={"prefer": ["passthrough"], "select": [nvme]}), work="write=nvme0n1")
    assert pc.driver(nvme) == "vfio-pci"
    assert not pc.host.file("/dev/nvme0n1").exists
    report = pc.guest("flash")
    assert report.pci["1b36:0010"] == "nvme"
    (written,) = report.of("write")
    pc.down("flash")
    pc.ok("udevadm settle && udevadm wait /dev/nvme0n1")
    assert (
        pc.ok("dd if=/dev/nvme0n1 bs=64k count=16 iflag=direct status=none | sha256sum").split()[0]
        == written.split()[-1]
    )
    assert pc.state() == untouched()


def test_a_virtual_function_of_the_nvme_controller_is_written_beside_the_host(pc: Pc, untouched: Untouched) -> None:
    nvme = pc.function("1b36:0010")
    plan = pc.plan(pc.profile("share", disk={"prefer": ["vf"], "select": [nvme]}))
    assert plan["disk"]["virtual_function"] == {"physfn": nvme, "index": 0, "created": True}
    pc.up("share", work="write=nvme0n1")
    function = pc.host.file(f"/sys/bus/pci/devices/{nvme}/virtfn0").linked_to.rsplit("/", 1)[-1]
    assert pc.driver(function) == "vfio-pci"
    assert pc.driver(nvme) == "nvme", "the controller itself stays with the host"
    report = pc.guest("share")
    assert report.pci["1b36:0010"] == "nvme"
    (written,) = report.of("write")
    assert pc.first_mib("/dev/nvme0n1") == written.split()[-1], "the namespace is the host's too"
    pc.down("share")
    assert pc.state() == untouched()
    assert pc.first_mib("/dev/nvme0n1") == written.split()[-1]


def test_3d_needs_a_render_node_and_says_so(pc: Pc, untouched: Untouched) -> None:
    nodes = pc.run("ls /dev/dri/renderD*").rc == 0
    decision = pc.plan(pc.profile("threed", gpu={"prefer": ["paravirtual-3d", "paravirtual"]}))["gpu"]
    reasons = {r["reason"] for r in decision["rejected"] if r["strategy"] == "paravirtual-3d"}
    assert ("no-render-node" in reasons) is not nodes
    assert decision["strategy"] == ("paravirtual" if reasons else "paravirtual-3d")
    assert pc.state() == untouched()


@pytest.mark.long
def test_hyperv_and_a_level_of_x86_64_are_what_the_guest_sees(pc: Pc, untouched: Untouched) -> None:
    name = pc.profile("levels", cpu={"prefer": ["hardware-virtualization"], "model": "x86-64-v2"})
    path = f"/etc/clienthv/profiles/{name}.toml"
    pc.ok(f"sed -i 's/^\\[guest\\]/[guest]\\nos = \"win10\"/' {path}")
    pc.up(name)
    domain = pc.domain(name)
    assert domain.find("features/hyperv/relaxed") is not None
    assert uses_kvm(pc, name)
    report = pc.guest(name)
    assert report.of("hypervisor")
    assert report.of("cpu") == ["Common KVM processor"], "kvm64, whatever the PC has"
    pc.down(name)
    assert pc.state() == untouched()


@pytest.mark.long
def test_a_whole_card_alone_in_its_group_moves(pc: Pc, untouched: Untouched) -> None:
    card = pc.function("8086:10d3")
    pc.up(pc.profile("whole", nic={"prefer": ["passthrough"], "select": [card]}))
    assert pc.driver(card) == "vfio-pci"
    assert pc.guest("whole").pci["8086:10d3"] == "e1000e"
    pc.down("whole")
    assert pc.state() == untouched()


def test_a_group_is_not_split(pc: Pc, untouched: Untouched) -> None:
    card, sound = pc.function("8086:100e"), pc.function("8086:2415")
    alone = pc.profile("split", nic={"prefer": ["passthrough", "paravirtual"], "select": [card]})
    decision = pc.plan(alone)["nic"]
    assert decision["strategy"] == "paravirtual"
    (reason,) = [r for r in decision["rejected"] if r["device"] == card]
    assert reason["reason"] == "iommu-group-stays"
    assert sound in reason["detail"]

    refused = pc.clienthv("up", pc.profile("split", nic={"prefer": ["passthrough"], "select": [card]}))
    assert refused.rc != 0
    assert sound in refused.stderr
    assert pc.state() == untouched()


@pytest.mark.long
def test_a_group_moves_whole(pc: Pc, untouched: Untouched) -> None:
    card, sound = pc.function("8086:100e"), pc.function("8086:2415")
    both = {
        "nic": {"prefer": ["passthrough"], "select": [card]},
        "audio": {"prefer": ["passthrough"], "select": [sound]},
    }
    pc.up(pc.profile("both", **both))
    assert pc.driver(card) == pc.driver(sound) == "vfio-pci"
    report = pc.guest("both")
    assert report.pci["8086:100e"] == "e1000"
    assert report.pci["8086:2415"] == "snd_intel8x0"
    pc.down("both")
    assert pc.state() == untouched()


@pytest.mark.parametrize(
    ("kind", "ids", "reason", "evidence"),
    [
        ("gpu", "1234:1111", "boot-display", "boot_vga"),
        ("nic", "1af4:1041", "default-route", "/proc/net/route"),
        ("disk", "1af4:1042", "mounted-disk", "/ is on vda"),
        ("usb", "1b36:000d", "host-input", "ID_INPUT_KEYBOARD"),
    ],
    ids=["boot display", "the card that carries ssh", "root disk", "only keyboard"],
)
def test_what_the_host_needs_is_refused_with_its_evidence(
    pc: Pc, untouched: Untouched, kind: str, ids: str, reason: str, evidence: str
) -> None:
    address = pc.function(ids)
    profile = pc.profile("greedy", **{kind: {"prefer": ["passthrough"], "select": [address]}})
    refused = pc.clienthv("up", profile)
    assert refused.rc != 0
    assert f"[{reason}]" in refused.stderr
    assert address in refused.stderr
    assert evidence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert pc.state() == untouched()


def test_the_tpm_is_passed(pc: Pc, untouched: Untouched) -> None:
    pc.up(pc.profile("sealed", tpm={"prefer": ["passthrough"]}))
    backend = pc.domain("sealed").find("devices/tpm/backend")
    assert backend is not None
    assert backend.get("type") == "passthrough"
    assert pc.guest("sealed").of("tpm") == ["tpm0 version 2"]
    pc.down("sealed")
    pc.ok("test -c /dev/tpm0")


def test_a_usb_stick_is_passed_and_comes_back(pc: Pc, untouched: Untouched) -> None:
    stick = "46f4:0001"
    pc.ok("udevadm wait /dev/sda")
    pc.up(pc.profile("stick", usb={"prefer": ["emulated"], "devices": [stick]}), work="write=sda")
    assert not pc.host.file("/dev/sda").exists
    report = pc.guest("stick")
    assert stick in report.of("usb")
    (written,) = report.of("write")
    pc.down("stick")
    pc.ok("udevadm wait /dev/sda")
    assert pc.first_mib("/dev/sda") == written.split()[-1]

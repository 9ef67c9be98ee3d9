"""The lab PC is what the other tests take it for, by its kernel's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Pc

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", ["full"], indirect=True, scope="session")]

HARDWARE = {
    "1234:1111": ("03", "the boot display"),
    "1002:5046": ("03", "the spare graphics card"),
    "8086:2668": ("04", "its audio function"),
    "8086:10c9": ("02", "a network card with SR-IOV"),
    "1b36:0010": ("01", "an NVMe disk with SR-IOV"),
    "8086:10d3": ("02", "a second network card"),
    "8086:100e": ("02", "a network card behind a conventional bridge"),
    "8086:2415": ("04", "sound behind the same bridge"),
    "1b36:000d": ("0c", "USB"),
}


@pytest.mark.parametrize("ids", HARDWARE, ids=lambda ids: HARDWARE[ids][1])
def test_the_hardware_is_there(pc: Pc, ids: str) -> None:
    address = pc.function(ids)
    assert pc.host.file(f"/sys/bus/pci/devices/{address}/class").content_string.startswith(f"0x{HARDWARE[ids][0]}")


def test_kvm_nests_with_nested_paging(pc: Pc) -> None:
    pc.ok("test -c /dev/kvm")
    assert {"svm", "vmx"} & set(pc.host.file("/proc/cpuinfo").content_string.split())
    paging = pc.ok("cat /sys/module/kvm_amd/parameters/npt /sys/module/kvm_intel/parameters/ept 2>/dev/null || true")
    assert paging.split()[0] in {"1", "Y"}


def test_the_iommu_isolates_and_remaps_interrupts(pc: Pc) -> None:
    assert pc.host.file("/sys/firmware/acpi/tables/DMAR").exists
    assert int(pc.ok("ls /sys/kernel/iommu_groups | wc -l")) > 0
    assert "DMAR-IR: Enabled IRQ remapping" in pc.ok("journalctl -kb -o cat --no-pager")


def test_the_groups_are_as_the_hardware_makes_them(pc: Pc) -> None:
    def group(ids: str) -> set[str]:
        address = pc.function(ids)
        members = pc.ok(f"ls /sys/bus/pci/devices/{address}/iommu_group/devices").split()
        return {pc.ok(f"lspci -D -n -s {m}").split()[2] for m in members}

    assert group("1002:5046") == {"1002:5046", "8086:2668"}
    assert group("8086:100e") == {"8086:100e", "8086:2415", "1b36:000e"}
    assert group("8086:10d3") == {"8086:10d3"}
    assert group("8086:10c9") == {"8086:10c9"}


def test_sriov_is_offered(pc: Pc) -> None:
    for ids, total in (("8086:10c9", "7"), ("1b36:0010", "2")):
        folder = f"/sys/bus/pci/devices/{pc.function(ids)}"
        assert pc.host.file(f"{folder}/sriov_totalvfs").content_string.strip() == total
        assert pc.host.file(f"{folder}/sriov_numvfs").content_string.strip() == "0"


def test_usb_and_tpm_are_there(pc: Pc) -> None:
    pc.ok("test -c /dev/tpm0")
    assert pc.host.file("/sys/class/tpm/tpm0/tpm_version_major").content_string.strip() == "2"
    listed = pc.ok("lsusb")
    assert listed.count("0627:0001") == 2  # keyboard and tablet
    assert listed.count("46f4:0001") == 1  # storage
    assert not pc.host.file("/sys/bus/serio/devices/serio0").exists  # the USB keyboard is the only one


def test_the_boot_display_is_the_first_card(pc: Pc) -> None:
    flags = {ids: f"/sys/bus/pci/devices/{pc.function(ids)}/boot_vga" for ids in ("1234:1111", "1002:5046")}
    assert {ids: pc.host.file(path).content_string.strip() for ids, path in flags.items()} == {
        "1234:1111": "1",
        "1002:5046": "0",
    }


def test_memory_stays_below_the_limit_of_the_virtual_functions(pc: Pc) -> None:
    total_kib = int(pc.ok("awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    assert total_kib <= 2800 << 10


def test_libvirt_starts_when_asked_and_clienthv_is_installed_as_a_user_installs_it(pc: Pc) -> None:
    assert pc.host.socket("unix:///run/libvirt/libvirt-sock").is_listening
    assert pc.host.package("python3-libvirt").is_installed
    assert pc.host.file("/usr/local/bin/clienthv").is_symlink
    assert pc.ok("clienthv --version").startswith("clienthv, version ")


def test_the_pc_reaches_nothing_but_us(pc: Pc) -> None:
    assert pc.host.interface.default().name == pc.ok("basename /sys/bus/pci/devices/*/virtio*/net/*").strip()
    assert pc.run("timeout 5 bash -c '</dev/tcp/1.1.1.1/53'").rc != 0

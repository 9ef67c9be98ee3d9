"""The reader as it runs live, over described PCs that umockdev's preload shows it instead of this one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clienthv.inspect import anonymise
from clienthv.model.host import Connector, Host, RoleName, SrIov, encode

Replayed = Callable[[str], Host]
PCS = ("laptop", "desktop", "iommu_off", "nothing")


def held(host: Host, role: RoleName) -> dict[str, tuple[str, ...]]:
    return {r.address: r.evidence for r in host.roles if r.role is role}


@pytest.fixture
def laptop(replayed: Replayed) -> Host:
    return replayed("laptop")


@pytest.fixture
def desktop(replayed: Replayed) -> Host:
    return replayed("desktop")


@pytest.mark.parametrize("name", ["laptop", "desktop", "iommu_off"])
def test_a_pc_without_containers_has_every_role_looked_for(replayed: Replayed, name: str) -> None:
    assert replayed(name).roles_read == tuple(RoleName)


def test_the_gpu_is_read_with_all_its_fields(laptop: Host) -> None:
    gpu = laptop.by_address["0000:01:00.0"]
    assert gpu.class_code == "030200"
    assert (gpu.vendor_id, gpu.device_id, gpu.revision, gpu.driver) == ("10de", "1f95", "a1", "nouveau")
    assert (gpu.vendor, gpu.device) == ("NVIDIA Corporation", "TU117M [GeForce GTX 1650 Ti Mobile]")
    assert (gpu.drm_card, gpu.render_node) == ("card1", "renderD129")
    assert gpu.connectors == (Connector(name="HDMI-A-1", connected=None),)
    assert gpu.reset_methods == ("flr", "bus")
    assert gpu.bridge_path == ("0000:00:01.0",)


def test_the_gpu_and_its_audio_function_share_a_group_with_their_root_port(laptop: Host) -> None:
    assert [f.address for f in laptop.by_group[1]] == ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1"]


def test_ids_of_the_subsystem_and_the_numa_node_are_read(laptop: Host) -> None:
    igpu = laptop.by_address["0000:00:02.0"]
    assert (igpu.subsystem_vendor_id, igpu.subsystem_device_id) == ("1028", "097d")
    assert igpu.numa_node is None
    assert laptop.by_address["0000:3b:00.0"].numa_node == 0


def test_the_panel_makes_its_gpu_the_boot_and_the_connected_display(laptop: Host) -> None:
    assert held(laptop, RoleName.BOOT_DISPLAY) == {"0000:00:02.0": ("/sys/bus/pci/devices/0000:00:02.0/boot_vga: 1",)}
    assert held(laptop, RoleName.CONNECTED_DISPLAY) == {
        "0000:00:02.0": ("/sys/class/drm/card0-eDP-1/status: connected",)
    }


def test_a_root_on_lvm_on_luks_leads_to_the_nvme_controller(laptop: Host) -> None:
    assert held(laptop, RoleName.MOUNTED_DISK) == {
        "0000:3b:00.0": (
            "/proc/self/mountinfo: / is on dm-1 on dm-0 on nvme0n1p3 on nvme0n1",
            "/proc/self/mountinfo: /boot/efi is on nvme0n1p1 on nvme0n1",
            "/proc/self/mountinfo: /home/jane/my photos is on dm-1 on dm-0 on nvme0n1p3 on nvme0n1",
            "/proc/swaps: swap is on dm-2 on dm-0 on nvme0n1p3 on nvme0n1",
        )
    }


def test_a_usb_stick_that_is_not_mounted_belongs_to_its_controller_and_gives_no_role(laptop: Host) -> None:
    assert laptop.by_address["0000:00:14.0"].block_devices == ("sda",)
    assert "0000:00:14.0" not in held(laptop, RoleName.MOUNTED_DISK)


def test_wifi_with_the_default_route_has_both_network_roles(laptop: Host) -> None:
    assert set(held(laptop, RoleName.DEFAULT_ROUTE)) == {"0000:3a:00.0"}
    assert held(laptop, RoleName.NETWORK) == {"0000:3a:00.0": ("/proc/net/route: wlp58s0 has an address",)}
    assert laptop.by_address["0000:3a:00.0"].interfaces == ("wlp58s0",)


def test_a_usb_keyboard_marks_its_controller_and_headphone_jacks_do_not(laptop: Host) -> None:
    assert held(laptop, RoleName.INPUT) == {"0000:00:14.0": ("udev: input7 has ID_INPUT_KEYBOARD=1",)}


def test_the_laptops_processor_memory_and_firmware_are_read(laptop: Host) -> None:
    cpu = laptop.cpu
    assert (cpu.sockets, cpu.cores, cpu.threads, cpu.numa_nodes) == (1, 2, 4, 1)
    assert (cpu.virtualization, cpu.nested_paging, cpu.hypervisor) == ("vmx", True, False)
    assert (laptop.memory.total_mib, laptop.memory.available_mib) == (31850, 20000)
    assert (laptop.machine.vendor, laptop.machine.product) == ("Dell Inc.", "XPS 15 9500")
    assert laptop.machine.chassis == "laptop"
    assert laptop.tpm_device is True
    assert (laptop.kvm.module, laptop.kvm.nested) == ("kvm_intel", True)


def test_an_iommu_that_is_on_is_told_with_its_evidence(laptop: Host) -> None:
    iommu = laptop.iommu
    assert (iommu.kind, iommu.acpi_table, iommu.enabled, iommu.groups) == ("vt-d", "DMAR", True, 8)
    assert iommu.parameters == ("intel_iommu=on", "iommu=pt")
    assert (iommu.interrupt_remapping, iommu.acs_override) == (True, False)
    assert "/proc/interrupts: has IR-IO-APIC" in iommu.evidence


def test_a_device_node_that_is_not_kvm_makes_no_vms(laptop: Host) -> None:
    assert (laptop.kvm.device_openable, laptop.kvm.vm_creatable, laptop.kvm.usable) == (True, False, False)


def test_nothing_of_a_fully_readable_pc_is_called_unknown(laptop: Host) -> None:
    assert laptop.unknown == ()


def test_anonymised_the_laptop_tells_nothing_of_its_owner(laptop: Host) -> None:
    text = encode(anonymise(laptop)).decode()
    for private in ("jane", "Jane", "janes-xps", "secretvg", "6e5ad0f9", "photos"):
        assert private not in text
    assert "/proc/self/mountinfo: a mounted filesystem is on dm-1" in text
    assert "intel_iommu=on" in text


def test_virtual_functions_and_their_physical_function_know_each_other(desktop: Host) -> None:
    first, second = (desktop.by_address[f"0000:06:00.{n}"].sriov for n in (0, 1))
    assert first is not None
    assert (first.totalvfs, first.numvfs, first.virtfns) == (7, 2, ("0000:06:10.0", "0000:06:10.2"))
    assert second is not None
    assert (second.totalvfs, second.numvfs, second.virtfns) == (7, 0, ())
    assert desktop.by_address["0000:06:10.2"].physfn == "0000:06:00.0"
    assert desktop.by_address["0000:06:10.2"].sriov is None
    assert desktop.by_address["0000:06:10.2"].driver == ""


def test_where_virtual_functions_are_and_whether_their_card_can_be_used_is_told(desktop: Host) -> None:
    known = desktop.by_address["0000:06:00.0"].sriov
    assert known == SrIov(
        totalvfs=7, numvfs=2, virtfns=("0000:06:10.0", "0000:06:10.2"), offset=384, stride=2, vf_device_id="10ca",
        drivers_autoprobe=False, link_up=True, writable=known.writable if known else None,
    )  # fmt: skip
    unknown = desktop.by_address["0000:06:00.1"].sriov
    assert unknown is not None
    assert (unknown.offset, unknown.stride, unknown.vf_device_id, unknown.drivers_autoprobe) == (None,) * 4
    assert unknown.link_up is False


def test_a_default_route_over_a_bridge_leads_to_the_bridges_port(desktop: Host) -> None:
    assert held(desktop, RoleName.DEFAULT_ROUTE) == {
        "0000:06:00.0": (
            "/proc/net/route: default route through br0 on enp6s0f0",
            "/proc/net/ipv6_route: default route through br0 on enp6s0f0",
        )
    }


def test_the_other_port_with_only_a_link_local_address_is_free(desktop: Host) -> None:
    assert set(held(desktop, RoleName.NETWORK)) == {"0000:06:00.0"}
    assert "/sys/class/net/enp6s0f0: is part of br0" in held(desktop, RoleName.NETWORK)["0000:06:00.0"]


def test_a_root_on_raid_leads_to_the_controller_of_both_disks(desktop: Host) -> None:
    assert held(desktop, RoleName.MOUNTED_DISK) == {
        "0000:01:00.1": (
            "/proc/self/mountinfo: / is on md0 on sda1 on sda",
            "/proc/self/mountinfo: / is on md0 on sdb1 on sdb",
        )
    }
    assert desktop.by_address["0000:01:00.1"].block_devices == ("sda", "sdb")


def test_a_mouse_is_found_without_udev_properties(desktop: Host) -> None:
    assert held(desktop, RoleName.INPUT) == {"0000:01:00.0": ("/proc/bus/input/devices: input5 is a pointing device",)}


def test_the_outputs_of_a_gpu_without_a_display_driver_are_unknown(desktop: Host) -> None:
    gpu = desktop.by_address["0000:07:00.0"]
    assert (gpu.driver, gpu.boot_vga, gpu.connectors, gpu.reset_methods) == ("vfio-pci", False, None, ())
    assert held(desktop, RoleName.BOOT_DISPLAY) == {}


def test_plain_interrupt_chips_with_the_iommu_on_mean_no_remapping(desktop: Host) -> None:
    assert desktop.iommu.kind == "amd-vi"
    assert desktop.iommu.interrupt_remapping is False
    assert desktop.iommu.acs_override is True
    assert any("amd_iommu=on is not a value" in said for said in desktop.iommu.evidence)


def test_before_linux_5_15_a_missing_reset_method_is_unknown_and_later_it_is_none(laptop: Host, desktop: Host) -> None:
    assert laptop.by_address["0000:3b:00.0"].reset_methods == ()
    assert desktop.by_address["0000:06:00.1"].reset_methods is None


def test_an_iommu_that_is_off_is_there_and_not_enabled(replayed: Replayed) -> None:
    iommu = replayed("iommu_off").iommu
    assert (iommu.kind, iommu.acpi_table, iommu.enabled, iommu.groups) == ("vt-d", "DMAR", False, 0)
    assert iommu.interrupt_remapping is None
    assert any("CONFIG_INTEL_IOMMU_DEFAULT_ON" in said for said in iommu.evidence)


def test_a_container_has_no_functions_and_says_what_it_cannot_see(replayed: Replayed) -> None:
    host = replayed("nothing")
    assert host.pci == ()
    assert host.roles == ()
    assert not host.read(RoleName.MOUNTED_DISK)
    assert any("mounted-disk" in sentence and "overlay" in sentence for sentence in host.unknown)


@pytest.mark.parametrize("name", PCS)
def test_anonymising_twice_changes_nothing_more(replayed: Replayed, name: str) -> None:
    once = anonymise(replayed(name))
    assert anonymise(once) == once
    assert once.name == "this PC"

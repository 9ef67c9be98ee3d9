"""USB devices: what they are, what hangs on them, and that nothing of their owner or their own wit is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clienthv.inspect import anonymise, read
from clienthv.inspect.places import usb_port
from clienthv.inspect.usb import own_name, plain_name
from clienthv.model.host import Host, RoleName, decode, encode
from clienthv.model.usb import UsbDevice
from clienthv.report import hosts

Tree = Callable[[dict[str, str]], str]
Replayed = Callable[[str], Host]


@pytest.fixture
def pc(replayed: Replayed) -> Host:
    return replayed("usb")


def held(device: UsbDevice) -> dict[RoleName, tuple[str, ...]]:
    return {role.role: role.evidence for role in device.roles}


def listed(root: str, place: str, **attributes: str) -> Path:
    """A USB device or interface at a place below /sys/devices, listed on its bus."""
    folder = Path(root, "sys/devices", place)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in attributes.items():
        (folder / name).write_text(text + "\n")
    bus = Path(root, "sys/bus/usb/devices")
    bus.mkdir(parents=True, exist_ok=True)
    (bus / folder.name).symlink_to(os.path.relpath(folder, bus))
    return folder


def test_devices_are_read_in_the_order_of_their_places_and_interfaces_are_none(pc: Host) -> None:
    assert [d.port for d in pc.usb or ()] == ["usb1", "1-2", "1-10", "1-10.2", "2-1", "2-2", "2-3"]


def test_a_keyboard_on_a_hub_is_read_with_all_its_fields(pc: Host) -> None:
    keyboard = pc.usb_by_port["1-10.2"]
    assert (keyboard.busnum, keyboard.devnum, keyboard.ids) == (1, 5, "046d:c31c")
    assert (keyboard.vendor, keyboard.product) == ("Logitech, Inc.", "Keyboard K120")
    assert (keyboard.device_class, keyboard.interface_classes) == ("00", ("030101",))
    assert (keyboard.controller, keyboard.drivers) == ("0000:00:14.0", ("usbhid",))
    assert (keyboard.block_devices, keyboard.network_interfaces) == ((), ())
    assert keyboard.keyboard is True
    assert "udev: input7 has ID_INPUT_KEYBOARD=1" in held(keyboard)[RoleName.INPUT]


def test_hubs_are_told_and_carry_no_role_of_what_is_plugged_into_them(pc: Host) -> None:
    assert [d.port for d in pc.usb or () if d.is_hub] == ["usb1", "1-10"]
    assert pc.usb_by_port["1-10"].roles == ()


def test_a_mouses_receiver_is_no_keyboard_though_it_could_be_one(pc: Host) -> None:
    receiver = pc.usb_by_port["1-2"]
    assert (receiver.keyboard, receiver.may_be_keyboard) == (False, True)
    assert held(receiver) == {RoleName.INPUT: ("udev: input9 has ID_INPUT_MOUSE=1",)}


def test_a_mounted_stick_carries_a_mounted_disk_and_so_does_its_controller(pc: Host) -> None:
    stick = pc.usb_by_port["2-1"]
    assert stick.block_devices == ("sdb",)
    assert "/proc/self/mountinfo: /srv/jane is on sdb1 on sdb" in held(stick)[RoleName.MOUNTED_DISK]
    assert ("0000:03:00.0", RoleName.MOUNTED_DISK) in {(r.address, r.role) for r in pc.roles}


def test_a_network_adapter_carries_the_default_route(pc: Host) -> None:
    adapter = pc.usb_by_port["2-2"]
    assert adapter.network_interfaces == ("enx001122aabbcc",)
    assert set(held(adapter)) == {RoleName.DEFAULT_ROUTE, RoleName.NETWORK}


def test_values_that_cannot_be_are_unknown(pc: Host) -> None:
    odd = pc.usb_by_port["2-3"]
    assert (odd.vendor_id, odd.device_class, odd.busnum, odd.devnum) == ("fffe", None, 2, None)


def test_a_name_that_attacks_a_terminal_is_one_plain_line_and_xml_is_left_to_who_writes_it(pc: Host) -> None:
    odd = pc.usb_by_port["2-3"]
    assert odd.label == "[2J Evil & <sons> ]]><stick> second line <scrubbed>"
    assert all(line.isprintable() for line in hosts.lines(pc))


def test_a_serial_number_is_nowhere_in_the_document_even_with_names_kept(pc: Host) -> None:
    assert "SN4C530001091105" not in encode(pc).decode()


def test_anonymised_a_usb_disk_and_adapter_tell_nothing_of_their_owner(pc: Host) -> None:
    clean = anonymise(pc)
    text = encode(clean).decode()
    assert [private for private in ("jane", "photos", "001122") if private in text] == []
    assert held(clean.usb_by_port["2-1"]) == {
        RoleName.MOUNTED_DISK: ("/proc/self/mountinfo: a mounted filesystem is on sdb1 on sdb",)
    }
    assert clean.usb_by_port["2-2"].network_interfaces == ("net0",)
    assert anonymise(clean) == clean
    assert decode(encode(clean), "usb") == clean


def test_keyboards_that_are_not_on_usb_are_told(replayed: Replayed, pc: Host) -> None:
    assert replayed("laptop").other_keyboards == ("udev: input3 has ID_INPUT_KEYBOARD=1",)
    assert pc.other_keyboards == ()


def test_where_udev_is_silent_the_kernels_list_tells_keyboards_and_virtual_ones_are_none(tree: Tree) -> None:
    keys = "B: KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n"
    paths = ("pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/0003:1.1/input/input4", "platform/i8042/serio0/input/input1",
             "virtual/input/input9")  # fmt: skip
    root = tree(
        {
            "/proc/bus/input/devices": "\n".join(
                f"S: Sysfs=/devices/{path}\nH: Handlers=sysrq kbd event0\n{keys}" for path in paths
            )
        }
    )
    listed(root, "pci0000:00/0000:00:14.0/usb1/1-2", idVendor="046d", idProduct="c31c")
    host = read(root)
    assert host.usb_by_port["1-2"].keyboard is True
    assert host.other_keyboards == ("/proc/bus/input/devices: input1 is a keyboard",)


def test_a_kernel_without_usb_has_no_devices_and_a_trimmed_tree_says_nothing(tree: Tree) -> None:
    assert read(tree({"/proc/cmdline": "quiet"})).usb is None
    assert any("USB" in sentence for sentence in read(tree({})).unknown)
    assert read(tree({"/sys/class/net/.keep": ""})).usb == ()


def test_what_a_trimmed_tree_does_not_tell_of_a_device_is_unknown(tree: Tree) -> None:
    root = tree({})
    listed(root, "platform/vhci_hcd.0/usb3/3-1", idVendor="zzzz", busnum="-3", bDeviceClass="٣٣")
    listed(root, "platform/vhci_hcd.0/usb3/3-1/3-1:1.0", bInterfaceClass="03")
    listed(root, "platform/vhci_hcd.0/usb3/3-01", idVendor="046d")
    (device,) = read(root).usb or ()
    assert device == UsbDevice(port="3-1")


def test_usb_names_fall_back_to_what_the_device_says_and_lose_what_looks_like_a_serial() -> None:
    assert own_name("DataTraveler 3.0 60A44C413FB2F2A1B9") == "DataTraveler 3.0 <scrubbed>"
    assert own_name("AX88179 Gigabit Ethernet") == "AX88179 Gigabit Ethernet"
    assert plain_name("\x00\n \u202e") is None
    assert len(plain_name("x" * 5000) or "") == 126


@pytest.mark.parametrize(
    ("path", "port"),
    [
        ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3.2/1-3.2:1.0/host4/block/sda", "1-3.2"),
        ("/sys/devices/pci0000:00/0000:00:14.0/usb12/12-14/12-14:1.0/net/eth0", "12-14"),
        ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-0:1.0", None),
        ("/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda", None),
        ("/sys/devices/pci0000:00/0000:00:15.0/i2c_designware.0/i2c-1/1-15/input/input3", None),
    ],
)
def test_what_hangs_on_usb_is_known_by_its_path(path: str, port: str | None) -> None:
    assert usb_port(path) == port

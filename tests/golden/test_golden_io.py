"""Networks, USB devices and input of three PCs: what a profile that asks for them gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clienthv import planner, profiles, render
from clienthv.model import host as host_model
from clienthv.model import plan as plan_model
from clienthv.model.host import DomainCapabilities, Host, RoleName, Stack
from clienthv.model.input import EventDevice
from clienthv.model.network import Bridge, Card, HostNetwork, VirtualNetwork
from clienthv.model.profile import ProfileText, chain_of, parse
from clienthv.model.usb import UsbDevice, UsbRole
from clienthv.model.vm import Options, Vm

HERE = Path(__file__).resolve().parent
RECORDED = HERE.parent / "hosts" / "desk-x570-3rdgen-rx580-gt710-b.json"

Golden = Callable[[Path, bytes], None]

PROFILE = """
extends = "balanced"
[guest]
drivers = ["virtio"]
[devices.nic]
network = ["bridge", "bridge:br9", "macvtap:eth0", "macvtap:wlan0", "network", "network:lab", "passt", "user"]
[devices.usb]
devices = ["class:webcam", "class:smart-card", "class:bluetooth", "class:fingerprint-reader", "05e3:0608", "0781:5567"]
[devices.input]
prefer = ["passthrough", "paravirtual", "emulated"]
evdev = ["platform-i8042-serio-0-event-kbd", "pci-0000:00:14.0-usb-0:2:1.0-event-mouse"]
"""


def usb(port: str, ids: str, *classes: str, **more: object) -> UsbDevice:
    vendor_id, product_id = ids.split(":")
    known = {"port": port, "vendor_id": vendor_id, "product_id": product_id, "busnum": int(port[0]), "devnum": 5}
    rest = {
        "interface_classes": classes,
        "block_devices": (),
        "network_interfaces": (),
        "keyboard": False,
        "drivers": (),
    }
    return msgspec.convert({**known, **rest, **more}, UsbDevice)


CAMERA = usb("1-4", "046d:0825", "0e0100", "010100")
ODD = usb("1-9", "27c6:5395", "ff0000")
HUB = usb("1-1", "05e3:0608", "090000", device_class="09")
STICK = usb("1-5", "0781:5567", "080650", block_devices=("sdb",))
RADIO = usb("1-10", "8087:0aaa", "e00101", roles=(UsbRole(role=RoleName.INPUT, evidence=("a mouse hangs on it",)),))
OFFERED = DomainCapabilities(
    domain_type="kvm", emulator="/usr/bin/qemu-system-x86_64", cpu_modes=("host-model",), firmware=("efi",),
    video_models=("vga", "virtio"), graphics=("spice", "vnc"), disk_buses=("sata", "virtio"),
    net_backends=("default", "passt"),
)  # fmt: skip
STACK = Stack(
    uri="qemu:///system", privileged=True, libvirt_version="11.3.0", qemu_version="10.0.2", capabilities=OFFERED
)
KEYS = EventDevice(links=("by-path/platform-i8042-serio-0-event-kbd",), kind="keyboard")
MOUSE = EventDevice(links=("by-path/pci-0000:00:14.0-usb-0:2:1.0-event-mouse",), kind="pointer", port="1-2")
NAT = VirtualNetwork(name="default", active=False, forward="nat", bridge="virbr0")

PCS = {
    "workstation": {
        "network": HostNetwork(
            bridges=(Bridge(name="br0", ports=("eth0",), up=False), Bridge(name="virbr0", ports=(), up=False)),
            cards=(Card(name="eth0", up=True, wireless=False, master="br0"),),
            helper_allows=(), passt=False, default_route=True,
        ),
        "stack": msgspec.structs.replace(STACK, networks=(NAT,)),
        "usb": (CAMERA, msgspec.structs.replace(CAMERA, port="3-1", devnum=7, busnum=3), HUB, STICK),
        "events": (KEYS,),
    },
    "laptop": {
        "network": HostNetwork(
            bridges=(Bridge(name="br7", ports=("eth0",), up=False),),
            cards=(Card(name="eth0", up=False, wireless=False, master=""),
                   Card(name="wlan0", up=True, wireless=True, master="")),
            helper_allows=("br7",), passt=False, default_route=True,
        ),
        "stack": msgspec.structs.replace(STACK, networks=(NAT,)),
        "usb": (CAMERA, ODD, RADIO),
        "events": (KEYS, MOUSE),
    },
    "session": {
        "network": HostNetwork(
            bridges=(Bridge(name="br7", ports=("eth0",), up=True),),
            cards=(Card(name="eth0", up=True, wireless=False, master=""),),
            helper_allows=None, passt=None, default_route=True,
        ),
        "stack": msgspec.structs.replace(STACK, uri="qemu:///session", privileged=False, networks=()),
        "usb": (),
    },
}  # fmt: skip


def recorded(name: str) -> Host:
    host = host_model.decode(RECORDED.read_bytes(), RECORDED.name)
    whole = msgspec.structs.replace(host, name=name, roles_read=tuple(RoleName), **PCS[name])
    assert host_model.decode(host_model.encode(whole), name) == whole
    return whole


@pytest.mark.parametrize("name", PCS)
def test_a_profile_that_asks_for_networks_and_usb_gets_what_was_looked_at(name: str, golden: Golden) -> None:
    host = recorded(name)
    own = ProfileText("asking", "asking", PROFILE)
    plan = planner.plan(host, parse(chain_of(own, profiles.find_next)))
    golden(HERE / "io" / f"{name}.plan.json", plan_model.encode(plan))
    options = Options(disk="/srv/images/guest.qcow2", disk_format="qcow2")
    xml = render.render(Vm(name="guest", plan=plan, profile=(), options=options), host)
    before, _, rest = xml.partition("<metadata>")
    golden(HERE / "io" / f"{name}.domain.xml", (before + rest.partition("</metadata>")[2].lstrip("\n")).encode())


def test_no_golden_file_is_left_over_from_a_pc_that_is_gone() -> None:
    assert {p.name.partition(".")[0] for p in (HERE / "io").iterdir()} == set(PCS)

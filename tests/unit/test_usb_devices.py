"""Which single USB devices a guest gets, and what keeps one with the host."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from clienthv import planner
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, Role, RoleName, Stack
from clienthv.model.plan import Decision, Kind, Plan, Reason, Rejected, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice, UsbRole
from clienthv.report import plans, vms

R, S = Reason, Strategy

XHCI = PciFunction(address="0000:00:14.0", class_code="0c0330", driver="xhci_hcd", iommu_group=6)
SECOND = PciFunction(address="0000:03:00.0", class_code="0c0330", driver="xhci_hcd", iommu_group=7)


def usb(port: str, ids: str, **more: Any) -> UsbDevice:
    vendor_id, product_id = ids.split(":")
    known: dict[str, Any] = {
        "busnum": int(port[0]), "devnum": 5, "device_class": "00", "interface_classes": ("ff0000",),
        "drivers": ("some",), "controller": XHCI.address, "block_devices": (), "network_interfaces": (),
        "keyboard": False,
    }  # fmt: skip
    return UsbDevice(port=port, vendor_id=vendor_id, product_id=product_id, **{**known, **more})


def using(role: RoleName, evidence: str = "the kernel said so") -> tuple[UsbRole, ...]:
    return (UsbRole(role=role, evidence=(evidence,)),)


KEYS = {"interface_classes": ("030101",), "keyboard": True, "roles": using(RoleName.INPUT)}
CAMERA = usb("1-4", "046d:0825", vendor="Logitech, Inc.", product="Webcam C270", drivers=("snd-usb-audio", "uvcvideo"))
KEYBOARD = usb("1-2", "046d:c31c", **KEYS)
SPARE = usb("1-3", "04d9:1702", **KEYS)
RECEIVER = usb("1-6", "046d:c52b", interface_classes=("030101", "030102"), roles=using(RoleName.INPUT))
MOUSE = usb("1-7", "046d:c077", interface_classes=("030102",), roles=using(RoleName.INPUT))
STICK = usb("1-5", "0781:5567", block_devices=("sdb",), interface_classes=("080650",))
ADAPTER = usb("2-1", "0b95:1790", network_interfaces=("eth0",), controller=SECOND.address)
HUB = usb("1-1", "05e3:0608", device_class="09")


def but(thing: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(thing, **changes)


def pc(*devices: UsbDevice, **more: Any) -> Host:
    known: dict[str, Any] = {
        "usb": devices, "other_keyboards": (), "roles_read": tuple(RoleName), "kvm": Kvm(usable=True),
        "iommu": Iommu(enabled=True, interrupt_remapping=True), "pci": (XHCI, SECOND),
    }  # fmt: skip
    return Host(**{**known, **more})


def planned(host: Host, *names: str, **usb_table: Any) -> Plan:
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"devices": names} | usb_table).items()]
    return planner.plan(host, parse((ProfileText("test", "test.toml", "\n".join(["[devices.usb]", *lines])),)))


def decided(host: Host, name: str, **usb_table: Any) -> Decision:
    (decision,) = planned(host, name, **usb_table).all_of(Kind.USB_DEVICE)
    return decision


def refused(host: Host, name: str, **usb_table: Any) -> Rejected:
    """The one objection to a device, which the VM goes without."""
    decision = decided(host, name, **usb_table)
    assert (decision.strategy, decision.device, decision.functions) == (S.OMIT, None, ())
    assert name in decision.why
    (objection,) = decision.rejected
    assert (objection.strategy, objection.device) == (S.PASSTHROUGH, name)
    return objection


def taken(host: Host, name: str, **usb_table: Any) -> Decision:
    decision = decided(host, name, **usb_table)
    assert (decision.strategy, decision.device, decision.rejected) == (S.PASSTHROUGH, name, ())
    return decision


def warned(host: Host, *names: str) -> list[str]:
    return [w.detail for w in planned(host, *names).warnings if w.code == "allowed-risk"]


# --- the device that is meant


def test_a_device_that_is_plugged_in_is_handed_over_by_its_ids() -> None:
    decision = taken(pc(CAMERA), "046d:0825")
    assert (decision.model, decision.functions) == ("046d:0825", ())
    assert decision.backing == "Logitech, Inc. Webcam C270 on port 1-4"


def test_each_device_has_a_decision_of_its_own_after_the_one_for_usb() -> None:
    plan = planned(pc(CAMERA, STICK), "0781:5567", "046d:0825", "dead:beef")
    found = [(d.name, d.strategy) for d in plan.decisions if d.kind in (Kind.USB, Kind.USB_DEVICE)]
    assert found == [
        ("usb0", S.EMULATED), ("usb-device0", S.PASSTHROUGH), ("usb-device1", S.PASSTHROUGH), ("usb-device2", S.OMIT),
    ]  # fmt: skip
    assert plan.of(Kind.USB).strategy is S.EMULATED


def test_a_plan_for_a_profile_without_usb_devices_has_none() -> None:
    assert planned(pc(CAMERA)).all_of(Kind.USB_DEVICE) == ()


def test_a_device_that_is_not_plugged_in_is_left_out() -> None:
    objection = refused(pc(CAMERA), "046d:c52b")
    assert objection.reason is R.NOT_PLUGGED_IN
    assert objection.fix


def test_a_device_on_another_port_is_left_out_with_the_port_where_it_is() -> None:
    objection = refused(pc(CAMERA, STICK), "046d:0825@1-5")
    assert objection.reason is R.NOT_PLUGGED_IN
    assert "046d:0825 is on 1-4" in objection.detail


def test_no_port_is_taken_for_one_that_it_begins() -> None:
    assert refused(pc(but(CAMERA, port="1-4.1")), "046d:0825@1-4").reason is R.NOT_PLUGGED_IN


def test_alike_devices_are_left_out_with_the_ports_to_choose_from() -> None:
    host = pc(CAMERA, but(CAMERA, port="2-9.1"))
    objection = refused(host, "046d:0825")
    assert objection.reason is R.SEVERAL_MATCH
    assert "1-4, 2-9.1" in objection.detail
    assert '"046d:0825@1-4" or "046d:0825@2-9.1"' in (objection.fix or "")
    assert taken(host, "046d:0825@2-9.1").backing.endswith("on port 2-9.1")


def test_a_document_without_usb_leaves_it_out_as_unknown() -> None:
    objection = refused(pc(usb=None), "046d:0825")
    assert objection.reason is R.USB_UNKNOWN
    assert "clienthv inspect --save" in (objection.fix or "")


@pytest.mark.parametrize("lack", ["busnum", "devnum"])
def test_a_named_port_needs_the_numbers_that_libvirt_tells_devices_by(lack: str) -> None:
    host = pc(but(CAMERA, **{lack: None}))
    assert refused(host, "046d:0825@1-4").reason is R.USB_UNKNOWN
    taken(host, "046d:0825")


def test_a_device_whose_ids_were_not_read_fits_no_name() -> None:
    assert refused(pc(but(CAMERA, vendor_id=None)), "046d:0825").reason is R.NOT_PLUGGED_IN


@pytest.mark.parametrize(
    "hub",
    [HUB, but(HUB, device_class="00", interface_classes=("090001",)), but(HUB, port="usb1", device_class=None)],
    ids=["device class", "interface class", "root hub"],
)
def test_a_hub_stays(hub: UsbDevice) -> None:
    assert refused(pc(hub, CAMERA), "05e3:0608").reason is R.IS_HUB


# --- the guest's side


@pytest.mark.parametrize("ladder", [["omit"], ["passthrough", "omit"]])
def test_a_guest_without_a_virtual_controller_has_nothing_to_plug_a_device_into(ladder: list[str]) -> None:
    objection = refused(pc(CAMERA), "046d:0825", prefer=ladder)
    assert objection.reason is R.NO_USB_CONTROLLER
    assert "omit" in objection.detail
    assert '"emulated"' in (objection.fix or "")


def test_a_connection_without_privilege_may_take_no_device() -> None:
    host = pc(CAMERA, stack=Stack(uri="qemu:///session", privileged=False))
    assert refused(host, "046d:0825").reason is R.NO_PRIVILEGE


# --- a controller that is handed over whole

WHOLE = {"prefer": ["passthrough", "emulated"], "select": [XHCI.address]}


def test_a_device_goes_with_its_controller_when_that_is_handed_over() -> None:
    plan = planned(pc(CAMERA), "046d:0825@1-4", **WHOLE)
    assert plan.of(Kind.USB).functions == (XHCI.address,)
    (decision,) = plan.all_of(Kind.USB_DEVICE)
    assert (decision.strategy, decision.functions) == (S.PASSTHROUGH, (XHCI.address,))
    assert "with its controller" in decision.why
    assert [change.device for change in plan.host_changes] == [XHCI.address]


def test_a_device_on_another_controller_cannot_be_plugged_into_one_that_is_handed_over() -> None:
    elsewhere = but(CAMERA, controller=SECOND.address)
    assert refused(pc(elsewhere), "046d:0825", **WHOLE).reason is R.NO_USB_CONTROLLER


def test_a_device_that_is_not_there_does_not_go_with_any_controller() -> None:
    assert refused(pc(CAMERA), "dead:beef", **WHOLE).reason is R.NOT_PLUGGED_IN


def test_a_controller_that_only_a_graphics_card_brings_takes_its_devices_along_too() -> None:
    card = ("030000", "040300", "0c0330")
    gpu = tuple(
        PciFunction(address=f"0000:01:00.{n}", class_code=code, vendor_id="10de", driver="some", boot_vga=False,
                    iommu_group=1)
        for n, code in enumerate(card)
    )  # fmt: skip
    screen = PciFunction(address="0000:00:02.0", class_code="030000", vendor_id="8086", driver="i915", boot_vga=True)
    text = ProfileText(
        "test", "test.toml",
        '[guest]\ndrivers = ["nvidia"]\n[devices.gpu]\nprefer = ["passthrough"]\n'
        '[devices.usb]\ndevices = ["046d:0825"]',
    )  # fmt: skip
    host = pc(but(CAMERA, controller="0000:01:00.2"), pci=(screen, *gpu))
    (decision,) = planner.plan(host, parse((text,))).all_of(Kind.USB_DEVICE)
    assert decision.functions == ("0000:01:00.2",)


# --- what the host needs


@pytest.mark.parametrize("name", ["0781:5567", "0781:5567@1-5"])
def test_a_mounted_disk_stays_whatever_it_is_called(name: str) -> None:
    host = pc(but(STICK, roles=using(RoleName.MOUNTED_DISK, "/proc/self/mountinfo: / is on sdb1 on sdb")))
    objection = refused(host, name)
    assert objection.reason is R.MOUNTED_DISK
    assert "/ is on sdb1" in objection.detail
    assert "unmount" in (objection.fix or "")


@pytest.mark.parametrize("name", ["0781:5567", "0781:5567@1-5"])
def test_a_disk_that_may_be_mounted_stays_whatever_it_is_called(name: str) -> None:
    assert refused(pc(STICK, roles_read=()), name).reason is R.MOUNTED_DISK_UNKNOWN


def test_what_is_not_recorded_of_a_device_could_be_a_disk() -> None:
    assert refused(pc(but(STICK, block_devices=None), roles_read=()), "0781:5567").reason is R.MOUNTED_DISK_UNKNOWN


def test_a_use_that_was_seen_is_not_called_unknown_too() -> None:
    seen = but(STICK, roles=using(RoleName.MOUNTED_DISK))
    assert refused(pc(seen, roles_read=()), "0781:5567").reason is R.MOUNTED_DISK


def test_a_disk_that_nobody_mounted_goes() -> None:
    taken(pc(STICK), "0781:5567")


@pytest.mark.parametrize(
    ("role", "reason"), [(RoleName.DEFAULT_ROUTE, R.DEFAULT_ROUTE), (RoleName.NETWORK, R.NETWORK_IN_USE)]
)
def test_the_hosts_network_stays_unless_its_port_is_named(role: RoleName, reason: Reason) -> None:
    host = pc(but(ADAPTER, roles=using(role, "/proc/net/route: default route through eth0")))
    objection = refused(host, "0b95:1790")
    assert objection.reason is reason
    assert "through eth0" in objection.detail
    assert 'devices = ["0b95:1790@2-1"]' in (objection.fix or "")
    taken(host, "0b95:1790@2-1")
    (risk,) = warned(host, "0b95:1790@2-1")
    assert "0b95:1790 on port 2-1" in risk


def test_the_hosts_only_keyboard_stays_unless_its_port_is_named() -> None:
    host = pc(KEYBOARD, CAMERA)
    objection = refused(host, "046d:c31c")
    assert objection.reason is R.ONLY_KEYBOARD
    assert 'devices = ["046d:c31c@1-2"]' in (objection.fix or "")
    taken(host, "046d:c31c@1-2")
    (risk,) = warned(host, "046d:c31c@1-2")
    assert "last keyboard" in risk


def test_a_second_keyboard_may_go_and_a_laptops_own_counts() -> None:
    taken(pc(KEYBOARD, SPARE), "046d:c31c")
    taken(pc(KEYBOARD, other_keyboards=("udev: input3 has ID_INPUT_KEYBOARD=1",)), "046d:c31c")
    assert warned(pc(KEYBOARD, SPARE), "046d:c31c@1-2") == []


def test_two_keyboards_are_not_each_others_spare() -> None:
    decisions = planned(pc(KEYBOARD, SPARE), "046d:c31c", "04d9:1702").all_of(Kind.USB_DEVICE)
    assert [[r.reason for r in d.rejected] for d in decisions] == [[R.ONLY_KEYBOARD]] * 2


def test_a_keyboard_on_a_controller_that_is_handed_over_does_not_stay() -> None:
    gone = but(SPARE, controller=SECOND.address)
    select = {"prefer": ["passthrough"], "select": [SECOND.address]}
    found = [r.reason for r in decided(pc(KEYBOARD, gone), "046d:c31c", **select).rejected]
    assert found == [R.NO_USB_CONTROLLER, R.ONLY_KEYBOARD]


def test_a_receiver_that_could_be_the_only_keyboard_stays_and_is_no_keyboard_that_stays() -> None:
    assert refused(pc(RECEIVER), "046d:c52b").reason is R.ONLY_KEYBOARD
    assert refused(pc(RECEIVER, KEYBOARD), "046d:c31c").reason is R.ONLY_KEYBOARD
    taken(pc(RECEIVER, KEYBOARD), "046d:c52b")


def test_a_mouse_may_go() -> None:
    taken(pc(MOUSE), "046d:c077")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (but(ADAPTER, network_interfaces=None), R.NETWORK_UNKNOWN),
        (ADAPTER, R.NETWORK_UNKNOWN),
        (but(KEYBOARD, keyboard=None, roles=()), R.HOST_INPUT_UNKNOWN),
        (but(CAMERA, interface_classes=None, keyboard=None), R.HOST_INPUT_UNKNOWN),
        (but(CAMERA, interface_classes=("e00101",), keyboard=None), R.HOST_INPUT_UNKNOWN),
    ],
)
def test_what_nobody_looked_for_is_not_taken_for_no_unless_the_port_is_named(device: UsbDevice, reason: Reason) -> None:
    host = pc(device, roles_read=())
    assert refused(host, device.ids).reason is reason
    taken(host, f"{device.ids}@{device.port}")
    assert len(warned(host, f"{device.ids}@{device.port}")) == 1


def test_what_cannot_be_a_disk_network_or_keyboard_goes_though_nobody_looked() -> None:
    taken(pc(CAMERA, roles_read=()), "046d:0825")
    assert warned(pc(CAMERA, roles_read=()), "046d:0825@1-4") == []


def test_all_that_speaks_against_a_device_is_said() -> None:
    docked = but(ADAPTER, block_devices=("sdc",), roles=(*using(RoleName.MOUNTED_DISK), *using(RoleName.DEFAULT_ROUTE)))
    assert [r.reason for r in decided(pc(docked), "0b95:1790").rejected] == [R.MOUNTED_DISK, R.DEFAULT_ROUTE]


# --- the whole plan


def test_a_device_that_leaves_its_drivers_is_a_change_with_the_way_back() -> None:
    (change,) = planned(pc(CAMERA), "046d:0825").host_changes
    assert (change.action, change.device) == ("take-usb", "046d:0825")
    assert "snd-usb-audio and uvcvideo" in change.detail
    assert "snd-usb-audio and uvcvideo" in change.undo


def test_usb_devices_hang_on_no_iommu() -> None:
    host = pc(CAMERA, iommu=Iommu(enabled=False))
    taken(host, "046d:0825")
    assert "interrupt-remapping-unknown" not in {w.code for w in planned(host, "046d:0825").warnings}


def test_a_plan_with_usb_devices_reads_well_and_names_the_reasons() -> None:
    odd = but(CAMERA, product="<b>&\x1b[2J")
    plan = planned(pc(odd, KEYBOARD), "046d:0825", "046d:c31c", "dead:beef@1-9")
    short = [line for line in plans.lines(plan) if line.startswith("  usb-device")]
    assert ["046d:0825 Logitech, Inc." in short[0], "[only-keyboard]" in short[1], "[not-plugged-in]" in short[2]] == [
        True, True, True,
    ]  # fmt: skip
    explained = "\n".join(plans.lines(plan, explain=True))
    assert "dead:beef is not plugged into port 1-9" in explained
    assert "last keyboard" in explained


def test_the_list_of_vms_tells_ten_and_more_usb_devices_apart() -> None:
    many = planned(pc(), *(f"046d:{n:04x}" for n in range(11)))
    (line,) = [line for line in vms.table([vms.facts("desk", "running", "", many, None)]) if "usb-device" in line]
    assert "usb emulated, usb-device omit, usb-device1 omit," in line
    assert "usb-device9 omit, usb-device10 omit, input emulated" in line


def test_usb_devices_do_not_change_what_else_is_planned() -> None:
    role = Role(role=RoleName.INPUT, address=XHCI.address, evidence=("udev",))
    host = pc(CAMERA, KEYBOARD, roles=(role,))
    without, with_some = planned(host), planned(host, "046d:0825", "046d:c31c")
    assert [d for d in with_some.decisions if d.kind is not Kind.USB_DEVICE] == list(without.decisions)

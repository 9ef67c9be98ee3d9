"""All USB devices of a class: which those are, and what a class never takes."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest

from clienthv import planner
from clienthv.errors import ProfileError
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, RoleName
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import USB_CLASSES, UsbDevice, UsbRole

R, S = Reason, Strategy

XHCI = PciFunction(address="0000:00:14.0", class_code="0c0330", driver="xhci_hcd", iommu_group=6)


def usb(port: str, ids: str, *classes: str, **more: Any) -> UsbDevice:
    vendor_id, product_id = ids.split(":")
    known: dict[str, Any] = {
        "busnum": 1, "devnum": 5, "device_class": "00", "interface_classes": classes or ("ff0000",), "drivers": (),
        "controller": XHCI.address, "block_devices": (), "network_interfaces": (), "keyboard": False,
    }  # fmt: skip
    return UsbDevice(port=port, vendor_id=vendor_id, product_id=product_id, **{**known, **more})


def role(name: RoleName) -> tuple[UsbRole, ...]:
    return (UsbRole(role=name, evidence=("the kernel said so",)),)


CAMERA = usb("1-4", "046d:0825", "0e0100", "0e0200", "010100")
READER = usb("1-3", "08e6:3437", "0b0000")
FINGER = usb("1-8", "138a:0017", "ff0000", fingerprint_reader=True)
ODD = usb("1-9", "27c6:5395", "ff0000")
RADIO = usb("1-10", "8087:0aaa", "e00101", "e00101")
PRINTER = usb("1-11", "03f0:0c17", "070102")
KEYBOARD = usb("1-2", "046d:c31c", "030101", keyboard=True, roles=role(RoleName.INPUT))


def pc(*devices: UsbDevice, **more: Any) -> Host:
    known: dict[str, Any] = {
        "usb": devices, "other_keyboards": ("the laptop's own",), "roles_read": tuple(RoleName),
        "kvm": Kvm(usable=True), "iommu": Iommu(enabled=True, interrupt_remapping=True), "pci": (XHCI,),
    }  # fmt: skip
    return Host(**{**known, **more})


def planned(host: Host, *entries: str) -> Plan:
    text = f"[devices.usb]\ndevices = {json.dumps(entries)}\n"
    return planner.plan(host, parse((ProfileText("test", "test.toml", text),)))


def decided(host: Host, *entries: str) -> tuple[Decision, ...]:
    return planned(host, *entries).all_of(Kind.USB_DEVICE)


def taken(host: Host, *entries: str) -> list[str | None]:
    return [d.device for d in decided(host, *entries) if d.strategy is S.PASSTHROUGH]


ALL = (CAMERA, READER, FINGER, ODD, RADIO, PRINTER, KEYBOARD)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("webcam", CAMERA), ("audio", CAMERA), ("smart-card", READER), ("fingerprint-reader", FINGER),
        ("bluetooth", RADIO), ("printer", PRINTER),
    ],
)  # fmt: skip
def test_a_class_means_the_devices_whose_interfaces_are_of_it(name: str, device: UsbDevice) -> None:
    assert taken(pc(*ALL), f"class:{name}") == [device.ids]
    assert name in USB_CLASSES


def test_each_device_of_a_class_has_a_decision_and_alike_ones_have_their_ports() -> None:
    second = msgspec.structs.replace(CAMERA, port="1-12", devnum=9)
    other = usb("1-5", "04f2:b6d9", "0e0100")
    assert taken(pc(second, CAMERA, other), "class:webcam") == ["046d:0825@1-4", "04f2:b6d9", "046d:0825@1-12"]


def test_the_order_of_devices_and_of_the_list_changes_nothing() -> None:
    entries = ("class:webcam", "class:smart-card", "class:audio", "046d:0825")
    first = set(taken(pc(*ALL), *entries))
    assert first == {"046d:0825", "08e6:3437"}
    for devices in itertools.permutations(ALL[:4]):
        assert taken(pc(*devices), "class:webcam", "class:smart-card") == ["046d:0825", "08e6:3437"]
    for other in itertools.permutations(entries):
        assert set(taken(pc(*ALL), *other)) == first


def test_one_that_cannot_go_does_not_keep_the_others() -> None:
    busy = usb("1-6", "0bda:0129", "0e0100", block_devices=("sdb",), roles=role(RoleName.MOUNTED_DISK))
    camera, left = decided(pc(CAMERA, busy), "class:webcam")
    assert (camera.strategy, left.strategy) == (S.PASSTHROUGH, S.OMIT)
    assert [r.reason for r in left.rejected] == [R.MOUNTED_DISK]
    assert "0bda:0129" in left.why


def test_a_class_takes_no_keyboard_and_nothing_that_carries_one() -> None:
    carrier = msgspec.structs.replace(RADIO, roles=role(RoleName.INPUT))
    (decision,) = decided(pc(carrier), "class:bluetooth")
    assert [r.reason for r in decision.rejected] == [R.HOST_INPUT]
    assert taken(pc(carrier), carrier.ids) == [carrier.ids], "named, it goes"
    headset = usb("1-7", "0d8c:0012", "010100", "030101")
    assert [r.reason for r in decided(pc(headset), "class:audio")[0].rejected] == [R.HOST_INPUT]


def test_a_class_lifts_nothing_although_alike_devices_are_named_by_port() -> None:
    tethered = usb("1-6", "18d1:4ee8", "010100", network_interfaces=("usb0",), roles=role(RoleName.DEFAULT_ROUTE))
    alike = msgspec.structs.replace(tethered, port="1-7", roles=(), network_interfaces=())
    host = pc(tethered, alike)
    assert taken(host, "class:audio") == ["18d1:4ee8@1-7"]
    assert planned(host, "class:audio").warnings == planned(host).warnings
    assert taken(host, "18d1:4ee8@1-6") == ["18d1:4ee8@1-6"], "named with its port, it goes"


def test_a_hub_is_of_no_class() -> None:
    hub = usb("1-1", "05e3:0608", "090000", "0e0100", device_class="09")
    assert [r.reason for r in decided(pc(hub), "class:webcam")[0].rejected] == [R.NOT_PLUGGED_IN]


def test_a_class_without_a_device_says_so_and_the_vm_goes_without() -> None:
    (decision,) = decided(pc(KEYBOARD), "class:smart-card")
    assert (decision.strategy, decision.device) == (S.OMIT, None)
    assert [(r.reason, r.device) for r in decision.rejected] == [(R.NOT_PLUGGED_IN, "class:smart-card")]


def test_what_may_be_a_fingerprint_reader_is_named_and_not_taken() -> None:
    (decision,) = decided(pc(ODD, CAMERA), "class:fingerprint-reader")
    (rejected,) = decision.rejected
    assert rejected.reason is R.USB_CLASS_UNKNOWN
    assert "27c6:5395" in rejected.detail
    assert "046d:0825" not in rejected.detail
    assert rejected.fix is not None
    assert '"27c6:5395"' in rejected.fix


def test_a_device_whose_interfaces_are_unknown_is_of_no_known_class() -> None:
    dark = usb("1-6", "1234:5678", interface_classes=None)
    assert [r.reason for r in decided(pc(dark), "class:webcam")[0].rejected] == [R.USB_CLASS_UNKNOWN]
    assert [r.reason for r in decided(pc(usb=None), "class:webcam")[0].rejected] == [R.USB_UNKNOWN]


def test_a_device_that_is_named_too_has_one_decision_under_that_name() -> None:
    assert taken(pc(CAMERA), "class:webcam", "046d:0825@1-4") == ["046d:0825@1-4"]


def test_more_devices_than_the_controller_has_ports_for_stay() -> None:
    many = [usb(f"1-{n}", f"04f2:{n:04x}", "0e0100") for n in range(1, 17)]
    decisions = decided(pc(*many), "class:webcam")
    assert len([d for d in decisions if d.strategy is S.PASSTHROUGH]) == 14
    assert {r.reason for d in decisions for r in d.rejected} == {R.NO_USB_CONTROLLER}


@pytest.mark.parametrize("entry", ["class:storage", "class:", "class:hub", "class:webcam@1-2", "CLASS:webcam"])
def test_another_class_is_refused(entry: str) -> None:
    with pytest.raises(ProfileError, match="is not a USB device such as"):
        planned(pc(), entry)


def test_a_class_named_twice_is_refused() -> None:
    with pytest.raises(ProfileError, match="names class:webcam twice"):
        planned(pc(), "class:webcam", "class:webcam")


def controller(*devices: UsbDevice, **more: Any) -> Decision:
    text = f'[devices.usb]\nprefer = ["passthrough", "emulated"]\nselect = ["{XHCI.address}"]\n'
    host = pc(*devices, **more)
    return planner.plan(host, parse((ProfileText("test", "test.toml", text),))).of(Kind.USB)


def test_a_controller_says_what_goes_with_it() -> None:
    hub = usb("1-1", "05e3:0608", "090000", device_class="09")
    elsewhere = usb("2-1", "1234:5678", controller="0000:03:00.0")
    decision = controller(msgspec.structs.replace(CAMERA, product="Webcam C270"), hub, READER, elsewhere)
    assert decision.strategy is S.PASSTHROUGH
    assert decision.why.endswith(", now Webcam C270 (1-4), 08e6:3437 (1-3)")
    many = [usb(f"1-{n}", f"04f2:{n:04x}") for n in range(2, 11)]
    assert controller(*many).why.endswith("04f2:0007 (1-7) and 3 more")


def test_a_controller_says_nothing_of_devices_that_are_unknown() -> None:
    assert controller(usb=None).why == "whatever is plugged in belongs to the guest"
    assert controller().why.endswith("now nothing")
    assert controller(usb("1-6", "1234:5678", controller=None)).why == "whatever is plugged in belongs to the guest"

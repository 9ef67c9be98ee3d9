"""What holds for the USB devices of every plan, whatever is plugged in and whatever is named."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lxml import etree

from clienthv import planner, render
from clienthv.model import host as host_model
from clienthv.model import plan as plan_model
from clienthv.model.host import Host, Iommu, Kvm, PciFunction, RoleName
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.profile import ProfileText, parse
from clienthv.model.usb import UsbDevice, UsbName, UsbRole
from clienthv.model.vm import Vm

XHCI = tuple(
    PciFunction(address=f"0000:00:1{n}.0", class_code="0c0330", driver="xhci_hcd", iommu_group=n) for n in (1, 2)
)
IDS = ("046d:c31c", "046d:c52b", "0781:5567", "ffff:0000")
PORTS = ("1-1", "1-2", "1-2.1", "2-1", "usb2")
ROLES = (RoleName.MOUNTED_DISK, RoleName.DEFAULT_ROUTE, RoleName.NETWORK, RoleName.INPUT)
UNSHRUNK = settings(max_examples=40, phases=[Phase.explicit, Phase.generate])


class Case(NamedTuple):
    """A PC with USB devices, and a profile that names some."""

    host: Host
    text: ProfileText
    names: tuple[UsbName, ...]


def some(options: tuple[Any, ...], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(options), unique=True, max_size=most)


@st.composite
def devices(draw: st.DrawFn, port: str) -> UsbDevice:
    vendor_id, product_id = draw(st.sampled_from(IDS)).split(":")
    bus = int(port.removeprefix("usb")[0])
    return UsbDevice(
        port=port, busnum=bus, devnum=draw(st.sampled_from([9, 127, None])), vendor_id=vendor_id, product_id=product_id,
        vendor=draw(st.sampled_from([None, "A & <B>"])), device_class=draw(st.sampled_from(["00", "00", "09", None])),
        interface_classes=draw(st.sampled_from([(), ("030101",), ("080650",), None])),
        controller=draw(st.sampled_from([XHCI[bus - 1].address, XHCI[bus - 1].address, None])),
        block_devices=draw(st.sampled_from([(), ("sda",), None])),
        network_interfaces=draw(st.sampled_from([(), ("eth0",), None])),
        keyboard=draw(st.sampled_from([False, True, None])),
        roles=tuple(UsbRole(role=role) for role in draw(some(ROLES, 2))),
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    usb = tuple(draw(devices(port)) for port in draw(some(PORTS, 5)))
    host = Host(
        pci=XHCI,
        usb=draw(st.sampled_from([usb, usb, usb, usb, None])),
        other_keyboards=draw(st.sampled_from([(), (), ("udev: input3",), None])),
        roles_read=draw(st.sampled_from([tuple(RoleName), tuple(RoleName), ()])),
        iommu=Iommu(enabled=True, interrupt_remapping=True),
        kvm=Kvm(usable=True),
    )
    bare = draw(some(IDS, 3))
    ported = [f"{ids}@{port}" for ids in IDS if ids not in bare for port in draw(some(PORTS[:4], 2))]
    names = draw(st.permutations([*bare, *ported]))
    table = {
        "prefer": draw(
            st.sampled_from([["emulated"], ["emulated"], ["passthrough", "emulated"], ["passthrough", "omit"]])
        ),
        "select": [function.address for function in draw(some(XHCI, 2))],
        "devices": names,
    }
    if table["select"]:
        table["allow"] = draw(some(ROLES, 4))
    text = "\n".join(["[devices.usb]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
    return Case(host, ProfileText("odd", "odd.toml", text), tuple(map(UsbName.parse, names)))


def planned(case: Case) -> Plan:
    return planner.plan(case.host, parse((case.text,)))


def leaving(case: Case, plan: Plan) -> list[tuple[UsbName, UsbDevice]]:
    """The devices that leave the host on their own, with what they are called."""
    names = [UsbName.parse(d.device) for d in plan.all_of(Kind.USB_DEVICE) if d.device and not d.functions]
    return [(name, device) for name in names for device in case.host.usb or () if name.fits(device)]


@given(cases())
def test_every_named_device_has_one_decision_and_one_that_is_left_out_a_reason(case: Case) -> None:
    found = planned(case).all_of(Kind.USB_DEVICE)
    assert [d.name for d in found] == [f"usb-device{n}" for n in range(len(case.names))]
    for name, decision in zip(case.names, found, strict=True):
        assert decision.device == (str(name) if decision.strategy is Strategy.PASSTHROUGH else None)
        assert bool(decision.rejected) is (decision.strategy is Strategy.OMIT)
        assert all(r.device == str(name) and r.detail and r.fix for r in decision.rejected)


@given(cases())
def test_a_name_takes_one_device_and_no_device_is_taken_twice(case: Case) -> None:
    plan = planned(case)
    found = leaving(case, plan)
    assert len(found) == len({device.port for _, device in found})
    alone = [d for d in plan.all_of(Kind.USB_DEVICE) if d.device and not d.functions]
    assert len(found) == len(alone)


@given(cases())
def test_no_hub_and_no_disk_that_is_or_may_be_mounted_leaves_alone(case: Case) -> None:
    for _, device in leaving(case, planned(case)):
        assert not device.is_hub
        assert RoleName.MOUNTED_DISK not in {role.role for role in device.roles}
        assert device.block_devices == () or case.host.read(RoleName.MOUNTED_DISK)


@given(cases())
def test_no_network_leaves_alone_unless_its_port_is_named_and_the_plan_says_so(case: Case) -> None:
    plan = planned(case)
    warnings = " ".join(w.detail for w in plan.warnings if w.code == "allowed-risk")
    for name, device in leaving(case, plan):
        if {RoleName.DEFAULT_ROUTE, RoleName.NETWORK} & {role.role for role in device.roles}:
            assert name.port is not None
            assert f"{device.ids} on port {device.port}" in warnings


@given(cases())
def test_the_host_keeps_a_keyboard_unless_the_port_of_one_is_named(case: Case) -> None:
    plan = planned(case)
    found = leaving(case, plan)
    gone = {d.port for _, d in found} | {
        d.port for d in case.host.usb or () if d.controller in plan.of(Kind.USB).functions
    }
    kept = [d for d in case.host.usb or () if d.keyboard and d.port not in gone]
    if any(device.keyboard and name.port is None for name, device in found):
        assert kept or case.host.other_keyboards


@given(cases(), st.randoms(use_true_random=False))
def test_a_plan_does_not_hang_on_the_order_of_the_usb_devices(case: Case, random: Any) -> None:
    shuffled = list(case.host.usb or ())
    random.shuffle(shuffled)
    other = msgspec.structs.replace(case.host, usb=None if case.host.usb is None else tuple(shuffled))
    before, after = planned(case), planned(case._replace(host=other))
    assert [(d.device, d.strategy) for d in before.decisions] == [(d.device, d.strategy) for d in after.decisions]


@given(cases())
def test_hosts_and_plans_with_usb_devices_read_back_as_they_were_written(case: Case) -> None:
    assert host_model.decode(host_model.encode(case.host), "written") == case.host
    plan = planned(case)
    assert plan_model.decode(plan_model.encode(plan), "written") == plan


@UNSHRUNK
@given(cases())
def test_the_domain_has_every_device_that_leaves_alone_once_and_a_controller_for_them(case: Case) -> None:
    plan = planned(case)
    xml = render.render(Vm(name="desk", plan=plan, profile=(case.text,)), case.host)
    assert render.check(xml), "libvirt's schema is not installed: nothing was checked"
    found = etree.fromstring(xml.encode()).find("devices")
    hostdevs = found.findall("hostdev[@type='usb']")
    ids = [(h.find("source/vendor").get("id")[2:], h.find("source/product").get("id")[2:]) for h in hostdevs]
    assert ids == [(device.vendor_id, device.product_id) for _, device in leaving(case, plan)]
    if hostdevs:
        assert found.find("controller[@type='usb']").get("model") == "qemu-xhci"
    for hostdev, (name, device) in zip(hostdevs, leaving(case, plan), strict=True):
        address = hostdev.find("source/address")
        assert (address is not None) is (name.port is not None)
        if address is not None:
            assert (address.get("bus"), address.get("device")) == (str(device.busnum), str(device.devnum))

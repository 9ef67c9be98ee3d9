"""Keyboard and pointer of the host, shared with the guest by evdev."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from clienthv import joint, planner, render
from clienthv.errors import ProfileError
from clienthv.model.host import DomainCapabilities, EventDevice, Host, Kvm, Memory, RoleName, Stack
from clienthv.model.plan import Decision, Kind, Plan, Reason, Strategy, decode, encode
from clienthv.model.profile import Profile, ProfileText, parse
from clienthv.model.usb import UsbDevice
from clienthv.model.vm import Vm
from clienthv.strategies import Question
from clienthv.strategies.claims import ALONE, claims

R, S = Reason, Strategy

KBD = "platform-i8042-serio-0-event-kbd"
MOUSE = "pci-0000:00:14.0-usb-0:2:1.0-event-mouse"
KEYS = EventDevice(links=(f"by-path/{KBD}",), kind="keyboard")
POINTER = EventDevice(links=(f"by-path/{MOUSE}", "by-id/usb-Acme_Mouse_A1B2C3-event-mouse"), kind="pointer", port="1-2")
USB_MOUSE = UsbDevice(
    port="1-2", vendor_id="046d", product_id="c077", busnum=1, devnum=3, device_class="00",
    interface_classes=("030102",), block_devices=(), network_interfaces=(), keyboard=False, drivers=("usbhid",),
)  # fmt: skip
ALL = '"passthrough", "paravirtual", "emulated"'


def pc(*events: EventDevice, **more: Any) -> Host:
    offered = DomainCapabilities(
        domain_type="kvm", emulator="/usr/bin/qemu-system-x86_64", video_models=("virtio", "vga"),
        graphics=("spice", "vnc"),
    )  # fmt: skip
    stack = Stack(uri="qemu:///system", privileged=True, libvirt_version="11.3.0", capabilities=offered)
    known: dict[str, Any] = {
        "kvm": Kvm(usable=True), "memory": Memory(total_mib=16384, available_mib=16384), "stack": stack,
        "events": events, "usb": (USB_MOUSE,), "other_keyboards": ("the laptop's own",),
        "roles_read": tuple(RoleName),
    }  # fmt: skip
    return Host(**{**known, **more})


def text(*names: str, more: str = "") -> ProfileText:
    lines = ["[devices.input]", f"prefer = [{ALL}]", f"evdev = {json.dumps(names)}", more]
    return ProfileText("test", "test.toml", "\n".join(lines))


def planned(host: Host, *names: str, more: str = "") -> Plan:
    return planner.plan(host, parse((text(*names, more=more),)))


def given(host: Host, *names: str, more: str = "") -> Decision:
    return planned(host, *names, more=more).of(Kind.INPUT)


def against(host: Host, *names: str, more: str = "") -> list[tuple[Reason, str | None]]:
    decision = given(host, *names, more=more)
    assert decision.strategy is S.EMULATED
    return [(r.reason, r.device) for r in decision.rejected if r.strategy is S.PASSTHROUGH]


def test_keyboard_and_mouse_go_together_with_a_key_to_take_them_back() -> None:
    host = pc(KEYS, POINTER)
    plan = planned(host, KBD, MOUSE)
    decision = plan.of(Kind.INPUT)
    assert (decision.strategy, decision.model) == (S.PASSTHROUGH, "evdev")
    assert decision.evdev == (f"by-path/{KBD}", f"by-path/{MOUSE}")
    (warned,) = [w for w in plan.warnings if w.code == "shared-keyboard"]
    assert "both Ctrl keys" in warned.detail
    assert decode(encode(plan), "test") == plan
    xml = " ".join(render.render(Vm(name="vm", profile=(), plan=plan), host).split())
    keyboard = f'<source dev="/dev/input/by-path/{KBD}" grab="all" grabToggle="ctrl-ctrl" repeat="on"/>'
    assert f'<input type="evdev"> {keyboard} </input>' in xml
    assert f'<input type="evdev"> <source dev="/dev/input/by-path/{MOUSE}"/> </input>' in xml
    assert 'type="tablet"' not in xml


def test_the_only_keyboard_may_be_shared_as_it_comes_back() -> None:
    assert given(pc(KEYS, other_keyboards=()), KBD).strategy is S.PASSTHROUGH


def test_a_mouse_without_a_keyboard_is_said_not_to_come_back() -> None:
    plan = planned(pc(KEYS, POINTER), MOUSE)
    (warned,) = [w for w in plan.warnings if w.code == "shared-keyboard"]
    assert "return when the VM stops" in warned.detail


def test_a_device_is_found_by_its_name_by_id_too_and_shown_by_path() -> None:
    assert given(pc(POINTER), "usb-Acme_Mouse_A1B2C3-event-mouse").evdev == (f"by-path/{MOUSE}",)


def test_one_that_is_not_there_leaves_all_with_the_host() -> None:
    assert against(pc(KEYS), KBD, MOUSE) == [(R.NO_EVENT_DEVICE, MOUSE)]
    assert against(pc(), KBD) == [(R.NO_EVENT_DEVICE, KBD)]


def test_nothing_is_shared_unless_it_is_named() -> None:
    assert against(pc(KEYS)) == [(R.NOT_SELECTED, None)]


def test_unknown_event_devices_are_not_taken() -> None:
    assert against(pc(events=msgspec.UNSET), KBD) == [(R.EVENTS_UNKNOWN, None)]


def test_a_session_may_not_open_them() -> None:
    session = pc(KEYS, stack=Stack(uri="qemu:///session", privileged=False))
    assert against(session, KBD) == [(R.NO_PRIVILEGE, None)]


def test_a_mouse_that_goes_as_a_usb_device_is_no_event_device() -> None:
    more = '[devices.usb]\ndevices = ["046d:c077"]\n'
    assert against(pc(KEYS, POINTER), KBD, MOUSE, more=more) == [(R.NO_EVENT_DEVICE, MOUSE)]
    assert given(pc(KEYS, POINTER), KBD, more=more).strategy is S.PASSTHROUGH


def test_two_vms_do_not_share_one_keyboard() -> None:
    host = pc(KEYS, POINTER)
    decision = given(host, KBD)
    assert dict(claims(decision, Kind.INPUT, Question(host, Profile()))) == {f"input device by-path/{KBD}": ALONE}


@pytest.mark.parametrize(
    "name", ["../../sda-event-kbd", "a/b-event-kbd", "..-event-kbd", "a..b-event-kbd", "event3", "x-event-kbd\n", ""]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ProfileError, match="is not a name below /dev/input/by-path or by-id"):
        parse((text(name),))


def test_only_the_input_has_event_devices_and_each_once() -> None:
    with pytest.raises(ProfileError, match="only the input takes event devices"):
        parse((ProfileText("test", "test.toml", f'[devices.nic]\nevdev = ["{KBD}"]\n'),))
    with pytest.raises(ProfileError, match="names a device twice"):
        parse((text(KBD, KBD),))
    with pytest.raises(ProfileError, match="no PCI device of the host becomes a input"):
        parse((ProfileText("test", "test.toml", '[devices.input]\nselect = ["0000:01:00.0"]\n'),))


def test_of_two_vms_that_want_the_keyboard_one_has_it_and_the_other_is_told() -> None:
    host, wish = pc(KEYS, POINTER), parse((text(KBD, MOUSE),))
    shared = joint.plan(host, [joint.Wish("work", wish), joint.Wish("play", wish, priority=5)])
    plans = {member.name: member.plan for member in shared.vms}
    work, play = plans["work"], plans["play"]
    assert work is not None
    assert play is not None
    assert play.of(Kind.INPUT).strategy is S.PASSTHROUGH
    told = [r for r in work.of(Kind.INPUT).rejected if r.reason is R.GIVEN_TO_OTHER_VM]
    assert ["play" in r.detail for r in told] == [True]
    assert work.of(Kind.INPUT).strategy is S.EMULATED

"""What attach and detach are asked for, and what they answer."""

from __future__ import annotations

import msgspec
import pytest

from clienthv import inspect
from clienthv.errors import UsageError
from clienthv.lifecycle import plugging, remembered
from clienthv.lifecycle.plugging import Plugged
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.model.usb import UsbName

CARD = "0000:03:00.0"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("gpu", Plugged(kind=Kind.GPU)),
        ("nic", Plugged(kind=Kind.NIC)),
        ("03:00.0", Plugged(address=CARD)),
        (CARD, Plugged(address=CARD)),
        ("046d:c52b", Plugged(usb=UsbName("046d", "c52b"))),
        ("046d:c52b@1-2.3", Plugged(usb=UsbName("046d", "c52b", "1-2.3"))),
    ],
)
def test_a_kind_an_address_and_a_usb_device_are_told_apart(text: str, what: Plugged) -> None:
    assert Plugged.parse(text) == what


@pytest.mark.parametrize("text", ["", "tpm", "cpu", "0000:03:00", "046d", "gpu ", "../x", "046d:c52b@"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Plugged.parse(text)
    assert "0000:01:00.0" in (raised.value.hint or "")


def rejected(device: str, *roles: str) -> list[Rejected]:
    return [
        Rejected(
            strategy=Strategy.PASSTHROUGH,
            device=device,
            reason=Reason.DEFAULT_ROUTE,
            detail=f"{device} carries it",
            fix=f'if you mean it: select = ["{device}"] and allow = ["{role}"] in the profile',
        )
        for role in roles
    ]


@pytest.mark.parametrize("what", [Plugged(address=CARD), Plugged(kind=Kind.NIC)], ids=["named", "any"])
def test_who_is_refused_is_told_a_command_that_can_be_typed(what: Plugged) -> None:
    refusals = rejected(CARD, "default-route", "network") + rejected("0000:04:00.0", "boot-display")
    error = plugging._cannot("desk", what, refusals)
    assert error.hint == f"if you mean it: clienthv attach desk {CARD} --allow default-route --allow network"
    assert ("0000:04:00.0" in error.message) is (what.kind is not None)


@pytest.mark.parametrize("fix", ["enable the IOMMU in the firmware", None])
def test_to_give_up_a_role_is_not_offered_where_it_would_not_help(fix: str | None) -> None:
    other = msgspec.structs.replace(rejected(CARD, "mounted-disk")[0], reason=Reason.IOMMU_ABSENT, fix=fix)
    for refusals in ([other, *rejected(CARD, "mounted-disk")], [*rejected(CARD, "mounted-disk"), other]):
        assert plugging._cannot("desk", Plugged(address=CARD), refusals).hint == fix


def test_of_two_usb_devices_alike_the_one_on_the_port_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "usb_place", lambda port: {"1-2": (1, 7), "1-3": (1, 8)}.get(port))
    element = remembered.parse(
        "<hostdev type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/><address bus='1' device='7'/></source>"
        "</hostdev>"
    )
    assert plugging._is_usb(element, UsbName("046d", "c52b"))
    assert plugging._is_usb(element, UsbName("046d", "c52b", "1-2"))
    assert not plugging._is_usb(element, UsbName("046d", "c52b", "1-3"))
    assert not plugging._is_usb(element, UsbName("046d", "c52b", "1-9"))
    assert not plugging._is_usb(element, UsbName("046d", "c52c"))

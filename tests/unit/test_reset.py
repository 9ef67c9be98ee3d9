"""Whether a VM with a device can be started again: the class, and what a plan says of it."""

from __future__ import annotations

from typing import Any

import pytest

from clienthv.model.devices import Reset
from clienthv.model.host import Host, PciFunction
from clienthv.strategies.reset import judged, warnings

BRIDGE = "0000:00:01.0"


def card(address: str = "0000:01:00.0", class_code: str = "030000", **more: Any) -> PciFunction:
    return PciFunction(address=address, class_code=class_code, **{"bridge_path": (BRIDGE,), **more})


def reset(function: PciFunction, *others: PciFunction, stay: bool = False) -> Reset:
    """The class of a function that moves with these others, or without them."""
    host = Host(pci=(function, *others))
    moving = {function.address} if stay else {f.address for f in host.pci}
    return judged(function, moving, host).reset


def sound(**more: Any) -> PciFunction:
    return card("0000:01:00.1", "040300", **more)


@pytest.mark.parametrize("method", ["flr", "af_flr", "device_specific", "acpi"])
def test_what_resets_by_itself_is_restartable(method: str) -> None:
    assert reset(card(reset_methods=(method, "bus")), sound(), stay=True) is Reset.RESTARTABLE


def test_a_bus_reset_is_one_when_all_behind_the_bridge_move() -> None:
    gpu = card(reset_methods=("bus",))
    assert reset(gpu, sound()) is Reset.RESTARTABLE
    assert reset(gpu, sound(), stay=True) is Reset.UNKNOWN


def test_a_function_is_reset_by_the_bus_that_the_kernel_lists_for_its_sibling() -> None:
    assert reset(sound(reset_methods=()), card(reset_methods=("bus",))) is Reset.RESTARTABLE


def test_functions_further_down_share_the_bus_too() -> None:
    below = card("0000:02:00.0", "020000", bridge_path=(BRIDGE, "0000:01:01.0"))
    assert reset(card(reset_methods=("bus",)), below, stay=True) is Reset.UNKNOWN


def test_a_function_behind_another_bridge_shares_nothing() -> None:
    other = card("0000:02:00.0", "020000", bridge_path=("0000:00:02.0",))
    assert reset(card(reset_methods=("bus",)), other, stay=True) is Reset.RESTARTABLE


def test_where_bridges_are_unknown_the_functions_of_its_bus_share_it() -> None:
    gpu = card(reset_methods=("bus",), bridge_path=None)
    assert reset(gpu, sound(bridge_path=None), stay=True) is Reset.UNKNOWN
    assert reset(gpu, card("0000:02:00.0", bridge_path=None), stay=True) is Reset.RESTARTABLE


def test_a_power_cycle_resets_what_is_no_gpu() -> None:
    assert reset(sound(reset_methods=("pm",))) is Reset.RESTARTABLE
    assert reset(card(reset_methods=("pm",))) is Reset.UNKNOWN


@pytest.mark.parametrize("methods", [None, ()])
def test_without_a_known_method_it_is_unknown(methods: tuple[str, ...] | None) -> None:
    assert reset(card(reset_methods=methods)) is Reset.UNKNOWN


def test_a_virtual_function_can_always_be_reset() -> None:
    assert reset(card(physfn="0000:02:00.0")) is Reset.RESTARTABLE


@pytest.mark.parametrize("device_id", ["67df", "699f", "687f", "66af", "731f", "7340", "1638"])
def test_graphics_with_amds_reset_bug_work_once_unless_vendor_reset_is_there(device_id: str) -> None:
    gpu = {"vendor_id": "1002", "device_id": device_id}
    assert reset(card(reset_methods=("flr", "pm", "bus"), **gpu)) is Reset.ONCE_PER_BOOT
    assert reset(card(reset_methods=None, **gpu)) is Reset.ONCE_PER_BOOT
    assert reset(card(reset_methods=("device_specific", "bus"), **gpu)) is Reset.RESTARTABLE


def test_a_family_of_which_some_boards_reset_is_unknown() -> None:
    assert reset(card(vendor_id="1002", device_id="73ff", reset_methods=("bus",))) is Reset.UNKNOWN


def test_another_makers_device_with_such_an_id_has_no_such_bug() -> None:
    assert reset(card(vendor_id="10de", device_id="67df", reset_methods=("flr",))) is Reset.RESTARTABLE


def test_a_plan_warns_of_the_worst_with_what_shows_it() -> None:
    gpu = card(vendor_id="1002", device_id="67df", reset_methods=("bus",))
    other = sound(bridge_path=("0000:00:02.0",), reset_methods=())
    host = Host(pci=(gpu, other))
    (once,) = warnings((gpu.address, other.address), host, "gpu0")
    (unknown,) = warnings((other.address,), host, "gpu0")
    assert (once.code, unknown.code) == ("reset-once-per-boot", "reset-unknown")
    assert gpu.address in once.detail
    assert "Polaris" in once.detail
    assert "the kernel lists no reset" in unknown.detail


def test_a_virtual_function_that_is_still_to_be_made_is_no_reason_to_warn() -> None:
    assert list(warnings(("0000:09:00.1",), Host(), "nic0")) == []

"""The driver of a PCI function that moves into a guest: taken from it here, and given back when libvirt did not.

libvirt binds vfio-pci and gives the function back when the guest stops (managed='yes'; libvirt, src/util/virpci.c,
virPCIDeviceBindToStub and virPCIDeviceUnbindFromStub). But it unbinds the host's driver in its own daemon, which then
hangs with a driver that does not let go; and it gives nothing back when it is killed in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from clienthv import inspect
from clienthv.hostchanges.writing import get, put
from clienthv.model.change import NO_DRIVER, Change, What, is_driver

_GIVES_BACK: Final = 5.0
"""Seconds that libvirt gets to give a function back after its guest ended."""
_REPROBES: Final = 0.5
"""Seconds in which the kernel finds the driver of a function that libvirt has just let go of."""
_POLL: Final = 0.05
_FOLDER: Final = "/sys/bus/pci/devices"
_DRIVERS: Final = "/sys/bus/pci/drivers"


def is_vfio(driver: str) -> bool:
    """vfio-pci, or one of its kin for single cards, such as mlx5_vfio_pci (kernel, drivers/vfio/pci)."""
    return "vfio" in driver


def has_ours(change: Change, now: str) -> bool:
    """Whether a function is as it is while it moves: without a driver, or with vfio-pci by libvirt."""
    return is_vfio(now) or (change.setting.what is What.DRIVER and now == NO_DRIVER)


def take(change: Change, root: str) -> None:
    """Take the driver that a function has. Its driver_override is libvirt's to set. Raises RefusedError."""
    address, driver = change.setting.device, change.before
    if change.setting.what is What.DRIVER and driver != NO_DRIVER:
        _unbind(address, driver, root)


def override_of(address: str, root: str) -> str | None:
    """A function's driver_override (Documentation/ABI/testing/sysfs-bus-pci), ``none`` where it is not set.

    Raises BlockedError while a driver of the function hangs.
    """
    text = get(f"{_FOLDER}/{address}/driver_override", f"driver_override of {address}", root)
    if text is None:
        return None
    return text.strip() if is_driver(text.strip()) else NO_DRIVER  # the kernel says (null)


def users(change: Change, root: str) -> str:
    """Who has a function through VFIO, in words; "" when nobody does. Unbinding vfio-pci waits for them."""
    address = change.setting.device
    held = [h for h in inspect.read_holders(address, root) if h.what.startswith("/dev/vfio/")]
    return ", ".join(dict.fromkeys(f"{h.name} (process {h.pid}) has {address}" for h in held))


def wait_for_libvirt(change: Change, now: Callable[[], str | None]) -> None:
    """Let libvirt give a function back: a guest that has just ended leaves it with vfio-pci for a moment."""
    began = time.monotonic()
    while (value := now()) is not None and value != change.before and has_ours(change, value):
        if time.monotonic() - began > (_GIVES_BACK if is_vfio(value) else _REPROBES):
            return
        time.sleep(_POLL)


def as_far_as_it_can_be(change: Change, root: str) -> tuple[Change, str]:
    """A change as it can be taken back, and why not quite: a driver that was unloaded since is not there to be had.

    Without clienthv, the function would have none now.
    """
    has_driver = change.setting.what is What.DRIVER and change.before != NO_DRIVER
    if not has_driver or inspect.is_there(f"{_DRIVERS}/{change.before}", root):
        return change, ""
    return msgspec.structs.replace(change, before=NO_DRIVER), f": {change.before} is not loaded any more"


def give_back(change: Change, now: str, root: str) -> None:
    """Give a function its driver or its driver_override again. Raises RefusedError, BlockedError."""
    address, before = change.setting.device, change.before
    if change.setting.what is What.DRIVER_OVERRIDE:
        # An empty line clears it (Documentation/ABI/testing/sysfs-bus-pci, driver_override).
        text = "" if before == NO_DRIVER else before
        put(f"{_FOLDER}/{address}/driver_override", text, f"set driver_override of {address} back", root, address)
        return
    if now != NO_DRIVER:
        _unbind(address, now, root)
    if before != NO_DRIVER:
        put(f"{_DRIVERS}/{before}/bind", address, f"bind {address} to {before}", root, address)


def _unbind(address: str, driver: str, root: str) -> None:
    holders = inspect.read_holders(address, root)
    put(f"{_FOLDER}/{address}/driver/unbind", address, f"unbind {driver} from {address}", root, address, holders)

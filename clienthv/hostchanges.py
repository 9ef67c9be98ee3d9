"""The only module that changes settings of the host: SR-IOV, mediated devices, link states, trust, NVMe resources.

Reading is the inspect room's. Every function takes the root below which sysfs lies, as reading does; link state and
trust are set by ``ip``, which knows the running PC alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from clienthv import inspect, process
from clienthv.errors import HostError
from clienthv.model.change import Change, Setting, What, check
from clienthv.model.mdev import NO_MDEV

WITHIN = 20.0
"""Seconds that a change gets to show: a card with 8 functions takes one or two, libvirt's giving back less."""

_POLL: Final = 0.05
_USED: Final = frozenset({What.CREATE_VFS, What.LINK_UP, What.CREATE_MDEV, What.NVME_ONLINE})
"""What somebody may be using when it is to be taken back."""

_FILES: Final = {What.VF_AUTOPROBE: "sriov_drivers_autoprobe", What.CREATE_VFS: "sriov_numvfs"}


class RefusedError(HostError):
    """The kernel or the card's driver refused a change that clienthv may make: another way may be open."""


class Fate(Enum):
    """What became of a change that was to be taken back."""

    UNDONE = auto()
    NOTHING_TO_UNDO = auto()
    CHANGED_BY_OTHERS = auto()
    STILL_NEEDED = auto()


class Outcome(NamedTuple):
    """A change's fate, and a sentence about it; "" where there is nothing to say."""

    fate: Fate
    words: str


def value_of(setting: Setting, root: str = "/") -> str | None:
    """What a setting is now; None when there is no such card, interface or function, or it does not say.

    Raises HostError when ``ip`` is needed and missing.
    """
    if setting.what is What.CREATE_MDEV:
        return inspect.mdev_type_now(setting.device, setting.uuid, root)
    card = inspect.read_card(setting.device, root)
    if card is None or (setting.interface is not None and setting.interface not in card.interfaces):
        return None
    sriov = card.sriov
    match setting.what:
        case What.CREATE_VFS:
            return None if sriov.numvfs is None else str(sriov.numvfs)
        case What.VF_AUTOPROBE:
            return None if sriov.drivers_autoprobe is None else str(int(sriov.drivers_autoprobe))
        case What.LINK_UP:
            up = inspect.link_is_up(setting.interface or "", root)
            return None if up is None else "up" if up else "down"
        case What.VF_TRUST:
            trust = process.vf_trust(setting.interface or "", setting.index or 0)
            return None if trust is None else "on" if trust else "off"
        case What.NVME_FLEXIBLE | What.NVME_ONLINE:
            return _nvme(setting, card)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """An NVMe controller that nvme-cli cannot manage, or no nvme-cli, is a refusal: another way may be open."""
    try:
        yield
    except HostError as e:
        raise RefusedError(e.message, hint=e.hint, detail=e.detail) from e


def _nvme(setting: Setting, card: inspect.Card) -> str | None:
    """What an NVMe primary controller says of itself or of a secondary one. Raises RefusedError when it cannot."""
    with _refusing():
        if setting.what is What.NVME_FLEXIBLE:
            primary = process.nvme_primary(card.nvme or "")
            return f"{primary.queues}/{primary.interrupts}"
        secondary = process.nvme_secondary(card.nvme or "", setting.index or 0)
    return None if secondary is None else "on" if secondary.online else "off"


def make(change: Change, root: str = "/") -> None:
    """Give a setting its new value and wait until it shows. Raises RefusedError, HostError."""
    check(change)
    _set(change.setting, change.after, root)
    _wait(lambda: _shows(change, root))
    if not _shows(change, root):
        msg = f"{name_of(change.setting)} was set to {change.after}, which did not show within {WITHIN:.0f} seconds"
        raise RefusedError(msg, hint="dmesg shows what the card's driver says")


def take_back(change: Change, root: str = "/") -> Outcome:
    """Give a setting back the value it had, when it still has ours and nothing is in the way.

    Doing it twice, or for a change that was never made, does nothing. Raises HostError when it cannot be set.
    """
    setting = check(change).setting
    what = name_of(setting)
    now = value_of(setting, root)
    if now is None:
        return Outcome(Fate.NOTHING_TO_UNDO, f"{what} is not there any more")
    if now == change.before:
        return Outcome(Fate.NOTHING_TO_UNDO, "")
    if now != change.after:
        return Outcome(Fate.CHANGED_BY_OTHERS, f"{what} is {now}, which clienthv did not set: left as it is")
    if setting.what in _USED and (users := _users(setting, root)):
        return Outcome(Fate.STILL_NEEDED, f"{what} stays {now}: {users}")
    _set(setting, change.before, root)
    back = Change(setting=setting, before=change.after, after=change.before)
    _wait(lambda: _shows(back, root))
    return Outcome(Fate.UNDONE, f"{what} is {change.before} again")


def name_of(setting: Setting) -> str:
    """A setting for a person."""
    match setting.what:
        case What.CREATE_VFS:
            return f"the number of virtual functions of {setting.device}"
        case What.VF_AUTOPROBE:
            return f"sriov_drivers_autoprobe of {setting.device}"
        case What.LINK_UP:
            return f"the link of {setting.interface} ({setting.device})"
        case What.NVME_FLEXIBLE:
            return f"the flexible resources (queues/interrupts) of the primary controller of {setting.device}"
        case What.NVME_ONLINE:
            return f"the secondary controller of virtual function {setting.index} of {setting.device}"
        case What.VF_TRUST:
            return f"the trust of virtual function {setting.index} of {setting.interface} ({setting.device})"
        case What.CREATE_MDEV:
            return f"the mediated device {setting.uuid} of {setting.device}"


def _set(setting: Setting, value: str, root: str) -> None:
    match setting.what:
        case What.LINK_UP:
            process.set_link(setting.interface or "", up=value == "up")
        case What.VF_TRUST:
            process.set_vf_trust(setting.interface or "", setting.index or 0, on=value == "on")
        case What.CREATE_VFS | What.VF_AUTOPROBE:
            _write(setting, value, root)
        case What.NVME_FLEXIBLE | What.NVME_ONLINE:
            with _refusing():
                _set_nvme(setting, value, root)
        case What.CREATE_MDEV:
            _set_mdev(setting, value, root)


def _set_nvme(setting: Setting, value: str, root: str) -> None:
    """Flexible resources, which only a reset of the function makes true; or one secondary controller's state."""
    card = inspect.read_card(setting.device, root)
    node = (card.nvme if card is not None else None) or ""
    if setting.what is What.NVME_FLEXIBLE:
        _set_flexible(setting, node, value, root)
    elif value == "off":
        process.set_nvme_offline(node, setting.index or 0)
    else:
        process.set_nvme_online(node, setting.index or 0, (card.sriov.numvfs if card is not None else None) or 1)


def _set_flexible(setting: Setting, node: str, value: str, root: str) -> None:
    """Both numbers, or neither: what was set when one is refused is set back before anybody hears of it."""
    before = process.nvme_primary(node)
    queues, interrupts = map(int, value.split("/"))
    try:
        process.set_nvme_primary(node, queues, interrupts)
        _put(setting.device, "reset", "1", root)
    except HostError:
        with contextlib.suppress(HostError):
            process.set_nvme_primary(node, before.queues, before.interrupts)
        raise


def _set_mdev(setting: Setting, value: str, root: str) -> None:
    """Remove a mediated device, and make one of this type (Documentation/driver-api/vfio-mediated-device.rst)."""
    uuid = setting.uuid
    if value_of(setting, root) not in (None, NO_MDEV):
        if users := _users(setting, root):
            msg = f"{name_of(setting)} is to be made anew, and {users}"
            raise RefusedError(msg, hint="stop the VM that has it")
        _put(setting.device, f"{uuid}/remove", "1", root)
        _wait(lambda: value_of(setting, root) == NO_MDEV)
    if value != NO_MDEV:
        _put(setting.device, f"mdev_supported_types/{value}/create", uuid, root)


def _write(setting: Setting, value: str, root: str) -> None:
    _put(setting.device, _FILES[setting.what], value, root)


def _put(device: str, file: str, value: str, root: str) -> None:
    """Write a card's file in sysfs in one piece, as its parser wants it (Documentation/filesystems/sysfs.rst)."""
    path = f"{root.rstrip('/')}/sys/bus/pci/devices/{device}/{file}"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(handle, f"{value}\n".encode())
        finally:
            os.close(handle)
    except PermissionError as e:
        msg = f"cannot write {value} to {path}: {e.strerror}"
        raise HostError(msg, hint="run clienthv as root, where sysfs is not mounted read-only") from e
    except OSError as e:
        msg = f"{device}: the kernel refused {value} for {file}: {e.strerror}"
        firmware = "; the firmware setup may have a switch for SR-IOV" if file.startswith("sriov") else ""
        raise RefusedError(msg, hint=f"dmesg says more{firmware}") from e


def _shows(change: Change, root: str) -> bool:
    """Whether a change has come into effect: for new functions, whether all of them are there."""
    setting = change.setting
    if setting.what is What.CREATE_VFS:
        card = inspect.read_card(setting.device, root)
        return card is not None and str(card.sriov.numvfs) == change.after == str(len(card.sriov.virtfns))
    try:
        return value_of(setting, root) == change.after
    except HostError:
        return False  # a controller that is being reset does not answer yet


def _users(setting: Setting, root: str) -> str:
    """Who has the card's virtual functions, in words; "" when nobody has.

    Functions that clienthv creates have no driver: one that has is in a guest, or somebody bound it. A guest that has
    just ended leaves its function with vfio-pci until libvirt gives it back, so that driver is waited for. What keeps a
    link up are guests alone: functions with drivers of the host may have been there before. A mediated device that is
    removed under its user keeps the one who removes it waiting.
    """
    if setting.what is What.CREATE_MDEV:
        _wait(lambda: not inspect.mdev_users(setting.uuid, root))
        return ", ".join(f"{name} has it open" for name in inspect.mdev_users(setting.uuid, root))

    def drivers() -> dict[str, str]:
        card = inspect.read_card(setting.device, root)
        bound = card.drivers if card is not None else {}
        if setting.what is What.NVME_ONLINE:
            there = card.sriov.virtfns if card is not None else ()
            mine = there[setting.index or 0] if (setting.index or 0) < len(there) else None
            return {a: d for a, d in bound.items() if a == mine}
        return bound if setting.what is What.CREATE_VFS else {a: d for a, d in bound.items() if _is_vfio(d)}

    _wait(lambda: not any(_is_vfio(driver) for driver in drivers().values()))
    return ", ".join(f"{address} is in use by {driver}" for address, driver in drivers().items())


def _is_vfio(driver: str) -> bool:
    """vfio-pci, or one of its kin for single cards, such as mlx5_vfio_pci (kernel, drivers/vfio/pci)."""
    return "vfio" in driver


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL)

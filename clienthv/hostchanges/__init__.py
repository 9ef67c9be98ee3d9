"""The only room that changes settings of the host: drivers, SR-IOV, mediated devices, link states, huge pages.

Reading is the inspect room's. Every function takes the root below which sysfs lies, as reading does; link state and
trust are set by ``ip``, which knows the running PC alone, as modprobe does.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from clienthv import inspect, process
from clienthv.errors import HostError
from clienthv.hostchanges import functions
from clienthv.hostchanges.functions import is_vfio
from clienthv.hostchanges.names import name_of
from clienthv.hostchanges.writing import BlockedError, RefusedError, put
from clienthv.model.change import HANDING_OVER, OF_THE_PC, Change, Setting, What, check
from clienthv.model.mdev import NO_MDEV

__all__ = ["BlockedError", "Fate", "Outcome", "RefusedError", "make", "name_of", "take_back", "value_of"]

WITHIN = 20.0
"""Seconds that a change gets to show: a card with 8 functions takes one or two, libvirt's giving back less."""

_ENDS: Final = 5.0
"""Seconds that a process gets which was left at work."""
_POLL: Final = 0.05
_USED: Final = frozenset({What.CREATE_VFS, What.LINK_UP, What.CREATE_MDEV, What.NVME_ONLINE})
"""What somebody may be using when it is to be taken back."""

_OF_NVME: Final = frozenset({What.NVME_FLEXIBLE, What.NVME_ONLINE})
_DEVICES: Final = "/sys/bus/pci/devices"
_FILES: Final = {What.VF_AUTOPROBE: "sriov_drivers_autoprobe", What.CREATE_VFS: "sriov_numvfs"}


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
    if setting.what in OF_THE_PC | HANDING_OVER | {What.CREATE_MDEV}:
        return _value_beside_sriov(setting, root)
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
        case _:
            return None


def _value_beside_sriov(setting: Setting, root: str) -> str | None:
    match setting.what:
        case What.LOAD_MODULE:
            return "loaded" if inspect.module_is_loaded(setting.device, root) else "absent"
        case What.HUGEPAGES:
            pages = inspect.nr_hugepages(setting.pages_kib, root)
            return None if pages is None else str(pages)
        case What.DRIVER:
            return inspect.driver_of(setting.device, root)
        case What.DRIVER_OVERRIDE:
            return functions.override_of(setting.device, root)
        case _:
            return inspect.mdev_type_now(setting.device, setting.uuid, root)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What a program cannot do, or no such program, is a refusal: another way may be open."""
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
    setting = check(change).setting
    if setting.what in HANDING_OVER:
        functions.take(change, root)
        return
    _set(setting, change.after, root)
    _wait(lambda: _shows(change, root) or setting.what is What.HUGEPAGES)  # the kernel has tried when it answers
    if not _shows(change, root):
        msg = f"{name_of(change.setting)} was set to {change.after}, which did not show within {WITHIN:.0f} seconds"
        raise RefusedError(msg, hint="dmesg shows what the card's driver says")


def take_back(change: Change, root: str = "/") -> Outcome:
    """Give a setting back the value it had, when it still has ours and nothing is in the way.

    Doing it twice, or for a change that was never made, does nothing. Raises HostError when it cannot be set.
    """
    named, change = change, _under_its_name(check(change), root)
    setting = change.setting
    if writers := _at_work(setting, root):
        who = ", ".join(map(str, writers))
        words = f"{name_of(setting)} may still change: the kernel is still at it, for process {who}"
        return Outcome(Fate.STILL_NEEDED, words)
    if setting.what in HANDING_OVER:
        functions.wait_for_libvirt(change, lambda: value_of(setting, root))
    now = value_of(setting, root)
    if now is None or now == change.before:
        return _nothing_to_undo(named.setting, setting, now, root)
    change, why = functions.as_far_as_it_can_be(change, root)
    if now == change.before:
        return Outcome(Fate.NOTHING_TO_UNDO, f"{name_of(setting)} is {now}{why}")
    if not _is_ours(change, now):
        return Outcome(
            Fate.CHANGED_BY_OTHERS, f"{name_of(setting)} is {now}, which clienthv did not set: left as it is"
        )
    if users := _in_the_way(change, root):
        return Outcome(Fate.STILL_NEEDED, f"{name_of(setting)} stays {now}: {users}")
    return _set_back(change, now, why, root)


def _nothing_to_undo(named: Setting, setting: Setting, now: str | None, root: str) -> Outcome:
    """What to say of a setting that has its old value, or none: it may be hidden, and its interface renamed."""
    if now is not None:
        gone = f"{name_of(named)} is not there any more, {name_of(setting)} is {now}"
        return Outcome(Fate.NOTHING_TO_UNDO, "" if named == setting else gone)
    if _is_hidden(setting, root):
        return Outcome(Fate.STILL_NEEDED, f"{name_of(setting)} cannot be read, so it is not set back")
    return Outcome(Fate.NOTHING_TO_UNDO, f"{name_of(setting)} is not there any more")


def _set_back(change: Change, now: str, why: str, root: str) -> Outcome:
    """Give a setting its old value and see that it has it. ``why`` it is not quite the old one. Raises HostError."""
    setting, target = change.setting, _without(change, now)
    if setting.what in HANDING_OVER:
        functions.give_back(change, now, root)
    else:
        _set(setting, target, root)
    back = Change(setting=setting, before=change.after, after=target)
    _wait(lambda: _shows(back, root))
    if not _shows(back, root):
        still = value_of(setting, root) or "not to be read"
        return Outcome(Fate.STILL_NEEDED, f"{name_of(setting)} was set to {target} and is {still} still")
    return Outcome(Fate.UNDONE, f"{name_of(setting)} is {target}{why or ' again'}")


def _under_its_name(change: Change, root: str) -> Change:
    """The change with the name that its interface has now: of a card with only one, it is that one."""
    setting = change.setting
    if setting.interface is None:
        return change
    card = inspect.read_card(setting.device, root)
    if card is None or setting.interface in card.interfaces or len(card.interfaces) != 1:
        return change
    renamed = msgspec.structs.replace(setting, interface=card.interfaces[0])
    try:
        return check(msgspec.structs.replace(change, setting=renamed))
    except ValueError:
        return change  # a name that clienthv does not give to a program


def _at_work(setting: Setting, root: str) -> set[int]:
    """The processes that are at work on a setting still: of a clienthv that was killed, or that gave up waiting.

    Most end soon. A driver that does not let go of a function has been waited for already.
    """
    card = inspect.read_card(setting.device, root) if setting.what in _OF_NVME else None
    marks = [mark for mark in (setting.device, setting.interface, card.nvme if card is not None else None) if mark]

    def found() -> set[int]:
        return {pid for mark in marks for pid in inspect.writers_to(mark, root)}

    if setting.what not in HANDING_OVER:
        _wait(lambda: not found(), _ENDS)
    return found()


def _is_hidden(setting: Setting, root: str) -> bool:
    """Whether a setting that has no value may be there all the same: its file cannot be read, or there is no sysfs."""
    if setting.what is What.HUGEPAGES:
        return inspect.is_there(inspect.HUGEPAGES.format(setting.pages_kib), root) or not inspect.is_there(
            "/sys/kernel", root
        )
    if setting.what is What.LOAD_MODULE:
        return False
    file = "driver_override" if setting.what is What.DRIVER_OVERRIDE else _FILES.get(setting.what)
    here = f"{_DEVICES}/{setting.device}"
    return not inspect.is_there(_DEVICES, root) or (file is not None and inspect.is_there(f"{here}/{file}", root))


def _without(change: Change, now: str) -> str:
    """What a setting is to be: as before, or of huge pages the number without those of this VM."""
    if change.setting.what is What.HUGEPAGES and int(now) > int(change.after):
        return str(int(now) - (int(change.after) - int(change.before)))
    return change.before


def _is_ours(change: Change, now: str) -> bool:
    """Whether a setting is as clienthv left it, be it half done."""
    match change.setting.what:
        case What.DRIVER | What.DRIVER_OVERRIDE:
            return functions.has_ours(change, now)
        case What.HUGEPAGES:  # the kernel gives as many as it finds
            return int(change.before) < int(now)  # others may have taken more since
        case _:
            return now == change.after


def _in_the_way(change: Change, root: str) -> str:
    """Who uses what is to be taken back, in words; "" when nobody does."""
    setting = change.setting
    match setting.what:
        case What.DRIVER | What.DRIVER_OVERRIDE:
            return functions.users(change, root)
        case What.LOAD_MODULE:
            return ", ".join(f"{address} is with it" for address in inspect.functions_with("vfio-pci", root))
        case _:
            return _users(setting, root) if setting.what in _USED else ""


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
        case What.LOAD_MODULE:
            with _refusing():
                process.load_module(setting.device, loaded=value == "loaded")
        case What.HUGEPAGES:
            path = inspect.HUGEPAGES.format(setting.pages_kib)
            put(path, value, f"have {value} huge pages of {setting.pages_kib} KiB", root, setting.device)
        case What.DRIVER | What.DRIVER_OVERRIDE | What.IMAGE | What.DOMAIN:
            raise AssertionError(setting.what)  # are changed elsewhere


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
    """Write a card's file. Raises RefusedError."""
    put(f"{_DEVICES}/{device}/{file}", value, f"write {value} to {file} of {device}", root, device)


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

    if setting.what is What.LINK_UP and (uppers := inspect.stacked_on(setting.interface or "", root)):
        return f"{', '.join(uppers)} is stacked on it"
    if setting.what is What.LINK_UP and inspect.is_used_by_host(setting.interface or "", root):
        return "it has an address or a route of the host's now"

    def drivers() -> dict[str, str]:
        card = inspect.read_card(setting.device, root)
        bound = card.drivers if card is not None else {}
        if setting.what is What.NVME_ONLINE:
            there = card.sriov.virtfns if card is not None else ()
            mine = there[setting.index or 0] if (setting.index or 0) < len(there) else None
            return {a: d for a, d in bound.items() if a == mine}
        return bound if setting.what is What.CREATE_VFS else {a: d for a, d in bound.items() if is_vfio(d)}

    _wait(lambda: not any(is_vfio(driver) for driver in drivers().values()))
    return ", ".join(f"{address} is in use by {driver}" for address, driver in drivers().items())


def _wait(done: Callable[[], bool], within: float = math.inf) -> None:
    deadline = time.monotonic() + min(WITHIN, within)
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL)

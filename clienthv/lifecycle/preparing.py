"""Getting the host ready for a plan: prepare, read again, plan again (docs/adr/0010).

A plan that needs virtual functions which are not there is a plan for a PC that does not exist yet. So the changes it
names are made, each written down in the journal first; then the PC is read and planned for anew. Only what that plan
says is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from clienthv import hostchanges, inspect, planner
from clienthv.errors import HostError
from clienthv.hostchanges import RefusedError
from clienthv.journal import Journal
from clienthv.lifecycle import live, returning
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.returning import Site
from clienthv.model.change import (
    HANDING_OVER,
    NO_DRIVER,
    OF_A_FUNCTION,
    VFIO_PCI,
    Change,
    Setting,
    What,
    check,
)
from clienthv.model.faults import Fault
from clienthv.model.host import Host
from clienthv.model.mdev import uuid_of
from clienthv.model.plan import HostChange, Kind, Plan, VirtualFunction

_OWN: Final = frozenset(What)
_BIND: Final = "bind-vfio"


class Ready(msgspec.Struct, frozen=True):
    """The host as it is after all changes, and the plan for it."""

    host: Host
    plan: Plan


def make_ready(site: Site, wish: Asked, held: Journal, say: live.Say) -> Ready:
    """Make what the plan of a profile needs of the host. Raises HostError, PlanError; the caller takes it back then.

    A card that refuses, or whose functions turn out not to be fit, is left as it was, and the plan made without it.
    """
    returning.withdraw_trust(site, held)
    refused = dict(wish.refused)
    on_the_way: list[Plan] = []
    while True:
        ready = _look(site, wish, refused)
        of, kind = next(((f, k) for f, k in _of(ready.plan) if f.created), (None, Kind.NIC))
        try:
            if of is None:
                _make_all(ready.plan, site, held)
                break
            _make(ready.plan, site, held, of.physfn)
        except _FailedError as e:
            if e.device in refused:
                raise  # it was planned without, and still something is set on it
            refused[e.device] = e.message
            _give_up(site, held, e.message, say)
            continue
        after = _look(site, wish, refused)
        if any(f.physfn == of.physfn and not f.created for f, _ in _of(after.plan)):
            on_the_way.append(ready.plan)
            continue
        refused[of.physfn] = f"the virtual functions of {of.physfn} cannot be handed over: {_why_not(after.plan, kind)}"
        _give_up(site, held, refused[of.physfn], say)
        if not any(f.created for f, _ in _of(after.plan)):
            ready = after  # it has the functions' own reasons, which a plan without them could not give
            _make_all(ready.plan, site, held)
            break
    physfns = {of.physfn for of, _ in _of(ready.plan)}
    functions = {(of.physfn, of.index) for of, _ in _of(ready.plan)}
    shared = [e.change.setting for e in held.entries if e.change.setting.device in physfns]
    held.join([s for s in shared if s.what not in OF_A_FUNCTION or _stays_for(s, functions)], site.owner)
    return Ready(ready.host, _together(on_the_way, ready.plan, physfns))


def hand_over(plan: Plan, site: Site, held: Journal) -> None:
    """Take the functions that move from their drivers; libvirt gives them vfio-pci, and their driver back.

    Where this user may not, libvirt's daemon does all of it. Raises HostError, saying what it was about.
    """
    moving = [c.device for c in plan.host_changes if c.action == _BIND and inspect.can_hand_over(c.device, site.root)]
    if not moving:
        return
    with _about(Fault.VFIO):
        module = Setting(what=What.LOAD_MODULE, device=VFIO_PCI)
        held.join([module], site.owner)
        _make_one(module, "loaded", site, held)
    for address in moving:
        with _about(Fault.FUNCTION):
            _make_one(Setting(what=What.DRIVER, device=address), NO_DRIVER, site, held)
            _make_one(Setting(what=What.DRIVER_OVERRIDE, device=address), "vfio-pci", site, held)


@contextmanager
def _about(fault: Fault) -> Iterator[None]:
    """Say of an error what it is about, so that what it is laid to can be done without."""
    try:
        yield
    except RefusedError as e:
        raise type(e)(e.message, hint=e.hint, detail=e.detail, fault=fault) from e


def _stays_for(setting: Setting, functions: set[tuple[str, int | None]]) -> bool:
    """Whether what was set for one function is needed by who has it now. Trust is withdrawn and set anew instead."""
    return setting.what is What.NVME_ONLINE and (setting.device, setting.index) in functions


class _FailedError(RefusedError):
    """A refusal, with the physical function on which something was to be set, or the size of page of a pool."""

    def __init__(self, device: str, refusal: RefusedError) -> None:
        super().__init__(refusal.message, hint=refusal.hint, detail=refusal.detail)
        self.device = device


def _look(site: Site, wish: Asked, refused: dict[str, str]) -> Ready:
    host = live.read_host(site.connection, site.root, None if wish.beside else site.name)
    return Ready(host, planner.plan(host, wish.profile, refused, wish.kept, wish.guest, wish.failed))


def _of(plan: Plan) -> list[tuple[VirtualFunction, Kind]]:
    return [(d.virtual_function, d.kind) for d in plan.decisions if d.virtual_function is not None]


def _make(plan: Plan, site: Site, held: Journal, physfn: str) -> None:
    """Make a plan's changes of one device, but for those that need a function of it. Raises _FailedError."""
    for change in plan.host_changes:
        if change.action in _OWN - OF_A_FUNCTION and change.device == physfn:
            _try_one(change, site, held)


def _make_all(plan: Plan, site: Site, held: Journal) -> None:
    """Make the changes of a plan that are clienthv's own, in its order. Raises _FailedError."""
    for change in plan.host_changes:
        if change.action in _OWN:
            _try_one(change, site, held)


def _try_one(wanted: HostChange, site: Site, held: Journal) -> None:
    what = What(wanted.action)
    mdev = uuid_of(site.name) if what is What.CREATE_MDEV else msgspec.UNSET
    device = f"{wanted.device} {site.name}" if what is What.HUGEPAGES else wanted.device
    setting = Setting(what=what, device=device, interface=wanted.interface, index=wanted.index, mdev=mdev)
    try:
        _make_one(setting, wanted.value or "", site, held)
    except RefusedError as e:
        raise _FailedError(wanted.device, e) from e


def _make_one(setting: Setting, value: str, site: Site, held: Journal) -> None:
    """Write a change down, then make it. One that is there already is nobody's. Raises HostError, RefusedError."""
    before = hostchanges.value_of(setting, site.root)
    if before is None:
        msg = f"{hostchanges.name_of(setting)} cannot be read, so it could not be set back"
        if setting.what in HANDING_OVER:
            raise RefusedError(msg, hint="clienthv inspect shows what is there; the device may be gone")
        hint = "leave out trust in [devices.nic]: the card's driver does not know it"
        raise HostError(msg, hint=hint if setting.what is What.VF_TRUST else "clienthv inspect shows the card")
    if before == value and setting.what is not What.DRIVER:
        return
    try:
        change = check(Change(setting=setting, before=before, after=value))
    except ValueError as e:
        msg = f"{hostchanges.name_of(setting)} cannot be set: {e}"
        raise HostError(msg, hint="rename the interface: letters, digits and _ . @ + -, at most 15") from e
    held.record(change, site.owner)
    hostchanges.make(change, site.root)


def _together(before: list[Plan], last: Plan, physfns: set[str]) -> Plan:
    """The plan for the prepared host, with what was changed on the way there and warned of.

    What was planned on the way for a device that then refused was taken back.
    """
    own = [c for p in before for c in p.host_changes if c.action in _OWN - OF_A_FUNCTION and c.device in physfns]
    changes = dict.fromkeys((*own, *last.host_changes))
    warnings = dict.fromkeys((*(w for p in before for w in p.warnings), *last.warnings))
    return msgspec.structs.replace(last, host_changes=tuple(changes), warnings=tuple(warnings))


def _why_not(plan: Plan, kind: Kind) -> str:
    """What speaks against virtual functions in a plan, in short."""
    reasons = dict.fromkeys(r.reason.value for r in plan.of(kind).rejected if r.strategy == "vf")
    return ", ".join(reasons) or "others are chosen"


def _give_up(site: Site, held: Journal, why: str, say: live.Say) -> None:
    """Take back what was made on a card that did not lead to a virtual function."""
    say(f"{why}; planning without")
    for sentence in returning.take_back(site, held, begun=True):
        say(sentence)

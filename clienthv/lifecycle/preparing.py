"""Getting the host ready for a plan: prepare, read again, plan again (docs/adr/0010).

A plan that needs virtual functions which are not there is a plan for a PC that does not exist yet. So the changes it
names are made, each written down in the journal first; then the PC is read and planned for anew. Only what that plan
says is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from clienthv import hostchanges, journal, planner
from clienthv.errors import ClienthvError, HostError
from clienthv.hostchanges import RefusedError
from clienthv.journal import Journal
from clienthv.lifecycle import live, returning
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.returning import Site
from clienthv.lifecycle.undisturbed import undisturbed
from clienthv.model.change import Change, Setting, What, check
from clienthv.model.host import Host
from clienthv.model.mdev import uuid_of
from clienthv.model.plan import HostChange, Kind, Plan, VirtualFunction

_OWN = frozenset(what.value for what in What)


class Ready(msgspec.Struct, frozen=True):
    """The host as it is after all changes, and the plan for it."""

    host: Host
    plan: Plan


@contextmanager
def journal_for(plan: Plan, site: Site, say: live.Say) -> Iterator[Journal | None]:
    """The journal, held until the VM runs, where a plan rests on what ``up`` makes or shares; None elsewhere.

    Held so long, no other clienthv can take the function or undo what it needs in between.
    """
    if _of(plan) is None and not any(c.action == What.CREATE_MDEV for c in plan.host_changes):
        yield None
        return
    with journal.held(returning.where(site.root), say) as held:
        yield held


def make_ready(site: Site, wish: Asked, held: Journal, undo: ExitStack, say: live.Say) -> Ready:
    """Make what the plan of a profile needs of the host; ``undo`` takes it back. Raises HostError, PlanError.

    A card that refuses, or whose functions turn out not to be fit, is left as it was, and the plan made without it.
    """
    undo.callback(_take_back, site, held, say)
    returning.withdraw_trust(site, held)
    refused: dict[str, str] = {}
    while True:
        ready = _look(site, wish, refused)
        if not _shared(ready.plan, site, held, refused, say):
            continue
        of = _of(ready.plan)
        if of is None or not of.created:
            break
        try:
            _make(ready.plan, site, held, but=What.VF_TRUST)
        except RefusedError as e:
            refused[of.physfn] = e.message
            _give_up(site, held, e.message, say)
            continue
        after = _look(site, wish, refused)
        now = _of(after.plan)
        if now is not None and now.physfn == of.physfn and not now.created:
            ready = Ready(after.host, _together(ready.plan, after.plan))
            break
        refused[of.physfn] = f"the virtual functions of {of.physfn} cannot be handed over: {_why_not(after.plan)}"
        _give_up(site, held, refused[of.physfn], say)
        if now is None:
            ready = after
            break
    _make(ready.plan, site, held)
    if (of := _of(ready.plan)) is not None:
        shared = [e.change.setting for e in held.entries if e.change.setting.device == of.physfn]
        held.join([s for s in shared if s.what is not What.VF_TRUST], site.owner)
    return ready


def _shared(plan: Plan, site: Site, held: Journal, refused: dict[str, str], say: live.Say) -> bool:
    """Make the mediated device that a plan rests on. When the kernel refuses, it is noted, and False the answer."""
    for change in plan.host_changes:
        if change.action == What.CREATE_MDEV:
            try:
                _make_one(change, site, held)
            except RefusedError as e:
                refused[change.device] = e.message
                _give_up(site, held, e.message, say)
                return False
    return True


def _look(site: Site, wish: Asked, refused: dict[str, str]) -> Ready:
    host = live.read_host(site.connection, site.root)
    return Ready(host, planner.plan(host, wish.profile, refused, wish.kept, guest=wish.guest))


def _of(plan: Plan) -> VirtualFunction | None:
    return plan.of(Kind.NIC).virtual_function


def _make(plan: Plan, site: Site, held: Journal, but: What | None = None) -> None:
    """Make the changes of a plan that are clienthv's own, in its order."""
    for change in plan.host_changes:
        if change.action in _OWN and change.action != but:
            _make_one(change, site, held)


def _make_one(wanted: HostChange, site: Site, held: Journal) -> None:
    """Write a change down, then make it. One that is there already is nobody's."""
    what = What(wanted.action)
    mdev = uuid_of(site.name) if what is What.CREATE_MDEV else msgspec.UNSET
    setting = Setting(what=what, device=wanted.device, interface=wanted.interface, index=wanted.index, mdev=mdev)
    before = hostchanges.value_of(setting, site.root)
    if before is None:
        msg = f"{hostchanges.name_of(setting)} cannot be read, so it could not be set back"
        hint = "leave out trust in [devices.nic]: the card's driver does not know it"
        raise HostError(msg, hint=hint if setting.what is What.VF_TRUST else "clienthv inspect shows the card")
    if before == wanted.value:
        return
    try:
        change = check(Change(setting=setting, before=before, after=wanted.value or ""))
    except ValueError as e:
        msg = f"{hostchanges.name_of(setting)} cannot be set: {e}"
        raise HostError(msg, hint="rename the interface: letters, digits and _ . @ + -, at most 15") from e
    held.record(change, site.owner)
    hostchanges.make(change, site.root)


def _together(first: Plan, then: Plan) -> Plan:
    """The plan for the prepared host, with what was changed on the way there and warned of."""
    own = [
        c for c in first.host_changes if c.action in _OWN and c not in then.host_changes and c.action != What.VF_TRUST
    ]
    warned = [w for w in first.warnings if w not in then.warnings]
    return msgspec.structs.replace(then, host_changes=(*own, *then.host_changes), warnings=(*warned, *then.warnings))


def _why_not(plan: Plan) -> str:
    """What speaks against virtual functions in a plan, in short."""
    reasons = dict.fromkeys(r.reason.value for r in plan.of(Kind.NIC).rejected if r.strategy == "vf")
    return ", ".join(reasons) or "others are chosen"


def _give_up(site: Site, held: Journal, why: str, say: live.Say) -> None:
    """Take back what was made on a card that did not lead to a virtual function."""
    say(f"{why}; planning without")
    for sentence in returning.take_back(site, held):
        say(sentence)


def _take_back(site: Site, held: Journal, say: live.Say) -> None:
    """Take everything back after a failure, whose own words go first."""
    with undisturbed():
        try:
            for sentence in returning.take_back(site, held):
                say(sentence)
        except ClienthvError as e:
            say(f"not everything on the host could be set back: {e.message}; clienthv down {site.name} tries again")

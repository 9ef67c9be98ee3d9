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
from clienthv.model.change import OF_A_FUNCTION, Change, Setting, What, check
from clienthv.model.host import Host
from clienthv.model.mdev import uuid_of
from clienthv.model.plan import HostChange, Kind, Plan, VirtualFunction

_OWN = frozenset(What)


class Ready(msgspec.Struct, frozen=True):
    """The host as it is after all changes, and the plan for it."""

    host: Host
    plan: Plan


@contextmanager
def journal_for(plan: Plan, site: Site, say: live.Say) -> Iterator[Journal | None]:
    """The journal, held until the VM runs, where a plan rests on a virtual function or a share; None elsewhere.

    Held so long, no other clienthv can take the function or undo what it needs in between.
    """
    if not _of(plan) and not any(c.action == What.CREATE_MDEV for c in plan.host_changes):
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
            if e.physfn in refused:
                raise  # it was planned without, and still something is set on it
            refused[e.physfn] = e.message
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


def _stays_for(setting: Setting, functions: set[tuple[str, int | None]]) -> bool:
    """Whether what was set for one function is needed by who has it now. Trust is withdrawn and set anew instead."""
    return setting.what is What.NVME_ONLINE and (setting.device, setting.index) in functions


class _FailedError(RefusedError):
    """A refusal, with the physical function on which something was to be set."""

    def __init__(self, physfn: str, refusal: RefusedError) -> None:
        super().__init__(refusal.message, hint=refusal.hint, detail=refusal.detail)
        self.physfn = physfn


def _look(site: Site, wish: Asked, refused: dict[str, str]) -> Ready:
    host = live.read_host(site.connection, site.root, site.name)
    return Ready(host, planner.plan(host, wish.profile, refused, wish.kept, guest=wish.guest))


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


def _try_one(change: HostChange, site: Site, held: Journal) -> None:
    try:
        _make_one(change, site, held)
    except RefusedError as e:
        raise _FailedError(change.device, e) from e


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

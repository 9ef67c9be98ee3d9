"""Starting a VM until it runs: what a start fails of is told, taken back, and done without the next time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from clienthv import guests, process, render
from clienthv.errors import ClienthvError, UsageError
from clienthv.hypervisor import Connection
from clienthv.journal import Journal
from clienthv.lifecycle import differences, files, keeping, live, making, preparing, returning, slots, watching
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.preparing import Ready
from clienthv.lifecycle.remembered import Remembered
from clienthv.lifecycle.returning import Site
from clienthv.model.faults import Fault
from clienthv.model.host import Host
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.vm import Options, Seen, Vm
from clienthv.strategies import blaming

MOST: Final = 8
"""How often a VM is started before clienthv gives up: each time a device less, or the next of its kind."""

_IMAGES: Final = (Strategy.PARAVIRTUAL, Strategy.EMULATED)


class Request(NamedTuple):
    """What ``up`` was asked: a VM or profile, the name for a new VM, and files.

    ``strict`` is to fail with the first start that fails.
    """

    target: str
    name: str | None
    files: files.Wanted
    redefine: bool = False
    upgrade: tuple[Kind, ...] = ()
    strict: bool = False


class Wanted(NamedTuple):
    """The VM to start: its profile with the texts it is made of, and its files.

    ``new_mib`` is the size in MiB of an image to be made, ``before`` what the VM remembers, ``xml`` its definition.
    """

    profile: Profile
    chain: tuple[ProfileText, ...]
    options: Options
    new_mib: int | None
    before: Remembered | None
    xml: str | None


def start(site: Site, wanted: Wanted, request: Request, held: Journal, say: live.Say) -> Plan:
    """Start a VM, with what is possible; its plan. Raises every kind of ClienthvError, with nothing left changed."""
    before = wanted.before
    seen = keeping.seen_by(before, request.upgrade)
    wish = Asked(keeping.pinned(wanted.profile, seen))
    if before is not None:
        host = live.read_host(site.connection, site.root, site.name)
        wish = keeping.asked(wish.profile, before, host, request.upgrade)
    wish = wish._replace(guest=guests.read(wanted.profile.guest.os), keeps_firmware=seen.firmware is not None)
    wish = keeping.with_mdev(wish, site.name)
    last = before.plan if before else None
    for left in reversed(range(MOST)):
        attempt = _Attempt(site, wanted, request, held, say)
        try:
            return attempt.carry_out(wish, last)
        except BaseException as e:
            attempt.take_back()
            if request.strict or not left or not site.connection.answers():
                raise
            wish = without(wish, e, attempt.ready, say)
            last = attempt.ready.plan if attempt.ready is not None else last
    raise AssertionError  # the last round returns or raises


def without(wish: Asked, failure: BaseException, ready: Ready | None, say: live.Say) -> Asked:
    """What to ask for after a failure: the same without what it is laid to. Raises it again where nothing would help.

    A daemon that went away is asked again, once.
    """
    if not isinstance(failure, ClienthvError) or ready is None:
        raise failure
    if failure.fault == Fault.CONNECTION and not wish.again:
        say(f"{failure.message}; starting again")
        return wish._replace(again=True)
    text = f"{failure.message}\n{failure.detail or ''}"
    blamed = blaming.blame(failure.fault, text, failure.hint, ready.plan, ready.host)
    if not blamed or (wish.keeps_firmware and any(f.decision.kind is Kind.FIRMWARE for f in blamed.failed)):
        raise failure  # a guest that was installed for UEFI does not start without
    say(f"{failure.message}; planning again without that")
    return wish._replace(failed=(*wish.failed, *blamed.failed), refused={**wish.refused, **dict(blamed.refused)})


@contextmanager
def undoing(say: live.Say) -> Iterator[None]:
    """Undo after a failure, whose own words go first. A second interrupt waits until that is done."""
    with process.undisturbed():
        try:
            yield
        except (ClienthvError, OSError) as e:
            say(f"not everything could be set back: {e}; clienthv recover tries again")


class _Attempt:
    """One try, and what must be known to take it back."""

    def __init__(self, site: Site, wanted: Wanted, request: Request, held: Journal, say: live.Say) -> None:
        self.site, self.wanted, self.request, self.held, self.say = site, wanted, request, held, say
        self.ready: Ready | None = None
        self._ours = False
        """Whether a guest that runs was started here."""

    def carry_out(self, wish: Asked, last: Plan | None) -> Plan:
        """Prepare the host, define, start, and see the guest run. Raises every kind of ClienthvError."""
        site, wanted, before = self.site, self.wanted, self.wanted.before
        self.ready = preparing.make_ready(site, wish, self.held, self.say)
        host, plan = self.ready.host, self.ready.plan
        _refuse_useless_disk(self.request, plan, site.name)
        for sentence in (*keeping.changes(before, plan, host),) if before else ():
            self.say(sentence)
        again = bool(wish.failed or wish.refused)
        for sentence in differences.between(last, plan, was="was to be" if again else "was") if last else ():
            self.say(sentence)
        kept = _still_offered(keeping.seen_by(before, self.request.upgrade), plan, host, self.say)
        kept = kept if kept.uuid else msgspec.structs.replace(kept, uuid=str(uuid.uuid4()))
        preparing.hand_over(plan, site, self.held)
        options = wanted.options
        if wanted.new_mib is not None and options.disk is not None:
            making.make_disk(options.disk, wanted.new_mib, site.owner, self.held)
        hardware = keeping.hardware(plan, wanted.profile, before, host)
        vm = Vm(
            name=site.name, plan=plan, profile=wanted.chain, options=options, storage=files.storage_of(options.disk),
            seen=kept, hardware=hardware,
        )  # fmt: skip
        xml = render.render(vm, host)
        if not (options.disk or options.cdrom or options.kernel or plan.of(Kind.DISK).device):
            self.say(f"VM {site.name} has nothing to boot from: give --disk, --new-disk with --cdrom, or --kernel")
        self._start(site.connection, slots.carry_over(wanted.xml, xml) if wanted.xml is not None else xml)
        self.held.started(site.owner)
        return plan

    def _start(self, connection: Connection, xml: str) -> None:
        domain = making.define(connection, self.site.owner, xml, self.wanted.xml, self.held)
        self._ours = True
        try:
            domain.start()
        except ClienthvError as e:
            self._ours = e.fault != Fault.RUNS_ALREADY
            raise
        watching.see_it_run(connection, domain)

    def take_back(self) -> None:
        """Undo what was made."""
        with undoing(self.say):
            self.site.connection.revive()
            domain = self.site.connection.find(self.site.name)
            if self._ours and domain is not None:
                domain.destroy()
            for sentence in returning.take_back(self.site, self.held):
                self.say(sentence)


def _refuse_useless_disk(request: Request, plan: Plan, name: str) -> None:
    """Refuse an image that the plan has no place for. Raises UsageError."""
    if (request.files.disk or request.files.new_disk) and plan.of(Kind.DISK).strategy not in _IMAGES:
        msg = f"the disk is {plan.of(Kind.DISK).strategy} in this plan, so a disk image has no place in VM {name}"
        raise UsageError(msg, hint="leave out --disk and --new-disk, or choose another profile")


def _still_offered(seen: Seen, plan: Plan, host: Host, say: live.Say) -> Seen:
    """What the guest can see again; what this PC cannot offer any more is said and left to be made anew."""
    now = {Kind.FIRMWARE: plan.of(Kind.FIRMWARE).strategy, Kind.DISK: plan.of(Kind.DISK).strategy}
    for kind, was in ((Kind.FIRMWARE, seen.firmware), (Kind.DISK, seen.disk)):
        if was is not None and now[kind] is not was:
            say(f"the guest had {kind} {was}; this PC cannot offer it, so it sees {now[kind]} now and may not start")
    kept = keeping.offered(seen, host)
    if kept.machine != seen.machine:
        say(f"the guest had machine type {seen.machine}; this QEMU does not know it, so it sees the newest now")
    return kept

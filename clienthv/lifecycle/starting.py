"""``up``: plan for this PC as it is now, define, start, and see the guest come alive. Or leave no trace."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from clienthv import guests, planner, profiles, render
from clienthv.errors import GuestError, UsageError
from clienthv.hypervisor import Connection, Domain, DomainState
from clienthv.lifecycle import files, keeping, live, preparing, remembered, slots
from clienthv.lifecycle.remembered import Remembered
from clienthv.lifecycle.returning import Site
from clienthv.lifecycle.undisturbed import undisturbed
from clienthv.model import profile as profile_model
from clienthv.model import values
from clienthv.model.host import Host
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.vm import Options, Seen, Vm

ALIVE_WITHIN: Final = 60
"""Seconds that ``up --wait`` gives a guest to show a sign of life."""

_IMAGES: Final = (Strategy.PARAVIRTUAL, Strategy.EMULATED)
_SIGN_OF_LIFE: Final = 0.1  # seconds of vCPU time: firmware alone uses more


class Started(NamedTuple):
    """What ``up`` did: the VM's name, its plan, whether it ran already, and its state in libvirt's words."""

    name: str
    plan: Plan | None
    already_running: bool
    state: DomainState


class Request(NamedTuple):
    """What ``up`` was asked: a VM or profile, the name for a new VM, and files."""

    target: str
    name: str | None
    files: files.Wanted
    redefine: bool = False
    upgrade: tuple[Kind, ...] = ()


def up(connection: Connection, request: Request, say: live.Say) -> Started:
    """Define and start a VM from a profile, or start one that is there, planned anew for this PC.

    When anything fails, or is interrupted, what this call made is taken back: the definition is what it was, an image
    it made is removed, and settings of the host are set back. Raises every kind of ClienthvError.
    """
    name, before, given = _who(connection, request)
    there = connection.find(name)
    if there is not None and there.is_active():
        return Started(name, before.plan if before else None, already_running=True, state=there.state()[0])
    if there is not None and not request.redefine:
        _refuse_changed(there)
    profile, chain = given if given is not None else _recall(before, name)
    options, new_mib = files.resolve(name, request.files, before.options if before else Options(), profile)
    files.refuse_shared(options, name, connection)
    seen = before.seen if before else Seen()
    host = live.read_host(connection, but=name)
    wish = keeping.asked(pinned(profile, seen), before, host, request.upgrade)
    wish = keeping.with_mdev(wish._replace(guest=guests.read(profile.guest.os)), name)
    plan = planner.plan(host, wish.profile, kept=wish.kept, guest=wish.guest)
    _refuse_useless_disk(request, plan, name)
    site = Site(connection, name)
    with preparing.journal_for(plan, site, say) as held, ExitStack() as undo:
        if held is not None:
            ready = preparing.make_ready(site, wish, held, undo, say)
            host, plan = ready.host, ready.plan
        kept = _still_offered(seen, plan, host, say)
        for sentence in keeping.changes(before, plan, host) if before else ():
            say(sentence)
        hardware = keeping.hardware(plan, profile, before, host)
        if new_mib is not None:
            files.make_disk(options, new_mib, undo)
        vm = Vm(
            name=name, plan=plan, profile=chain, options=options, storage=files.storage_of(options.disk), seen=kept,
            hardware=hardware,
        )  # fmt: skip
        xml = render.render(vm, host)
        if not (options.disk or options.cdrom or options.kernel or plan.of(Kind.DISK).device):
            say(f"VM {name} has nothing to boot from: give --disk, --new-disk with --cdrom, or --kernel")
        _define_and_start(connection, name, xml, there, undo)
        undo.pop_all()
    return Started(name, plan, already_running=False, state=DomainState.RUNNING)


def _refuse_useless_disk(request: Request, plan: Plan, name: str) -> None:
    """Refuse an image that the plan has no place for. Raises UsageError."""
    if (request.files.disk or request.files.new_disk) and plan.of(Kind.DISK).strategy not in _IMAGES:
        msg = f"the disk is {plan.of(Kind.DISK).strategy} in this plan, so a disk image has no place in VM {name}"
        raise UsageError(msg, hint="leave out --disk and --new-disk, or choose another profile")


def _define_and_start(connection: Connection, name: str, xml: str, there: Domain | None, undo: ExitStack) -> None:
    """Define the VM, note what the definition consists of, and start it; ``undo`` takes it back."""
    back = _Before(there.xml(inactive=True) if there is not None else None)
    undo.callback(_restore, connection, name, back)
    domain = connection.define(slots.carry_over(back.xml, xml) if back.xml is not None else xml, name)
    made = domain.xml(inactive=True)
    back.own_state = back.xml is None and not _exists(remembered.parse(made).findtext("os/nvram"))
    domain.note(remembered.INVENTORY, remembered.inventory_element(remembered.inventory(made)))
    domain.start()


def _who(
    connection: Connection, request: Request
) -> tuple[str, Remembered | None, tuple[Profile, tuple[ProfileText, ...]] | None]:
    """The VM's name, what it remembers when it is there, and the profile when one was given."""
    target, name = request.target, request.name
    if name is not None and not values.is_vm_name(name):
        msg = f"{name!r} cannot be a VM's name"
        raise UsageError(msg, hint="use letters, digits and _ . + -, at most 64, and begin with a letter or digit")
    if name is None and not profiles.is_path(target):
        domain = connection.find(target)
        if domain is not None:
            return target, _ours(domain), None
    profile, chain = profiles.load(target)
    vm_name = name or profile.name
    domain = connection.find(vm_name)
    return vm_name, _ours(domain) if domain is not None else None, (profile, chain)


def _ours(domain: Domain) -> Remembered:
    known = remembered.read(domain.xml(inactive=True), domain.name)
    if known is None:
        msg = f"VM {domain.name} was not made by clienthv"
        raise GuestError(msg, hint="start it with virsh, or give yours another name: --name NAME")
    return known


def _recall(before: Remembered | None, name: str) -> tuple[Profile, tuple[ProfileText, ...]]:
    if before is None or not before.profile:
        msg = f"VM {name} remembers no profile"
        raise GuestError(msg, hint="clienthv up PROFILE --name NAME makes a VM")
    return profile_model.parse(before.profile), before.profile


def pinned(profile: Profile, seen: Seen) -> Profile:
    """The profile with what the guest has already seen at the top of its ladders: firmware, and how the disk hangs."""
    devices = profile.devices
    for kind, strategy in ((Kind.FIRMWARE, seen.firmware), (Kind.DISK, seen.disk)):
        if strategy is not None:
            ladder = (strategy, *(s for s in profile.ladder(kind) if s is not strategy))
            device = msgspec.structs.replace(profile.device(kind), prefer=ladder)
            devices = msgspec.structs.replace(devices, **{kind.value: device})
    return msgspec.structs.replace(profile, devices=devices)


def _still_offered(seen: Seen, plan: Plan, host: Host, say: live.Say) -> Seen:
    """What the guest can see again; what this PC cannot offer any more is said and left to be made anew."""
    now = {Kind.FIRMWARE: plan.of(Kind.FIRMWARE).strategy, Kind.DISK: plan.of(Kind.DISK).strategy}
    for kind, was in ((Kind.FIRMWARE, seen.firmware), (Kind.DISK, seen.disk)):
        if was is not None and now[kind] is not was:
            say(f"the guest had {kind} {was}; this PC cannot offer it, so it sees {now[kind]} now and may not start")
    capabilities = host.stack.capabilities if host.stack is not None else None
    offered = capabilities.machine_types if capabilities is not None else ()
    if seen.machine and offered and seen.machine not in offered:
        say(f"the guest had machine type {seen.machine}; this QEMU does not know it, so it sees the newest now")
        return msgspec.structs.replace(seen, machine=None)
    return seen


def _refuse_changed(domain: Domain) -> None:
    """Refuse a definition that virsh or virt-manager changed: planning anew drops the change. Raises GuestError."""
    xml = domain.xml(inactive=True)
    noted = remembered.noted_inventory(xml)
    if noted is not None and noted != remembered.inventory(xml):
        msg = f"the definition of VM {domain.name} was changed outside clienthv"
        hint = f"virsh start {domain.name} runs it as it is; clienthv up {domain.name} --redefine drops the change"
        raise GuestError(msg, hint=hint)


class _Before:
    """What there was before: the definition, if any, and whether firmware variables would be this call's own."""

    def __init__(self, xml: str | None) -> None:
        self.xml = xml
        self.own_state = False


def _restore(connection: Connection, name: str, before: _Before) -> None:
    """Take a definition back: to what it was, or away. A second interrupt waits until that is done."""
    with undisturbed():
        domain = connection.find(name)
        if domain is not None and domain.is_active():
            domain.destroy()
        if before.xml is not None:
            connection.define(before.xml, name)
        elif domain is not None:
            domain.undefine(with_state=before.own_state)


def _exists(path: str | None) -> bool:
    """Whether a file is there; one in a folder that cannot be looked into counts as there."""
    try:
        return path is not None and Path(path).exists()
    except OSError:
        return True


def wait_until_alive(domain: Domain, seconds: float) -> float:
    """Wait until a guest runs and uses processor time; how long that took, in seconds.

    Running alone proves nothing: with a KVM that does not work, libvirt says "running" for a moment before QEMU stops
    or pauses with an internal error. Raises GuestError.
    """
    began, last = time.monotonic(), 0.0
    hint = f"clienthv status {domain.name} shows its state, clienthv down {domain.name} --force stops it"
    while True:
        state, why = domain.state()
        waited = time.monotonic() - began
        if state in (DomainState.SHUTOFF, DomainState.CRASHED):
            msg = f"VM {domain.name} stopped {waited:.0f} s after its start" + (f": {why}" if why else "")
            raise GuestError(msg, hint="QEMU's log says more; clienthv inspect shows whether KVM works")
        if state is DomainState.PAUSED:
            msg = f"VM {domain.name} is paused" + (f" by {why}" if why else "")
            raise GuestError(msg, hint=hint)
        if state in (DomainState.RUNNING, DomainState.BLOCKED):
            used = domain.cpu_seconds()
            if used >= _SIGN_OF_LIFE and used > last > 0:
                return waited
            last = used
        if waited > seconds:
            msg = f"VM {domain.name} is {state}, but showed no sign of life within {seconds:.0f} s"
            raise GuestError(msg, hint=hint)
        time.sleep(0.1)

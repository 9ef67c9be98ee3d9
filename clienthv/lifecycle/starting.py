"""``up``: plan for this PC as it is now, define, start, and see the guest come alive. Or leave no trace."""

from __future__ import annotations

from typing import NamedTuple

from clienthv import journal, profiles
from clienthv.errors import GuestError, UsageError
from clienthv.hypervisor import Connection, Domain, DomainState
from clienthv.lifecycle import attempts, files, live, remembered, returning
from clienthv.lifecycle.attempts import Request, Wanted
from clienthv.lifecycle.remembered import Remembered
from clienthv.lifecycle.returning import Site
from clienthv.model import profile as profile_model
from clienthv.model import values
from clienthv.model.plan import Plan
from clienthv.model.profile import Profile, ProfileText
from clienthv.model.vm import Options


class Started(NamedTuple):
    """What ``up`` did: the VM's name, its plan, whether it ran already, and its state in libvirt's words."""

    name: str
    plan: Plan | None
    already_running: bool
    state: DomainState


def up(connection: Connection, request: Request, say: live.Say) -> Started:
    """Define and start a VM from a profile, or start one that is there, planned anew for this PC.

    A start that fails of one device is tried again without it, unless ``strict``. When it fails for good, or is
    interrupted, what this call made is taken back: the definition is what it was, an image it made is removed, and
    settings of the host are set back. Raises every kind of ClienthvError.
    """
    name, before, _ = _who(connection, request)
    there = connection.find(name)
    if there is not None and there.is_active() and not journal.cut_short(returning.where()):
        return Started(name, before.plan if before else None, already_running=True, state=there.state()[0])
    site = Site(connection, name)
    with journal.held(returning.where(), f"clienthv up {name}", say) as held:
        returning.settle_before(site, held, say)
        name, before, given = _who(connection, request)
        there = connection.find(name)
        if there is not None and there.is_active():
            return Started(name, before.plan if before else None, already_running=True, state=there.state()[0])
        if there is not None:
            _refuse_asleep(there)
            if not request.redefine:
                _refuse_changed(there)
        profile, chain = given if given is not None else _recall(before, name)
        options, new_mib = files.resolve(name, request.files, before.options if before else Options(), profile)
        files.refuse_shared(options, name, connection)
        wanted = Wanted(
            profile, chain, options, new_mib, before, there.xml(inactive=True, whole=True) if there else None
        )
        plan = attempts.start(site, wanted, request, held, say)
    return Started(name, plan, already_running=False, state=DomainState.RUNNING)


def _who(
    connection: Connection, request: Request
) -> tuple[str, Remembered | None, tuple[Profile, tuple[ProfileText, ...]] | None]:
    """The VM's name, what it remembers when it is there, and the profile when one was given."""
    target, name = request.target, request.name
    if name is not None:
        _refuse_odd(name)
    if name is None and not profiles.is_path(target):
        domain = connection.find(target)
        if domain is not None:
            _refuse_odd(target)
            return target, _ours(domain), None
    profile, chain = profiles.load(target)
    vm_name = name or profile.name
    domain = connection.find(vm_name)
    return vm_name, _ours(domain) if domain is not None else None, (profile, chain)


def _refuse_odd(name: str) -> None:
    """Refuse a name that libvirt may take, and neither files nor the journal. Raises UsageError."""
    if not values.is_vm_name(name):
        msg = f"{name!r} cannot be a VM's name"
        raise UsageError(msg, hint="use letters, digits and _ . + -, at most 64, and begin with a letter or digit")


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


def _refuse_asleep(domain: Domain) -> None:
    """Refuse a VM whose guest libvirt has saved, as libvirt-guests may when the PC shuts down. Raises GuestError.

    libvirt would wake it with the devices it had, whatever is planned; and a start that fails is stopped, which would
    cost what it was doing.
    """
    if domain.is_saved():
        msg = f"VM {domain.name} sleeps: libvirt has saved its guest's memory, and wakes it with the devices it had"
        hint = f"virsh start {domain.name} wakes it; virsh managedsave-remove {domain.name} drops what it was doing"
        raise GuestError(msg, hint=hint)


def _refuse_changed(domain: Domain) -> None:
    """Refuse a definition that virsh or virt-manager changed: planning anew drops the change. Raises GuestError."""
    xml = domain.xml(inactive=True)
    noted = remembered.noted_inventory(xml)
    if noted is not None and noted != remembered.inventory(xml):
        msg = f"the definition of VM {domain.name} was changed outside clienthv"
        hint = f"virsh start {domain.name} runs it as it is; clienthv up {domain.name} --redefine drops the change"
        raise GuestError(msg, hint=hint)

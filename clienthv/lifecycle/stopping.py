"""``down``: ask the guest to shut down, or pull the plug, and say which."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from clienthv import places
from clienthv.errors import ClienthvError, DocumentError, GuestError
from clienthv.hypervisor import Connection, Domain
from clienthv.lifecycle import live, remembered, returning
from clienthv.lifecycle.returning import Site
from clienthv.model import profile as profile_model
from clienthv.model.change import What

SHUT_DOWN_WITHIN: Final = 60
"""Seconds that ``down`` gives a guest to shut down."""


class How(NamedTuple):
    """How ``down`` was asked to go about it."""

    force: bool
    undefine: bool
    seconds: float


def down(connection: Connection, name: str, how: How, say: live.Say) -> list[str]:
    """Stop a VM, undo what it needed of the host, and forget its definition when asked. What was done, in sentences.

    A VM that is gone but left changes on the host has those undone. Raises GuestError, HostError, DocumentError.
    """
    site = Site(connection, name)
    done: list[str] = []
    if connection.find(name) is None or returning.was_cut_short(site):
        done = _settled(site, say)
        if done and connection.find(name) is None:
            return done
    domain = connection.domain(name)
    xml = _definition(domain, how)
    try:
        ours = remembered.read(xml, name) if xml is not None else None
    except DocumentError:
        ours = None  # damaged metadata is no reason to keep a VM running
    if how.undefine and xml is not None and not remembered.is_ours(xml):
        msg = f"VM {name} was not made by clienthv, so its definition stays"
        raise GuestError(msg, hint=f"virsh undefine {name}")
    if how.undefine and not how.force and domain.is_saved():
        msg = f"VM {name} sleeps: libvirt has saved its guest's memory, which would be forgotten with it"
        raise GuestError(msg, hint=f"virsh start {name} wakes it; clienthv down {name} --undefine --force drops it")
    ran = domain.is_active()
    done.append(stopped := _stop(domain, how, ours))
    done += _give_back(site, ours if ran else None, stopped, say)
    if how.undefine:
        domain.undefine()
        image = f"its disk image {ours.options.disk}, " if ours is not None and ours.options.disk else ""
        done.append(f"VM {name} is forgotten; {image}UEFI variables and TPM state stay where it had any")
    return done


def _definition(domain: Domain, how: How) -> str | None:
    """The VM's definition; None where it cannot be read and need not be: its plug is pulled. Raises ClienthvError."""
    try:
        return domain.xml(inactive=True)
    except ClienthvError:
        if how.force and not how.undefine:
            return None
        raise


def _settled(site: Site, say: live.Say) -> list[str]:
    """Settle what was cut short; what cannot be is no reason to keep a VM running."""
    try:
        return returning.settle(site, say)
    except ClienthvError as e:
        if site.connection.find(site.name) is None:
            raise
        return [e.message]


def _give_back(site: Site, ran: remembered.Remembered | None, stopped: str, say: live.Say) -> list[str]:
    """Undo what a VM that has stopped needed of the host. Raises HostError, DocumentError, saying that it stopped."""
    try:
        done = returning.settle(site, say)
    except ClienthvError as e:
        raise type(e)(f"{stopped}; but {e.message}", hint=e.hint, detail=e.detail) from e
    if not done and ran is not None and not places.is_root():
        changed = [c.detail for c in ran.plan.host_changes if c.action in {what.value for what in What}]
        if changed:
            return [
                f"what root changed for it stays ({'; '.join(changed)}): clienthv down {site.name} as root undoes it"
            ]
    return done


def _listens(ours: remembered.Remembered | None) -> bool:
    """Whether the guest acts on its power button, by its profile's word; taken for granted without one."""
    return ours is None or not ours.profile or profile_model.parse(ours.profile).guest.power_button


def _stop(domain: Domain, how: How, ours: remembered.Remembered | None) -> str:
    name = domain.name
    if not domain.is_active():
        return f"VM {name} was not running"
    if how.force:
        domain.destroy()
        return f"VM {name} was stopped by pulling its plug, as asked"
    if not _listens(ours):
        domain.destroy()
        return f"VM {name} was stopped by pulling its plug: its profile says the guest ignores the power button"
    domain.ask_to_shut_down(how.seconds)
    began = time.monotonic()
    while domain.is_active():
        if time.monotonic() - began > how.seconds:
            msg = f"VM {name} was asked to shut down and still runs after {how.seconds:.0f} s"
            raise GuestError(msg, hint=f"look at it: clienthv screenshot {name}; or clienthv down {name} --force")
        time.sleep(0.2)
    return f"VM {name} shut down by itself after {time.monotonic() - began:.0f} s"

"""``down``: ask the guest to shut down, or pull the plug, and say which."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from clienthv.errors import GuestError
from clienthv.hypervisor import Connection, Domain
from clienthv.lifecycle import remembered
from clienthv.model import profile as profile_model

SHUT_DOWN_WITHIN: Final = 60.0
"""Seconds that ``down`` gives a guest to shut down."""


class How(NamedTuple):
    """How ``down`` was asked to go about it."""

    force: bool
    undefine: bool
    seconds: float


def down(connection: Connection, name: str, how: How) -> list[str]:
    """Stop a VM, and forget its definition when asked. What was done, in sentences. Raises GuestError."""
    domain = connection.domain(name)
    ours = remembered.read(domain.xml(inactive=True), name)
    if how.undefine and ours is None:
        msg = f"VM {name} was not made by clienthv, so its definition stays"
        raise GuestError(msg, hint=f"virsh undefine {name}")
    done = [_stop(domain, how, listens=ours is None or _listens(ours))]
    if how.undefine:
        domain.undefine()
        kept = f"; its disk image {ours.options.disk} stays" if ours is not None and ours.options.disk else ""
        done.append(f"VM {name} is forgotten{kept}")
    return done


def _listens(ours: remembered.Remembered) -> bool:
    """Whether the guest acts on its power button, by its profile's word."""
    return not ours.profile or profile_model.parse(ours.profile).guest.power_button


def _stop(domain: Domain, how: How, *, listens: bool) -> str:
    name = domain.name
    if not domain.is_active():
        return f"VM {name} was not running"
    if how.force:
        domain.destroy()
        return f"VM {name} was stopped by pulling its plug, as asked"
    if not listens:
        domain.destroy()
        return f"VM {name} was stopped by pulling its plug: its profile says the guest ignores the power button"
    domain.ask_to_shut_down()
    began = time.monotonic()
    while domain.is_active():
        if time.monotonic() - began > how.seconds:
            msg = f"VM {name} was asked to shut down and still runs after {how.seconds:.0f} s"
            raise GuestError(msg, hint=f"look at it: clienthv screenshot {name}; or clienthv down {name} --force")
        time.sleep(0.2)
    return f"VM {name} shut down by itself after {time.monotonic() - began:.0f} s"

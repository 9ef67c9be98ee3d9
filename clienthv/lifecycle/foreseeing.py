"""``plan`` of a VM that is there: what ``up`` would do with it now, and what moved since it last started."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from clienthv import guests, planner
from clienthv.errors import ClienthvError
from clienthv.hypervisor import Connection, Domain
from clienthv.lifecycle import keeping, live, remembered
from clienthv.lifecycle.keeping import Asked
from clienthv.lifecycle.remembered import Remembered
from clienthv.model import profile as profile_model
from clienthv.model.host import Host
from clienthv.model.plan import Plan


class Foreseen(NamedTuple):
    """The plan for a VM's next start, what moved since the last one in sentences, and whether it runs now.

    ``host`` and ``asked`` are what was planned for.
    """

    plan: Plan
    changes: tuple[str, ...]
    running: bool
    host: Host
    asked: Asked


def foresee(connect: str | None, name: str, say: live.Say) -> Foreseen | None:
    """The next start of clienthv's VM of that name; None where no connection answers or has such a VM.

    Raises HostError, PlanError, DocumentError.
    """
    with ExitStack() as opened:
        try:
            connection = opened.enter_context(Connection(live.choose(connect), waiting=say))
        except ClienthvError:
            return None  # whoever reads the PC tells of a libvirt that does not answer
        domain = connection.find(name)
        before = remembered.read(domain.xml(inactive=True), name) if domain is not None else None
        if domain is None or before is None or not before.profile:
            return None
        return _foreseen(connection, domain, before)


def _foreseen(connection: Connection, domain: Domain, before: Remembered) -> Foreseen:
    profile = profile_model.parse(before.profile)
    host = live.read_host(connection, but=before.name)
    wish = keeping.with_mdev(keeping.asked(keeping.pinned(profile, before.seen), before, host, ()), before.name)
    wish = wish._replace(guest=guests.read(profile.guest.os))
    plan = planner.plan(host, wish.profile, kept=wish.kept, guest=wish.guest)
    return Foreseen(plan, tuple(keeping.changes(before, plan, host)), domain.is_active(), host, wish)

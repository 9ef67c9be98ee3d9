"""Looking at VMs: what there is, what each device became, and the guest's screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.errors import ClienthvError, GuestError
from clienthv.hypervisor import Connection, Domain, DomainState
from clienthv.lifecycle import pictures, remembered
from clienthv.model.plan import Plan

_AT_REST: Final = 3.0  # seconds without a change
_IDLE: Final = 0.25  # of one processor


class Row(NamedTuple):
    """One VM: its state and why, and its plan when clienthv made it."""

    name: str
    state: DomainState
    why: str
    plan: Plan | None
    problem: str | None


def rows(connection: Connection) -> Iterator[Row]:
    """Every VM of the connection, by name. A VM with damaged metadata is still listed."""
    for domain in sorted(connection.domains(), key=lambda d: d.name):
        yield row(domain)


def row(domain: Domain) -> Row:
    """One VM."""
    state, why = domain.state()
    try:
        known = remembered.read(domain.xml(), domain.name)
    except ClienthvError as e:
        return Row(domain.name, state, why, None, e.message)
    return Row(domain.name, state, why, known.plan if known else None, None)


def must_run(domain: Domain) -> None:
    """Refuse a VM that does not run. Raises GuestError."""
    if not domain.is_active():
        msg = f"VM {domain.name} is not running"
        raise GuestError(msg, hint=f"clienthv up {domain.name}")


def screenshot(connection: Connection, name: str) -> bytes:
    """A PNG of a running VM's screen. Raises GuestError."""
    domain = connection.domain(name)
    must_run(domain)
    mime, data = connection.screenshot(domain)
    return pictures.as_png(mime, data, name)


def settled_screenshot(connection: Connection, name: str, seconds: float) -> bytes:
    """A PNG of the screen once the guest rests: the picture stands still and the processor idles.

    A booting guest shows still pictures while it works hard; one that waits for its user does neither.
    Raises GuestError when it never rests.
    """
    domain = connection.domain(name)
    deadline = time.monotonic() + seconds
    picture, since, used = b"", time.monotonic(), 0.0
    while time.monotonic() < deadline:
        now, current = time.monotonic(), screenshot(connection, name)
        cpu = domain.cpu_seconds()
        if current != picture or cpu - used > _IDLE * _AT_REST:
            picture, since, used = current, now, cpu
        elif now - since >= _AT_REST:
            return picture
        time.sleep(0.5)
    msg = f"VM {name}'s screen did not come to rest within {seconds:.0f} s"
    raise GuestError(msg, hint="leave out --settle to take the picture as it is")

"""Looking at VMs: what there is, what each device became, and the guest's screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.errors import ClienthvError, GuestError
from clienthv.hypervisor import Connection, Domain, DomainState
from clienthv.lifecycle import live, pictures, remembered, returning
from clienthv.model.plan import Decision, Plan

_AT_REST: Final = 3.0  # seconds without a change
_IDLE: Final = 0.25  # of one processor


class Row(NamedTuple):
    """One VM: its state and why, and its plan when clienthv made it.

    A VM without a state is not there. ``left_behind`` are changes on the host that a VM which does not run has left,
    ``attached`` what a running one got since it started.
    """

    name: str
    state: DomainState | None
    why: str
    plan: Plan | None
    problem: str | None
    left_behind: tuple[str, ...] = ()
    attached: tuple[Decision, ...] = ()


def rows(connection: Connection, say: live.Say) -> Iterator[Row]:
    """Every VM of the connection, by name. One with damaged metadata is still listed, and one whose QEMU is silent.

    So is one that is gone, or was never defined, and has left changes on the host.
    """
    left = _left_behind(connection, say)
    domains = {d.name: d for d in connection.domains()}
    for name in sorted(domains.keys() | left.keys()):
        if name in domains:
            yield _row(domains[name], left.get(name, ()))
        else:
            yield Row(name, None, "", None, None, left[name])


def row(connection: Connection, name: str, say: live.Say) -> Row:
    """One VM. Raises GuestError."""
    return _row(connection.domain(name), _left_behind(connection, say).get(name, ()))


def _left_behind(connection: Connection, say: live.Say) -> dict[str, tuple[str, ...]]:
    """What VMs hold of the host by the journal; one that cannot be read does not hide the VMs."""
    try:
        return returning.left_behind(connection)
    except ClienthvError as e:
        say(f"{e.message}; {e.hint}")
        return {}


def _row(domain: Domain, holds: tuple[str, ...]) -> Row:
    state, why = domain.state()
    left = () if domain.is_active() else holds
    try:
        xml = domain.xml()
        known = remembered.read(xml, domain.name)
    except ClienthvError as e:
        return Row(domain.name, state, why, None, e.message, left)
    return Row(domain.name, state, why, known.plan if known else None, None, left, remembered.attached(xml))


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

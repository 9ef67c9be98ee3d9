"""Seeing a guest come alive: that libvirt calls it running proves nothing."""

from __future__ import annotations

import time
from typing import Final

from clienthv.errors import ClienthvError, GuestError
from clienthv.hypervisor import SIGN_OF_LIFE, Connection, Domain, DomainState
from clienthv.hypervisor.domain import DESTROYED, ENDED_BY_ITSELF, INTERNAL_ERROR
from clienthv.model import faults
from clienthv.model.faults import Fault

ALIVE_WITHIN: Final = 60
"""Seconds that ``up --wait`` gives a guest to show a sign of life."""

_AT_ONCE: Final = 15.0
"""Seconds in which a guest that is started has to get anywhere: its first instruction takes a moment, on any PC."""
_FIRST_SIGN: Final = 0.02  # seconds of processor time: some millions of instructions
_POLL: Final = 0.02


def see_it_run(connection: Connection, domain: Domain) -> None:
    """Wait until a guest that was just started runs instructions. Raises GuestError, saying what it is about.

    With a KVM that does not work, libvirt says "running" for a moment before QEMU stops, or pauses with an internal
    error; or nothing ever happens. A guest that has shut down by itself already has run.
    """
    deadline, last = time.monotonic() + _AT_ONCE, 0.0
    while True:
        state, why = domain.state()
        if state in (DomainState.SHUTOFF, DomainState.CRASHED):
            if state is DomainState.SHUTOFF and why == ENDED_BY_ITSELF:
                return
            raise _died(connection, domain.name, why)
        if state is DomainState.PAUSED:
            if not why:
                return  # somebody paused it
            msg = f"VM {domain.name} was paused at its start by {why}"
            fault, hint = (Fault.KVM, _INSPECT) if why == INTERNAL_ERROR else (None, _LOG)
            raise GuestError(msg, hint=hint, detail=connection.log_tail(domain.name), fault=fault)
        used = _used(domain, last)
        if used >= _FIRST_SIGN and used > last > 0:
            return
        last = used
        if time.monotonic() > deadline:
            if used >= _FIRST_SIGN:
                return
            msg = f"VM {domain.name} has not run a single instruction within {_AT_ONCE:.0f} s of its start"
            raise GuestError(msg, hint=_INSPECT, fault=Fault.KVM)
        time.sleep(_POLL)


def _used(domain: Domain, last: float) -> float:
    """Processor time in seconds; as before where the guest has just ended, which its state tells next."""
    try:
        return domain.cpu_seconds()
    except ClienthvError:
        return last


_INSPECT: Final = "clienthv inspect shows whether KVM works"
_LOG: Final = "QEMU's log says more; clienthv inspect shows whether KVM works"


def _died(connection: Connection, name: str, why: str) -> GuestError:
    """What to say of a guest whose QEMU ended at once, with QEMU's last words."""
    log = connection.log_tail(name)
    known = faults.recognise(None, log) if why != DESTROYED else None
    msg = f"VM {name} stopped at its start" + (f": {why}" if why else "")
    hint = known.hint if known is not None else _LOG
    return GuestError(msg, hint=hint, detail=log, fault=known.fault if known is not None else None)


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
            raise GuestError(msg, hint=_LOG)
        if state is DomainState.PAUSED:
            msg = f"VM {domain.name} is paused" + (f" by {why}" if why else "")
            raise GuestError(msg, hint=hint)
        if state in (DomainState.RUNNING, DomainState.BLOCKED):
            used = domain.cpu_seconds()
            if used >= SIGN_OF_LIFE and used > last > 0:
                return waited
            last = used
        if waited > seconds:
            msg = f"VM {domain.name} is {state}, but showed no sign of life within {seconds:.0f} s"
            raise GuestError(msg, hint=hint)
        time.sleep(0.1)

"""Whether a guest that libvirt calls running runs: what it does in the first seconds tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clienthv.errors import GuestError
from clienthv.hypervisor import Domain, DomainState
from clienthv.hypervisor.binding import libvirt
from clienthv.hypervisor.domain import DESTROYED, INTERNAL_ERROR
from clienthv.lifecycle import watching
from clienthv.model.faults import Fault

ABORTED = "error: failed to set MSR 0x10a\nqemu-system-x86_64: kvm.c:3301: kvm_buf_set_msrs: Assertion `x' failed."
OUT_OF_MEMORY = "qemu-system-x86_64: vfio 0000:01:00.0: VFIO_MAP_DMA failed: Cannot allocate memory"


class Guest:
    """A domain and its connection, with what they show from one look to the next; the last look stays."""

    name = "desk"

    def __init__(self, *looks: tuple[DomainState, str, float], log: str = "") -> None:
        self._looks: Iterator[tuple[DomainState, str, float]] = iter(looks)
        self._now = (DomainState.RUNNING, "", 0.0)
        self.log = log

    def state(self) -> tuple[DomainState, str]:
        self._now = next(self._looks, self._now)
        return self._now[:2]

    def cpu_seconds(self) -> float:
        return self._now[2]

    def log_tail(self, _: str) -> str:
        return self.log


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AT_ONCE", 0.2)
    monkeypatch.setattr(watching, "_POLL", 0.01)


def seen(guest: Any) -> None:
    watching.see_it_run(guest, guest)


RUNS, OFF, PAUSED = DomainState.RUNNING, DomainState.SHUTOFF, DomainState.PAUSED


@pytest.mark.parametrize(
    "guest",
    [
        Guest((RUNS, "", 0.0), (RUNS, "", 0.03), (RUNS, "", 0.06)),
        Guest((RUNS, "", 0.03), (DomainState.BLOCKED, "", 0.06)),
        Guest((RUNS, "", 0.01), (OFF, "the guest shut down", 0.0)),
        Guest((PAUSED, "", 0.0)),
        Guest((RUNS, "", 0.05)),
    ],
    ids=["runs", "waits for something", "is done already", "somebody paused it", "ran, and idles"],
)
def test_a_guest_that_has_got_somewhere_has_started(guest: Guest) -> None:
    seen(guest)


@pytest.mark.parametrize(
    ("guest", "fault", "words"),
    [
        (Guest((RUNS, "", 0.0), (OFF, "it crashed", 0.0), log=ABORTED), Fault.KVM, "stopped at its start: it crashed"),
        (Guest((OFF, "it failed", 0.0), log=OUT_OF_MEMORY), Fault.MEMLOCK, "stopped at its start"),
        (Guest((DomainState.CRASHED, "", 0.0)), None, "stopped at its start"),
        (Guest((PAUSED, INTERNAL_ERROR, 0.0)), Fault.KVM, "was paused at its start by an internal error"),
        (Guest((PAUSED, "an I/O error", 0.0)), None, "was paused at its start by an I/O error"),
        (Guest((OFF, DESTROYED, 0.0), log=ABORTED), None, "stopped at its start: it was destroyed"),
        (Guest((RUNS, "", 0.0)), Fault.KVM, "not run a single instruction"),
    ],
    ids=["KVM aborts", "QEMU ends", "no word", "KVM cannot go on", "a full disk", "somebody's wish", "nothing happens"],
)
def test_a_guest_that_dies_or_never_lives_has_not_started_and_the_reason_is_told(
    guest: Guest, fault: Fault | None, words: str
) -> None:
    with pytest.raises(GuestError, match=words) as raised:
        seen(guest)
    assert raised.value.fault == fault
    assert raised.value.hint
    assert (raised.value.detail or "") == guest.log


def test_a_guest_that_ends_between_two_looks_is_asked_for_its_state_again(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest((RUNS, "", 0.0), (OFF, "the guest shut down", 0.0))

    def gone() -> float:
        raise GuestError("domain is not running")

    monkeypatch.setattr(guest, "cpu_seconds", gone)
    seen(guest)


TRANSIENT = "<domain type='test'><name>gone</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def test_a_vm_that_somebody_undefined_while_it_ran_has_ended_when_it_is_gone() -> None:
    """Such a domain is transient: libvirt forgets it as it stops."""
    connection = libvirt().open("test:///default")
    try:
        domain = Domain(connection.createXML(TRANSIENT, 0))
        assert domain.is_active()
        domain.handle.destroy()
        assert not domain.is_active()
        domain.destroy()
    finally:
        connection.close()

"""Calls that a QEMU has to answer: one that hangs is not waited for without an end."""

from __future__ import annotations

import threading

import pytest

from clienthv.errors import GuestError, HostError
from clienthv.hypervisor.answering import answered


def test_an_answer_and_a_refusal_come_through() -> None:
    assert answered(lambda: 7, "desk") == 7

    def refuse() -> None:
        msg = "no"
        raise HostError(msg)

    with pytest.raises(HostError, match="no"):
        answered(refuse, "desk")


def test_a_qemu_that_hangs_is_named_with_the_way_out() -> None:
    never = threading.Event()
    with pytest.raises(GuestError, match="QEMU of VM desk has not answered") as raised:
        answered(never.wait, "desk", 0.01)
    never.set()
    assert "clienthv down desk --force" in (raised.value.hint or "")

"""Calls that QEMU has to answer, and a QEMU that hangs does not: libvirt waits for its monitor without an end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, TypeVar

from clienthv.errors import GuestError

ANSWERS_WITHIN: Final = 20.0
"""Seconds; one that works answers in milliseconds, one that waits for a slow disk in some seconds."""

_T = TypeVar("_T")


def answered(call: Callable[[], _T], name: str, seconds: float = ANSWERS_WITHIN) -> _T:
    """What a call of libvirt's gives, which runs in a thread of its own: an interrupt need not wait for its end.

    One that is not answered stays with libvirt, whose other calls on that VM wait for it; to pull its plug works.
    Raises GuestError, and what the call raises.
    """
    given: queue.SimpleQueue[Callable[[], _T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            result = call()
        except Exception as e:  # noqa: BLE001 - raised where the call is waited for
            given.put(partial(_raised, e))
        else:
            given.put(lambda: result)

    threading.Thread(target=run, name=f"QEMU of {name}", daemon=True).start()
    try:
        answer = given.get(timeout=seconds)
    except queue.Empty:
        msg = f"the QEMU of VM {name} has not answered within {seconds:.0f} s"
        hint = f"it hangs, as on a disk or network share that is gone; clienthv down {name} --force pulls the plug"
        raise GuestError(msg, hint=hint) from None
    return answer()


def _raised(failure: Exception) -> NoReturn:
    raise failure

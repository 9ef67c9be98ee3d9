"""Undoing is not interrupted, whichever thread gets the signal, and the signal is heard afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from clienthv.process import undisturbed


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another thread"])
def test_a_signal_waits_until_the_work_is_done(others: int) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(others)]
    for thread in threads:
        thread.start()
    done = False
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed():  # noqa: PT012 - where it comes is what is tested
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            done = True
    finally:
        over.set()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""Programs that clienthv starts: no signal makes it go on while one of them is still at work."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from clienthv.process.running import run


def test_a_second_interrupt_does_not_leave_a_program_at_work_behind(tmp_path: Path) -> None:
    made = tmp_path / "made"
    clocks = [threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)) for after in (0.1, 0.5)]
    for clock in clocks:
        clock.start()
    with pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", f"sleep 1; echo > {made}"], within=10)
    assert made.exists(), "whoever undoes what it does must find it done"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_hears_signals_as_any_other() -> None:
    """A daemon that an installation starts is to be stopped by SIGTERM."""
    _, told, _ = run(["/bin/sh", "-c", "grep SigBlk /proc/self/status"], within=10)
    assert int(told.split()[1], 16) == 0

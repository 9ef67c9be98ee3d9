"""What clienthv starts, and who listens to it: neither a signal nor a closed terminal leaves work half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clienthv import hostchanges, inspect
from clienthv.hostchanges import Fate
from clienthv.model.change import Change, Setting, What
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


def test_who_changes_something_is_known_when_clienthv_is_gone(tmp_path: Path) -> None:
    """A pipe that nobody reads keeps the writer, as the kernel does."""
    pipe, device = tmp_path / "pipe", "0000:01:00.0"
    os.mkfifo(pipe)
    script = f"from clienthv import process; process.write_file({str(pipe)!r}, '7', 60, {device!r})"
    killed = subprocess.Popen([sys.executable, "-c", script])
    try:
        while not (writers := inspect.writers_to(device)):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
        killed.wait()
        assert inspect.writers_to(device) == writers
        change = Change(setting=Setting(what=What.DRIVER, device=device), before="none", after="none")
        assert hostchanges.take_back(change).fate is Fate.STILL_NEEDED
    finally:
        killed.kill()
        for pid in inspect.writers_to(device):
            os.kill(pid, signal.SIGKILL)


def test_that_nobody_listens_any_more_stops_no_work() -> None:
    """A terminal that was closed, or ``2>&1 | head``: what is begun is brought to its end or undone, unheard."""
    script = "from clienthv.cli import terminal\nfor _ in range(3): terminal.say('one line')\nprint('done')"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=writing, text=True)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize(
    ("given", "code"), [("SIG_IGN", 0), ("SIG_DFL", 128 + signal.SIGHUP)], ids=["nohup", "without"]
)
def test_who_was_started_to_outlive_the_terminal_does(given: str, code: int) -> None:
    """man 1 nohup: the program is started with SIGHUP ignored, and is to leave that so."""
    script = (
        "import os, signal\n"
        f"signal.signal(signal.SIGHUP, signal.{given})\n"
        "from clienthv import cli\n"
        "cli.cli.main = lambda **_: os.kill(os.getpid(), signal.SIGHUP)\n"
        "cli.main()"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == code

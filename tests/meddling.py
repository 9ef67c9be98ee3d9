"""Runs clienthv with something done to it, or to the PC, at one moment: there is no switch in the product for it.

``python meddling.py kill N ARGUMENTS…`` ends clienthv with SIGKILL right after the Nth line of its journal is on the
disk, ``killed-before N`` right before that line is written: when the change before it has been made.
``python meddling.py at-define COMMAND ARGUMENTS…`` lets the shell run a command once all is prepared and planned, just
before the VM is defined and started; ``at-hand-over`` just before functions are taken from their drivers.
"""

import os
import signal
import subprocess
import sys
from types import ModuleType

from clienthv.journal import Journal
from clienthv.lifecycle import making, preparing

WHAT, VALUE = sys.argv[1:3]


def die() -> None:
    """End at once, with nothing unwound."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(number: int, *, before: bool) -> None:
    """Let this process die at a line of its journal."""
    append, lines = Journal._append, iter(range(1, sys.maxsize))

    def counted(self: Journal, line: object) -> None:
        this = next(lines)
        if this == number and before:
            die()
        append(self, line)
        if this == number:
            die()

    Journal._append = counted


def meddle(module: ModuleType, name: str, command: str) -> None:
    """Let the shell run a command before a function, once."""
    function = getattr(module, name)

    def meddled(*arguments: object) -> object:
        setattr(module, name, function)
        subprocess.run(["sh", "-c", command], check=True)
        return function(*arguments)

    setattr(module, name, meddled)


if WHAT == "at-define":
    meddle(making, "define", VALUE)
elif WHAT == "at-hand-over":
    meddle(preparing, "hand_over", VALUE)
else:
    kill_at(int(VALUE), before=WHAT == "killed-before")

from clienthv.cli import main  # noqa: E402

sys.argv = ["clienthv", *sys.argv[3:]]
main()

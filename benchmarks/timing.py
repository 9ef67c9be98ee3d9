"""What a whole process costs, from outside: wall time and peak memory as the kernel accounts for them (wait4).

A process starts out with its parent's peak memory to its name (man 2 getrusage: ru_maxrss outlives execve). So each is
started by a small process, this file run as a program, whatever the one that measures has loaded meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = REPOSITORY / ".venv" / "bin"
RUNS = 11


class Cost(NamedTuple):
    """What one process cost: seconds of wall time, and its peak memory in MiB."""

    seconds: float
    mib: float


@cache
def _starter() -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-S", __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def cost(command: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command once. It must succeed."""
    starter = _starter()
    assert starter.stdin is not None and starter.stdout is not None  # noqa: PT018, S101 - both are pipes
    starter.stdin.write(json.dumps([list(command), {**os.environ, **(environment or {})}]) + "\n")
    starter.stdin.flush()
    seconds, kib, code = json.loads(starter.stdout.readline())
    if code != 0:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return Cost(seconds, kib / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    """The medians of several runs."""
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.mib for c in costs))


def in_turn(*commands: Sequence[str], runs: int = RUNS) -> list[list[Cost]]:
    """All commands in turn, one warm-up each, so that a machine that changes its speed changes it for all."""
    for command in commands:
        cost(command)
    rounds = [[cost(command) for command in commands] for _ in range(runs)]
    return [list(column) for column in zip(*rounds, strict=True)]


def medians(*commands: Sequence[str], runs: int = RUNS) -> list[Cost]:
    """The medians of each of several commands that ran in turn."""
    return [median(column) for column in in_turn(*commands, runs=runs)]


def _start_what_is_asked() -> None:
    quiet = [(os.POSIX_SPAWN_OPEN, out, os.devnull, os.O_WRONLY, 0) for out in (1, 2)]
    for line in sys.stdin:
        command, environment = json.loads(line)
        began = time.perf_counter()
        process = os.posix_spawnp(command[0], command, environment, file_actions=quiet)
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - began
        print(json.dumps([seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]), flush=True)


if __name__ == "__main__":
    _start_what_is_asked()

"""How a program is run: in the C locale, within bounds, and never waited for without end."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final, NamedTuple

from clienthv.errors import DiskError, HostError
from clienthv.process.undisturbed import heard_later

SECONDS: Final = 30
_log: Final = logging.getLogger(__name__)
_DYING: Final = 1  # seconds
_ADDRESS_SPACE: Final = 2 << 30  # bytes; qemu-img has had bugs with crafted images (CVE-2024-4467 and others)
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
WRITES_TO: Final = "CLIENTHV_WRITES_TO"
"""The variable by which a process is known that changes something for clienthv, whatever has become of clienthv."""


class Told(NamedTuple):
    """How a program's failure is told: the words it begins its own with, the error, and the hints."""

    prefix: str
    error: type[DiskError | HostError]
    late: str
    failed: str


def output(command: list[str], name: str, what: str, told: Told, writes_to: str = "") -> str:
    """What a program prints, in plain words of the C locale. Raises the error that ``told`` names.

    ``writes_to`` is what it changes, for ``inspect`` to see that it is still there.
    """
    try:
        code, out, told_by_it = run(command, SECONDS, more={WRITES_TO: writes_to} if writes_to else NOTHING)
    except TimeoutError as e:
        msg = f"cannot {what}: {name} did not finish within {SECONDS} seconds"
        raise told.error(msg, hint=told.late) from e
    if code != 0:
        words = told_by_it.strip().removeprefix(told.prefix) or f"{name} ended with {code}"
        msg = f"cannot {what}: {words.splitlines()[0]}"
        raise told.error(msg, hint=told.failed, detail=told_by_it)
    return out


def limits(seconds: int = SECONDS, *more: str) -> list[str]:
    """The words before a command that bound its memory and processor time (util-linux)."""
    return [find("prlimit", "install util-linux"), f"--as={_ADDRESS_SPACE}", f"--cpu={seconds}", *more, "--"]


def find(program: str, hint: str) -> str:
    """The path of a program. Raises HostError, with what to install as the hint."""
    found = shutil.which(program)
    if found is None:
        msg = f"{program} is not installed"
        raise HostError(msg, hint=hint)
    return found


def run(
    command: list[str], within: float, given: str | None = None, more: Mapping[str, str] = NOTHING
) -> tuple[int, str, str]:
    """Run a program in the C locale; its exit code and what it said. Raises TimeoutError, and leaves it alone then.

    ``subprocess.run`` would wait for it without end: the kernel may keep it, whatever signal it gets. No signal ends
    the wait, be it the second or the third: they are heard when the program has ended, so that nothing comes to pass
    after it was undone.
    """
    began = time.monotonic()
    with heard_later():
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", env={"PATH": os.defpath, "LC_ALL": "C", **more},
            start_new_session=True,
        )  # fmt: skip
        try:
            out, told = child.communicate(given, timeout=within)
        except subprocess.TimeoutExpired as e:
            abandon(child)
            ended(command, None, began)
            raise TimeoutError from e
    ended(command, child.returncode, began)
    return child.returncode, out, told


def ended(command: list[str], code: int | None, began: float) -> None:
    """Log that a program ended, how, and how long it took; ``code`` is None for one that was given up."""
    how = "given up" if code is None else f"ended with {code}"
    _log.info("%s: %s after %.2f s", shlex.join(command), how, time.monotonic() - began)


def abandon(child: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a program and listen to it no more. One that even this does not end is waited for by nobody."""
    child.kill()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what it was to be told and did not read
                pipe.close()
    try:
        child.wait(_DYING)
    except subprocess.TimeoutExpired:
        child.returncode = -signal.SIGKILL

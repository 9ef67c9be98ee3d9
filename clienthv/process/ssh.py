"""ssh: a command on another PC."""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from io import BufferedReader, BufferedWriter
from typing import BinaryIO, Final, cast

from clienthv.errors import HostError, UsageError
from clienthv.process.running import ended, find

_WORDS: Final = 16 << 10
_ENDING: Final = 2  # seconds
_DESTINATION: Final = re.compile(r"(?:[^@-][^@]*@)?[^@-][^@]*")
_NEVER: Final = re.compile(r"""[\s\x00-\x1f\x7f'"`$\\;&<>|(){}]""")
"""What no name of a PC or its user has, and a shell would take for its own: ssh's ProxyCommand goes through one."""


def fed_through_ssh(host: str, command: list[str], feed: Callable[[BinaryIO], object]) -> str:
    """Run a command on another PC through ssh, and feed it; what it printed, 16 KiB of it at most.

    ssh asks for passwords on the terminal itself, and what goes wrong there is shown as the command says it. Where
    feeding fails ssh is ended, and the command finds its input at an end: it must know a half one from a whole one.
    Raises UsageError for what cannot be a host's name, HostError, and what ``feed`` does.
    """
    _refuse_odd(host)
    program = find("ssh", "install openssh-client (openssh-clients on Fedora)")
    remote = " ".join(shlex.quote(word) for word in command)
    began = time.monotonic()
    child = subprocess.Popen(
        [program, "-T", "-o", "BatchMode=no", "--", host, remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    given, said = cast("BufferedWriter", child.stdin), bytearray()
    listening = threading.Thread(target=_listen, args=(child.stdout, said), daemon=True)
    try:
        listening.start()
        whole = _feed(given, feed)
        code = child.wait()
        ended([program, host, remote], code, began)
    except BaseException:
        _end(child)
        raise
    finally:
        given.raw.close()  # what it holds back is for nobody
        listening.join(_ENDING)
    if code != 0 or not whole:
        msg = f"{command[0]} on {host} ended with {code}{'' if whole else ' before it had read all'}"
        hint = f"what it said is above; is clienthv installed there, of this version? ssh {host} clienthv --version"
        raise HostError(msg, hint=hint, detail=said.decode(errors="replace") or None)
    return said.decode(errors="replace")


def _refuse_odd(host: str) -> None:
    """Refuse what ssh would take for an option, or a shell for more than a name. Raises UsageError."""
    if not _DESTINATION.fullmatch(host.removeprefix("ssh://")) or _NEVER.search(host):
        msg = f"{host!r} is no name of another PC, or of a user on one"
        raise UsageError(msg, hint="for example qemu+ssh://root@other/system")


def _feed(given: BinaryIO, feed: Callable[[BinaryIO], object]) -> bool:
    """Feed a command; whether it took all."""
    try:
        feed(given)
        given.close()
    except BrokenPipeError:
        return False
    return True


def _listen(pipe: BufferedReader, said: bytearray) -> None:
    """Hear a command to its end, so that it never waits to be heard, and keep the beginning."""
    with pipe:
        while piece := pipe.read1(1 << 16):
            said.extend(piece[: _WORDS - len(said)])


def _end(child: subprocess.Popen[bytes]) -> None:
    """End ssh, which sets the terminal back when it is asked for a password and then to end."""
    child.terminate()
    try:
        child.wait(_ENDING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

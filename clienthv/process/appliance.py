"""A Python program that uses libguestfs: it and its virtual machine end with what started them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from clienthv.errors import HostError
from clienthv.process.running import ended, find

NO_GUESTFS: Final = 64
"""The exit code of a program for libguestfs that says: the Python that runs it has none."""
_SYSTEM_PYTHON: Final = "/usr/bin/python3"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GUESTFS_FILE: Final = 8 << 30  # bytes of a file it may write: its overlay is small, the root of its VM 4 GiB
_WORDS: Final = 16 << 10


class Appliance(NamedTuple):
    """Where libguestfs works: a folder of its own, one for its small VM, which may be kept, and whether with KVM."""

    folder: Path
    kept: Path
    kvm: bool


class Looked(NamedTuple):
    """How a program for libguestfs ended: its exit code, the last line of what it printed, and its words on errors."""

    code: int
    document: bytes
    words: str


def guestfs(arguments: list[str], where: Appliance, within: float, most: int, heard: Callable[[str], None]) -> Looked:
    """Run a Python program that uses libguestfs: by this Python, or the system's where this one has no libguestfs.

    ``heard`` gets the lines before the last as they come; ``most`` is how many bytes it may print. At the end, at an
    interrupt and after ``within`` seconds, it and its virtual machine are killed. No bound is set on the address space:
    QEMU reserves more than it uses. Raises TimeoutError, HostError.
    """
    deadline = time.monotonic() + within
    private, settings = str(where.folder), {} if where.kvm else {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    kernel = {name: os.environ[name] for name in ("SUPERMIN_KERNEL", "SUPERMIN_MODULES") if name in os.environ}
    environment = {
        "PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": private, "TMPDIR": private, "XDG_RUNTIME_DIR": private,
        "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": str(where.kept), **settings, **kernel,
    }  # fmt: skip
    limits = [find("prlimit", "install util-linux"), "--core=0", f"--fsize={_GUESTFS_FILE}", "--"]
    looked = Looked(NO_GUESTFS, b"", "")
    for python in dict.fromkeys((sys.executable, _SYSTEM_PYTHON)):
        if looked.code == NO_GUESTFS and Path(python).exists():
            command, began = [*limits, python, "-I", *arguments], time.monotonic()
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=environment, cwd=private, start_new_session=True,
            )  # fmt: skip
            looked = _heard_out(child, deadline, most, heard)
            ended(command, looked.code, began)
    return looked


def _heard_out(child: subprocess.Popen[bytes], deadline: float, most: int, heard: Callable[[str], None]) -> Looked:
    """Listen to a program until it ends; end its session, whatever comes. Raises TimeoutError, HostError."""
    out, words = bytearray(), bytearray()
    pipes = [(pipe, into) for pipe, into in ((child.stdout, out), (child.stderr, words)) if pipe is not None]
    try:
        with selectors.DefaultSelector() as ready:
            for pipe, into in pipes:
                ready.register(pipe, selectors.EVENT_READ, into)
            while ready.get_map():
                for key, _ in ready.select(_left(deadline)):
                    piece = os.read(key.fd, 1 << 16)
                    key.data.extend(piece)
                    if not piece:
                        ready.unregister(key.fileobj)
                del words[:-_WORDS]
                _pass_on(out, most, heard)
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            time.sleep(min(0.02, _left(deadline)))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # before it is reaped: until then the number is its own
        child.wait()
        for pipe, _ in pipes:
            pipe.close()
    return Looked(child.returncode, bytes(out).strip(), words.decode(errors="replace"))


def _left(deadline: float) -> float:
    """The seconds until then. Raises TimeoutError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _pass_on(out: bytearray, most: int, heard: Callable[[str], None]) -> None:
    """Hand on the whole lines before a document, which begins with a brace. Raises HostError when it is too long."""
    if len(out) > most:
        msg = "libguestfs's program says more than it should"
        raise HostError(msg, hint="is the image one that somebody made to do harm?")
    while out[:1] != b"{" and b"\n" in out:
        line, _, rest = out.partition(b"\n")
        out[:] = rest
        heard(line.decode(errors="replace"))

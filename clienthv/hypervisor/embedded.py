"""libvirt's embedded driver, which runs in our own process: its folder, its event loop, and one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from clienthv.errors import HostError
from clienthv.hypervisor.binding import libvirt, translated

_EMBED_WAIT: Final = 600.0  # seconds; each who is waited for ends in time, and they go one after another
_RECONNECT_WAIT: Final = 10.0
_MAX_ROOT: Final = 60  # a UNIX socket's path has 108 bytes, and libvirt puts up to 45 of its own below the root


# No virtlogd runs to take the logs. A mount namespace for each guest needs a root that is a mount point and the right
# to mount: chroots and containers, where the embedded driver is used most, have neither.
_QEMU_CONF: Final = """\
# Written by clienthv for libvirt's embedded driver. See /etc/libvirt/qemu.conf for what can be set.
stdio_handler = "file"
namespaces = []
"""
_ELSEWHERE: Final = "set XDG_STATE_HOME to a folder you may write to, or use --connect"


class Embedded:
    """What an open embedded driver needs from us as long as it is open: an event loop, and the lock on its folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._events: _EventLoop | None = None
        self._lock: BinaryIO | None = None

    def open(self, uri: str, waiting: Callable[[str], None]) -> Any:
        """Libvirt's connection, once the driver is free: one folder serves one process at a time. Raises HostError.

        libvirt tries but once in a process, so the wait comes first: for other clienthv processes by a lock of our
        own, held as long as the connection, and for virsh by a look at the lock on libvirt's pid file.
        """
        _prepare(self._root)
        self._events = _EventLoop()
        try:
            self._lock = _wait_for_lock(self._root, waiting)
            with translated(f"open libvirt's embedded driver in {self._root}"):
                handle = libvirt().open(uri)
            _wait_for_reconnect(handle, self._root)
        except BaseException:
            self.release()
            raise
        return handle

    def release(self) -> None:
        """Stop the loop and let others in; libvirt's connection is closed before."""
        if self._events is not None:
            self._events.stop()
        if self._lock is not None:
            self._lock.close()


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Keep from our stderr what the driver's child processes log there, whatever libvirt's own settings say.

    They begin with libvirt's logging as it is without settings (libvirt, src/util/vircommand.c: virFork) and warn of
    nothing but their own clock: boot time is taken from the uptime where there is no utmp, to the nearest second.
    """
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _prepare(root: Path) -> None:
    """Make an embedded driver's folder and settings. Raises HostError."""
    if len(str(root)) > _MAX_ROOT:
        msg = f"the path {root} is too long for the sockets that libvirt keeps below it ({_MAX_ROOT} characters)"
        raise HostError(msg, hint="set XDG_STATE_HOME to a shorter path, or use --connect")
    if any(c in str(root) for c in "?&#%"):
        msg = f"the path {root} has characters that a connection URI cannot carry"
        raise HostError(msg, hint="set XDG_STATE_HOME to a plain path, or use --connect")
    conf = root / "etc" / "qemu.conf"
    try:
        conf.parent.mkdir(parents=True, exist_ok=True)
        if not conf.exists():
            conf.write_text(_QEMU_CONF)
    except OSError as e:
        msg = f"cannot make {conf}: {e.strerror}"
        raise HostError(msg, hint=_ELSEWHERE) from e


def _wait_for_lock(root: Path, waiting: Callable[[str], None]) -> BinaryIO:
    """The lock on an embedded driver's folder, held until closed. Raises HostError after ``_EMBED_WAIT``."""
    try:
        lock = (root / "clienthv.lock").open("ab")
    except OSError as e:
        msg = f"cannot open {root / 'clienthv.lock'}: {e.strerror}"
        raise HostError(msg, hint=_ELSEWHERE) from e
    deadline, told = time.monotonic() + _EMBED_WAIT, False
    while not (_locked(lock) and _driver_is_free(root)):
        if time.monotonic() > deadline:
            lock.close()
            msg = f"another process has held the embedded driver in {root} for {_EMBED_WAIT:.0f} seconds"
            raise HostError(msg, hint="look for another clienthv or virsh that uses it")
        if not told:
            waiting(f"another process uses the embedded driver in {root}: waiting for it to finish")
            told = True
        time.sleep(0.1)
    return lock


def _locked(lock: BinaryIO) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _driver_is_free(root: Path) -> bool:
    """Whether no process holds libvirt's own (POSIX) lock on the driver's pid file."""
    try:
        with (root / "run" / "qemu" / "driver.pid").open("r+b") as pid_file:
            fcntl.lockf(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _wait_for_reconnect(handle: Any, root: Path) -> None:
    """Wait until the driver has found the guests again that an earlier process left running.

    The driver does that in threads of its own, and until it has, a guest whose QEMU is gone is told to run, and a
    destroy can race with the reconnect. Its control state says when (libvirt, virDomainGetControlInfo).
    """
    deadline = time.monotonic() + _RECONNECT_WAIT
    for state_file in (root / "run" / "qemu").glob("*.xml"):
        while time.monotonic() < deadline:
            try:
                domain = handle.lookupByName(state_file.stem)
                if not domain.isActive() or domain.controlInfo()[0] == libvirt().VIR_DOMAIN_CONTROL_OK:
                    break
            except libvirt().libvirtError:
                pass
            time.sleep(0.01)


class _EventLoop:
    """libvirt's event loop in a thread of its own: the embedded driver lives in our process and needs one."""

    def __init__(self) -> None:
        virt = libvirt()
        virt.virEventRegisterDefaultImpl()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            libvirt().virEventRunDefaultImpl()

    def stop(self) -> None:
        """Wake the loop and let it end."""
        self._stopping = True
        libvirt().virEventAddTimeout(0, lambda *_: None, None)
        self._thread.join(timeout=5)

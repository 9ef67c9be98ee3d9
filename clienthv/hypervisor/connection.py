"""Which libvirt to talk to, and talking to it: a system or session daemon, or the embedded driver."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from clienthv.errors import ClienthvError, GuestError, HostError
from clienthv.hypervisor import capabilities
from clienthv.hypervisor.binding import libvirt, translated
from clienthv.hypervisor.domain import Domain
from clienthv.model.host import DomainCapabilities, GuestClaims, Stack
from clienthv.model.network import NETWORK, VirtualNetwork

_LOG_TAIL: Final = 1 << 16  # bytes; the command line alone has some four thousand
_SAYS_SOMETHING: Final = re.compile(r"qemu-system|KVM|error|[Aa]ssertion|vfio", re.ASCII)
SYSTEM: Final = "qemu:///system"
_NETWORK: Final = re.compile(rf"{NETWORK}\Z")
SESSION: Final = "qemu:///session"
_EMBED: Final = "qemu:///embed?root="
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


class Choice(NamedTuple):
    """A connection's URI and why it was chosen."""

    uri: str
    reason: str

    @property
    def embedded_root(self) -> Path | None:
        """The folder of an embedded driver, or None for any other connection."""
        return Path(self.uri.removeprefix(_EMBED)) if self.uri.startswith(_EMBED) else None


def choose(named: str | None, default_uri: str | None, *, root_user: bool, embed_root: Path) -> Choice:
    """The connection to use: the one named, libvirt's default, or the first that answers and may be used.

    Root has no session of its own (libvirt: ``qemu:///session`` as root means the system socket).
    """
    if named:
        return Choice(named, "given with --connect")
    if default_uri:
        return Choice(default_uri, "LIBVIRT_DEFAULT_URI is set")
    refusals = []
    for uri in (SYSTEM,) if root_user else (SYSTEM, SESSION):
        try:
            with Connection(Choice(uri, "trial")):
                pass
        except ClienthvError as e:
            refusals.append(f"{uri}: {e.message.partition(': ')[2] or e.message}")
            continue
        why = "it answers" if uri == SYSTEM else f"{refusals[0]}; the session answers"
        return Choice(uri, why)
    return Choice(f"{_EMBED}{embed_root}", f"no libvirt daemon can be used ({'; '.join(refusals)})")


class Connection:
    """An open libvirt connection; a context manager.

    ``waiting`` is told when another process holds an embedded driver.
    """

    def __init__(self, choice: Choice, waiting: Callable[[str], None] | None = None) -> None:
        self.choice = choice
        self._waiting = waiting or (lambda _: None)
        self._handle: Any = None
        self._events: _EventLoop | None = None
        self._lock: BinaryIO | None = None

    @property
    def uri(self) -> str:
        """The URI this connection was opened with."""
        return self.choice.uri

    def __enter__(self) -> Connection:
        virt = libvirt()
        root = self.choice.embedded_root
        if root is None:
            self._refuse_other_pc()
            with translated(f"connect to {self.uri}"):
                self._handle = virt.open(self.uri)
                driver = self._handle.getType()
            if driver != "QEMU":
                self.__exit__()
                msg = f"{self.uri} is a connection to {driver}; clienthv makes VMs for QEMU"
                raise HostError(msg, hint=f"use {SYSTEM} or {SESSION}")
            return self
        _prepare(root)
        self._events = _EventLoop()
        try:
            self._open_embedded(root)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with contextlib.suppress(libvirt().libvirtError):
                self._handle.close()
            self._handle = None
        self._release()

    def revive(self) -> bool:
        """Connect again where the daemon went away; whether that was so. Raises HostError.

        systemd starts the daemon again when it is asked (libvirt, "Daemon management"), and it finds its guests.
        """
        if self._handle is None or self.choice.embedded_root is not None:
            return False
        with contextlib.suppress(libvirt().libvirtError):
            if self._handle.isAlive():
                self._handle.getLibVersion()
                return False
        with contextlib.suppress(libvirt().libvirtError):
            self._handle.close()
        with translated(f"connect to {self.uri} again"):
            self._handle = libvirt().open(self.uri)
        return True

    def _refuse_other_pc(self) -> None:
        """A plan is made from the hardware of the PC that clienthv runs on, and is worth nothing on another."""
        with contextlib.suppress(ValueError):
            if (name := urlsplit(self.uri).hostname) is not None:
                msg = f"{self.uri} leads to another PC, {name}; clienthv makes VMs for the PC it runs on"
                raise HostError(msg, hint="run clienthv there; for a plan: inspect --save there, plan --host here")

    def _release(self) -> None:
        if self._events is not None:
            self._events.stop()
        if self._lock is not None:
            self._lock.close()

    def _open_embedded(self, root: Path) -> None:
        """Open the embedded driver once it is free: one folder serves one process at a time.

        libvirt tries but once in a process, so the wait comes first: for other clienthv processes by a lock of our
        own, held as long as the connection, and for virsh by a look at the lock on libvirt's pid file.
        """
        self._lock = _wait_for_lock(root, self._waiting)
        with translated(f"open libvirt's embedded driver in {root}"):
            self._handle = libvirt().open(self.uri)
        self._wait_for_reconnect(root)

    def _wait_for_reconnect(self, root: Path) -> None:
        """Wait until the driver has found the guests again that an earlier process left running.

        The driver does that in threads of its own; a guest is controllable once a call that needs its monitor
        returns. Until then a destroy can race with the reconnect.
        """
        deadline = time.monotonic() + _RECONNECT_WAIT
        for state_file in (root / "run" / "qemu").glob("*.xml"):
            while time.monotonic() < deadline:
                try:
                    domain = self._handle.lookupByName(state_file.stem)
                    if not domain.isActive():
                        break
                    domain.controlInfo()
                    break
                except libvirt().libvirtError:
                    time.sleep(0.05)

    def domains(self) -> Iterator[Domain]:
        """Every domain of this connection, running or not."""
        with translated("list the VMs"):
            handles = self._handle.listAllDomains(0)
        for handle in handles:
            yield Domain(handle)

    def find(self, name: str) -> Domain | None:
        """The domain of that name, or None."""
        return next((d for d in self.domains() if d.name == name), None)

    def domain(self, name: str) -> Domain:
        """The domain of that name. Raises GuestError."""
        found = self.find(name)
        if found is None:
            names = ", ".join(sorted(d.name for d in self.domains()))
            msg = f"there is no VM {name!r} on {self.uri}"
            raise GuestError(msg, hint=f"there are: {names}" if names else "clienthv up NAME makes one")
        return found

    def define(self, xml: str, name: str) -> Domain:
        """Define a domain, checked by libvirt against its schema (VIR_DOMAIN_DEFINE_VALIDATE)."""
        with translated(f"define VM {name}"):
            return Domain(self._handle.defineXMLFlags(xml, libvirt().VIR_DOMAIN_DEFINE_VALIDATE))

    def screenshot(self, domain: Domain) -> tuple[str, bytes]:
        """The guest's first screen: its MIME type and the picture's bytes."""
        with translated(f"take a picture of VM {domain.name}'s screen"):
            stream = self._handle.newStream(0)
            mime = domain.handle.screenshot(stream, 0, 0)
            chunks = []
            while chunk := stream.recv(1 << 18):
                chunks.append(chunk)
            stream.finish()
        return str(mime), b"".join(chunks)

    def _folder(self, embedded: str, variable: str, default: str, session: str, system: Path) -> Path:
        """A folder of the driver's, which has it in another place for each kind of connection."""
        root = self.choice.embedded_root
        if root is not None:
            return root / embedded
        if self.uri.startswith(SESSION):
            return Path(os.environ.get(variable) or Path("~", default).expanduser()) / "libvirt" / session
        return system

    def has_firmware_variables(self, name: str) -> bool:
        """Whether there are UEFI variables for a VM of this name; what this user may not look at counts as there.

        Source: libvirt, src/qemu/qemu_conf.c (nvramDir) and qemu_firmware.c.
        """
        system = Path("/var/lib/libvirt/qemu/nvram")
        folder = self._folder("lib/qemu/nvram", "XDG_CONFIG_HOME", ".config", "qemu/nvram", system)
        try:
            return any(file.startswith(f"{name}_VARS.") for file in os.listdir(folder))  # noqa: PTH208 - names alone
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def log_time(self, name: str) -> float | None:
        """When something was last written to QEMU's log of a VM, in seconds of Unix time; None where nobody can tell.

        libvirt writes to it at each start and end of the guest.
        """
        try:
            return self._log(name).stat().st_mtime
        except OSError:
            return None

    def _log(self, name: str) -> Path:
        system = Path("/var/log/libvirt/qemu")
        return self._folder("log/qemu", "XDG_CACHE_HOME", ".cache", "qemu/log", system) / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The end of QEMU's log of a VM's last start; "" where there is none or this user may not read it.

        Source: libvirt, src/qemu/qemu_conf.c (logDir).
        """
        try:
            with self._log(name).open("rb") as log:
                log.seek(max(log.seek(0, os.SEEK_END) - _LOG_TAIL, 0))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        said = text.rpartition(": starting up")[2].splitlines()
        return "\n".join(line for line in said if _SAYS_SOMETHING.search(line) and not line.endswith("\\"))[-2000:]

    def stack(self, *, kvm: bool, privileged: bool) -> Stack:
        """What this connection's libvirt and QEMU are and offer; asked for KVM guests when KVM is usable."""
        virt_type = "kvm" if kvm else "qemu"
        with translated(f"read the capabilities of {self.uri}"):
            libvirt_version = _version(self._handle.getLibVersion())
            qemu_version = _version(self._handle.getVersion())
        offered: DomainCapabilities | None = None
        problem: str | None = None
        try:
            with translated("read the domain capabilities"):
                xml = self._handle.getDomainCapabilities(None, "x86_64", "q35", virt_type, 0)
                machines = capabilities.machine_types(self._handle.getCapabilities())
            offered = capabilities.parse(xml, machines)
        except ClienthvError as e:
            problem = e.message
        root, vms = self.choice.embedded_root, tuple(self.claims())
        privileged = privileged and not self.uri.startswith(SESSION)
        return Stack(
            uri=f"{_EMBED}…" if root is not None else self.uri,
            privileged=privileged,
            libvirt_version=libvirt_version,
            qemu_version=qemu_version,
            capabilities=offered,
            guest_functions=tuple(sorted({a for vm in vms if vm.running for a in vm.functions})),
            networks=self._networks() if privileged else msgspec.UNSET,
            problem=problem,
            vms=vms,
        )

    def _networks(self) -> tuple[VirtualNetwork, ...] | msgspec.UnsetType:
        """The networks of libvirt: none where the driver has none (the embedded one), unset where nobody answers.

        A session is not asked: its networks lead nowhere, and to ask starts a daemon for them.
        """
        virt = libvirt()
        try:
            told = [(n.name(), n.XMLDesc(0), bool(n.isActive())) for n in self._handle.listAllNetworks(0)]
        except virt.libvirtError as e:
            return () if e.get_error_code() == virt.VIR_ERR_NO_SUPPORT else msgspec.UNSET
        # One that libvirt calls what a profile cannot say is of no use to anybody here.
        named = (capabilities.network(name, xml, active=active) for name, xml, active in told if _NETWORK.match(name))
        return tuple(sorted(named, key=lambda network: network.name))

    def claims(self) -> Iterator[GuestClaims]:
        """What each VM has of the host or is defined with; a VM that is gone in the meantime has nothing."""
        for domain in self.domains():
            with contextlib.suppress(GuestError):
                yield domain.claims()


def _version(number: int) -> str:
    """Libvirt's packed version (major * 1,000,000 + minor * 1,000 + release) as text."""
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


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
        raise HostError(msg, hint="set XDG_STATE_HOME to a folder you may write to, or use --connect") from e


def _wait_for_lock(root: Path, waiting: Callable[[str], None]) -> BinaryIO:
    """The lock on an embedded driver's folder, held until closed. Raises HostError after ``_EMBED_WAIT``."""
    lock = (root / "clienthv.lock").open("ab")
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

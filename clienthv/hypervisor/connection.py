"""Which libvirt to talk to, and talking to it: a system or session daemon, or the embedded driver."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from clienthv.errors import ClienthvError, GuestError, HostError
from clienthv.hypervisor import capabilities
from clienthv.hypervisor.answering import answered
from clienthv.hypervisor.binding import libvirt, translated
from clienthv.hypervisor.domain import Domain
from clienthv.hypervisor.embedded import Embedded, unheard
from clienthv.model.host import DomainCapabilities, GuestClaims, Stack
from clienthv.model.network import NETWORK, VirtualNetwork

_LOG_TAIL: Final = 1 << 16  # bytes; the command line alone has some four thousand
_SAYS_SOMETHING: Final = re.compile(r"qemu-system|KVM|error|[Aa]ssertion|vfio", re.ASCII)
SYSTEM: Final = "qemu:///system"
_NETWORK: Final = re.compile(rf"{NETWORK}\Z")
SESSION: Final = "qemu:///session"
_EMBED: Final = "qemu:///embed?root="


class Choice(NamedTuple):
    """A connection's URI and why it was chosen."""

    uri: str
    reason: str

    @property
    def embedded_root(self) -> Path | None:
        """The folder of an embedded driver, or None for any other connection."""
        return Path(self.uri.removeprefix(_EMBED)) if self.uri.startswith(_EMBED) else None

    @property
    def path(self) -> str:
        """Which daemon of its PC the URI means, ``/system`` or ``/session``; "" where it cannot be read."""
        with contextlib.suppress(ValueError):
            return urlsplit(self.uri).path
        return ""

    @property
    def other_pc(self) -> str | None:
        """The name of the PC that the URI leads to, None where it names none (libvirt, "Connection URIs")."""
        with contextlib.suppress(ValueError):
            return urlsplit(self.uri).hostname
        return None

    @property
    def destination(self) -> str:
        """USER@HOST, or HOST, as ssh takes it; with a port of ssh's ssh://USER@HOST:PORT (man 1 ssh).

        It is "" for this PC. Other transports have ports of their own (libvirt, "Connection URIs").
        """
        with contextlib.suppress(ValueError):
            parts = urlsplit(self.uri)
            host = parts.hostname or ""
            if parts.port is None or "ssh" not in parts.scheme:
                return "@".join(filter(None, (parts.username, host)))
            named = f"[{host}]" if ":" in host else host
            return f"ssh://{'@'.join(filter(None, (parts.username, named)))}:{parts.port}"
        return ""


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

    ``waiting`` is told when another process holds an embedded driver. A connection ``elsewhere`` may lead to another
    PC: what it has is asked of libvirt alone, and no file of this PC is taken for one of that.
    """

    def __init__(
        self, choice: Choice, waiting: Callable[[str], None] | None = None, *, elsewhere: bool = False
    ) -> None:
        self.choice = choice
        self.elsewhere = elsewhere
        self._waiting = waiting or (lambda _: None)
        self._handle: Any = None
        self._embedded: Embedded | None = None

    @property
    def uri(self) -> str:
        """The URI this connection was opened with."""
        return self.choice.uri

    @property
    def handle(self) -> Any:
        """Libvirt's own object, for this room alone."""
        return self._handle

    def __enter__(self) -> Connection:
        virt = libvirt()
        root = self.choice.embedded_root
        if root is not None:
            self._embedded = Embedded(root)
            self._handle = self._embedded.open(self.uri, self._waiting)
            return self
        if not self.elsewhere:
            self._refuse_other_pc()
        with translated(f"connect to {self.uri}"):
            self._handle = virt.open(self.uri)
            driver = self._handle.getType()
        if driver != "QEMU":
            self.__exit__()
            msg = f"{self.uri} is a connection to {driver}; clienthv makes VMs for QEMU"
            raise HostError(msg, hint=f"use {SYSTEM} or {SESSION}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with contextlib.suppress(libvirt().libvirtError):
                self._handle.close()
            self._handle = None
        if self._embedded is not None:
            self._embedded.release()
            self._embedded = None

    def revive(self) -> bool:
        """Connect again where the daemon went away; whether that was so. Raises HostError.

        systemd starts the daemon again when it is asked (libvirt, "Daemon management"), and it finds its guests.
        """
        if self._handle is None or self.answers():
            return False
        with contextlib.suppress(libvirt().libvirtError):
            self._handle.close()
        with translated(f"connect to {self.uri} again"):
            self._handle = libvirt().open(self.uri)
        return True

    def answers(self) -> bool:
        """Whether the daemon is there still; the embedded driver always is."""
        if self.choice.embedded_root is not None:
            return True
        with contextlib.suppress(libvirt().libvirtError):
            if self._handle.isAlive():
                self._handle.getLibVersion()
                return True
        return False

    def _refuse_other_pc(self) -> None:
        """A plan is made from the hardware of the PC that clienthv runs on, and is worth nothing on another."""
        if (name := self.choice.other_pc) is not None:
            msg = f"{self.uri} leads to another PC, {name}; clienthv makes VMs for the PC it runs on"
            raise HostError(msg, hint="run clienthv there; for a plan: inspect --save there, plan --host here")

    def _quietly(self) -> contextlib.AbstractContextManager[None]:
        return unheard() if self._embedded is not None else contextlib.nullcontext()

    def domains(self) -> Iterator[Domain]:
        """Every domain of this connection, running or not."""
        with translated("list the VMs"):
            handles = self._handle.listAllDomains(0)
        for handle in handles:
            yield Domain(handle, self._quietly)

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
            handle = self._handle.defineXMLFlags(xml, libvirt().VIR_DOMAIN_DEFINE_VALIDATE)
        return Domain(handle, self._quietly)

    def screenshot(self, domain: Domain) -> tuple[str, bytes]:
        """The guest's first screen: its MIME type and the picture's bytes."""
        with translated(f"take a picture of VM {domain.name}'s screen"):
            stream = self._handle.newStream(0)
            with self._quietly():
                mime = answered(lambda: domain.handle.screenshot(stream, 0, 0), domain.name)
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
        if self.choice.path == "/session":
            return Path(os.environ.get(variable) or Path("~", default).expanduser()) / "libvirt" / session
        return system

    def has_firmware_variables(self, name: str) -> bool:
        """Whether there are UEFI variables for a VM of this name; what nobody may look at from here counts as there.

        Source: libvirt, src/qemu/qemu_conf.c (nvramDir) and qemu_firmware.c.
        """
        if self.elsewhere:
            return True
        folder = self.firmware_folder()
        try:
            return any(file.startswith(f"{name}_VARS.") for file in os.listdir(folder))  # noqa: PTH208 - names alone
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def firmware_folder(self) -> Path:
        """Where libvirt keeps the UEFI variables of its VMs, NAME_VARS.fd (src/qemu/qemu_conf.c, nvramDir)."""
        system = Path("/var/lib/libvirt/qemu/nvram")
        return self._folder("lib/qemu/nvram", "XDG_CONFIG_HOME", ".config", "qemu/nvram", system)

    def tpm_folder(self, uuid: str) -> Path:
        """Where libvirt keeps the state of a VM's TPM 2.0 (src/qemu/qemu_conf.c, swtpmStorageDir; qemu_tpm.c)."""
        system = Path("/var/lib/libvirt/swtpm")
        return self._folder("lib/swtpm", "XDG_CONFIG_HOME", ".config", "qemu/swtpm", system) / uuid / "tpm2"

    def log_time(self, name: str) -> float | None:
        """When something was last written to QEMU's log of a VM, in seconds of Unix time; None where nobody can tell.

        libvirt writes to it at each start and end of the guest.
        """
        if self.elsewhere:
            return None
        try:
            return self._log(name).stat().st_mtime
        except OSError:
            return None

    def _log(self, name: str) -> Path:
        system = Path("/var/log/libvirt/qemu")
        return self._folder("log/qemu", "XDG_CACHE_HOME", ".cache", "qemu/log", system) / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The end of QEMU's log of a VM's last start; "" where there is none or it cannot be read from here.

        Source: libvirt, src/qemu/qemu_conf.c (logDir).
        """
        if self.elsewhere:
            return ""
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
        security: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
        problem: str | None = None
        try:
            with translated("read the domain capabilities"):
                xml = self._handle.getDomainCapabilities(None, "x86_64", "q35", virt_type, 0)
                told = capabilities.of_host(self._handle.getCapabilities())
            offered, security = capabilities.parse(xml, told.machine_types), told.security_models
        except ClienthvError as e:
            problem = e.message
        root, vms = self.choice.embedded_root, tuple(self.claims())
        privileged = privileged and self.choice.path != "/session"
        return Stack(
            uri=f"{_EMBED}…" if root is not None else self.uri,
            privileged=privileged,
            libvirt_version=libvirt_version,
            qemu_version=qemu_version,
            capabilities=offered,
            guest_functions=tuple(sorted({a for vm in vms if vm.running for a in vm.functions})),
            networks=self._networks() if privileged else msgspec.UNSET,
            security_models=security,
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

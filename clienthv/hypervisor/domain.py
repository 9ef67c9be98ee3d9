"""One libvirt domain: its state, its life, and what clienthv wrote into it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum, unique
from typing import Any

import msgspec
from lxml import etree

from clienthv.errors import ClienthvError
from clienthv.hypervisor.answering import ANSWERS_WITHIN, answered
from clienthv.hypervisor.binding import libvirt, translated
from clienthv.model.host import GuestClaims
from clienthv.model.values import PciAddress


@unique
class DomainState(StrEnum):
    """A domain's state in libvirt's words (virDomainState)."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "in shutdown"
    SHUTOFF = "shut off"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    UNKNOWN = "no state"


_STATES = {
    1: DomainState.RUNNING,
    2: DomainState.BLOCKED,
    3: DomainState.PAUSED,
    4: DomainState.SHUTDOWN,
    5: DomainState.SHUTOFF,
    6: DomainState.CRASHED,
    7: DomainState.SUSPENDED,
}

# virDomainPausedReason and virDomainShutoffReason (libvirt, include/libvirt/libvirt-domain.h)
_PAUSED_REASONS = {5: "an I/O error", 10: "the guest crashed", 12: "a failed post-copy migration"}
ENDED_BY_ITSELF = "the guest shut down"
DESTROYED = "it was destroyed"
_SHUTOFF_REASONS = {1: ENDED_BY_ITSELF, 2: DESTROYED, 3: "it crashed", 6: "it failed"}
_PARTS = ("domain", "bus", "slot", "function")
SIGN_OF_LIFE = 0.1
"""Seconds of processor time from which on a guest counts as alive: firmware alone uses more."""
INTERNAL_ERROR = "an internal error of QEMU (instructions that this KVM cannot run, for example)"


class Domain:
    """A domain of an open connection.

    ``quietly`` is entered around calls that have libvirt start processes in ours.
    """

    def __init__(self, handle: Any, quietly: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.handle = handle
        self._quietly = quietly

    @property
    def name(self) -> str:
        """The domain's name."""
        return str(self.handle.name())

    def state(self) -> tuple[DomainState, str]:
        """The state, and why, where libvirt says so in a way that helps; "" otherwise."""
        with translated(f"read the state of VM {self.name}"):
            number, reason = self.handle.state()
        state = _STATES.get(number, DomainState.UNKNOWN)
        if state is DomainState.PAUSED:
            return state, _PAUSED_REASONS.get(reason, INTERNAL_ERROR if reason == 9 else "")
        if state is DomainState.SHUTOFF:
            return state, _SHUTOFF_REASONS.get(reason, "")
        return state, ""

    def is_active(self) -> bool:
        """Whether a QEMU process runs for it; not for one that is not there any more."""
        virt = libvirt()
        with translated(f"read the state of VM {self.name}"):
            try:
                return bool(self.handle.isActive())
            except virt.libvirtError as e:
                if e.get_error_code() != virt.VIR_ERR_NO_DOMAIN:
                    raise
                return False

    def cpu_seconds(self) -> float:
        """Processor time that its vCPUs have used since it started, in seconds; QEMU's own work is left out."""
        with translated(f"read the processor time of VM {self.name}"):
            vcpus, _ = self.handle.vcpus()
        return sum(int(vcpu[2]) for vcpu in vcpus) / 1e9

    def has_run(self) -> bool:
        """Whether a guest that is active has got anywhere: it runs, or has used its processor."""
        state, _ = self.state()
        if state in (DomainState.RUNNING, DomainState.BLOCKED, DomainState.SHUTDOWN):
            return True
        try:
            return self.cpu_seconds() >= SIGN_OF_LIFE
        except ClienthvError:
            return False  # QEMU has not come far enough to be asked

    @property
    def uuid(self) -> str:
        """What tells it from another of the same name."""
        return str(self.handle.UUIDString())

    def xml(self, *, inactive: bool = False, whole: bool = False) -> str:
        """The domain XML, of the running guest or the definition; ``whole`` is with passwords, to define it again."""
        flags = libvirt().VIR_DOMAIN_XML_INACTIVE if inactive else 0
        flags |= libvirt().VIR_DOMAIN_XML_SECURE if whole else 0
        with translated(f"read the definition of VM {self.name}"):
            return str(self.handle.XMLDesc(flags))

    def migratable_xml(self, *, inactive: bool = False) -> str:
        """The domain XML in the form that another libvirt takes it (VIR_DOMAIN_XML_MIGRATABLE), with passwords."""
        flags = libvirt().VIR_DOMAIN_XML_MIGRATABLE | libvirt().VIR_DOMAIN_XML_SECURE
        flags |= libvirt().VIR_DOMAIN_XML_INACTIVE if inactive else 0
        with translated(f"read the definition of VM {self.name}"):
            return str(self.handle.XMLDesc(flags))

    def snapshots(self) -> int:
        """How many snapshots libvirt knows of."""
        with translated(f"count the snapshots of VM {self.name}"):
            return int(self.handle.snapshotNum(0))

    def is_saved(self) -> bool:
        """Whether libvirt has put it to sleep on this PC (managed save)."""
        with translated(f"read the state of VM {self.name}"):
            return bool(self.handle.hasManagedSaveImage(0))

    def claims(self) -> GuestClaims:
        """What it has of the host while it runs, or is defined with."""
        running, xml = self.is_active(), self.xml()
        made = claims_of(xml, self.name, running=running)
        if not running or parse_domain(xml).find("memoryBacking/hugepages") is not None:
            return made  # huge pages are no part of what the kernel calls available, and QEMU holds them from the start
        try:
            with translated(f"read the memory of VM {self.name}"):
                resident = answered(self.handle.memoryStats, self.name).get("rss")
                memory = self.handle.info()[1]
        except ClienthvError:
            return made  # a QEMU that is busy or hung does not answer, and is in nobody else's way
        return msgspec.structs.replace(
            made, memory_mib=memory >> 10, resident_mib=resident >> 10 if resident is not None else None
        )

    def note(self, namespace: str, element: str, *, running: bool = False) -> None:
        """Write an element of our own into the metadata: the definition's, or the running guest's alone."""
        virt = libvirt()
        where = virt.VIR_DOMAIN_AFFECT_LIVE if running else virt.VIR_DOMAIN_AFFECT_CONFIG
        with translated(f"write into the definition of VM {self.name}"):
            self.handle.setMetadata(virt.VIR_DOMAIN_METADATA_ELEMENT, element, "clienthv", namespace, where)

    def attach(self, element: str) -> None:
        """Plug a device into the running guest alone."""
        with translated(f"attach a device to VM {self.name}"):
            self.handle.attachDeviceFlags(element, libvirt().VIR_DOMAIN_AFFECT_LIVE)

    def detach(self, element: str) -> None:
        """Ask the running guest to let go of a device; it is gone from the domain once it has."""
        with translated(f"detach a device from VM {self.name}"):
            flags = libvirt().VIR_DOMAIN_AFFECT_LIVE
            answered(lambda: self.handle.detachDeviceFlags(element, flags), self.name)

    def start(self) -> None:
        """Start it."""
        with translated(f"start VM {self.name}"), self._quietly():
            self.handle.create()

    def ask_to_shut_down(self, seconds: float = ANSWERS_WITHIN) -> None:
        """Press its power button (ACPI). Raises GuestError for a QEMU that takes no notice within the seconds."""
        with translated(f"shut down VM {self.name}"):
            answered(self.handle.shutdown, self.name, min(seconds, ANSWERS_WITHIN))

    def destroy(self) -> None:
        """Pull its plug. A domain that stopped by itself in the meantime is fine."""
        if not self.is_active():
            return
        with translated(f"stop VM {self.name}"), self._quietly():
            try:
                self.handle.destroy()
            except libvirt().libvirtError:
                if self.is_active():
                    raise

    def undefine(self, *, with_state: bool = False) -> None:
        """Forget the definition. Firmware variables and TPM state stay on disk as images do, or go ``with_state``."""
        virt = libvirt()
        flags = virt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | virt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        flags |= virt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        if with_state:
            flags |= virt.VIR_DOMAIN_UNDEFINE_NVRAM | getattr(virt, "VIR_DOMAIN_UNDEFINE_TPM", 0)
        else:
            flags |= virt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(virt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
        with translated(f"undefine VM {self.name}"):
            self.handle.undefineFlags(flags)


def host_functions(xml: str) -> tuple[str, ...]:
    """The PCI functions of the host in a domain's XML (libvirt, formatdomain, "Host device assignment")."""
    root = parse_domain(xml)
    sources = [
        *root.iterfind("devices/hostdev[@type='pci']/source/address"),
        *root.iterfind("devices/interface[@type='hostdev']/source/address"),
        *root.iterfind("devices/disk[@type='nvme']/source/address"),
    ]
    return tuple(str(PciAddress(*(_number(a.get(part)) for part in _PARTS))) for a in sources)


def parse_domain(xml: str) -> Any:
    """A domain's XML as a tree; nothing outside it is read."""
    return etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False, no_network=True))


def claims_of(xml: str, name: str, *, running: bool) -> GuestClaims:
    """What a domain's XML names of the host."""
    root = parse_domain(xml)
    return GuestClaims(
        name=name,
        running=running,
        functions=host_functions(xml),
        usb=tuple(map(_usb, root.iterfind("devices/hostdev[@type='usb']/source"))),
        tpm=root.find("devices/tpm/backend[@type='passthrough']") is not None,
    )


def _usb(source: Any) -> str:
    """A USB device as a domain names it: by ids, by bus and device number, or both."""
    vendor, product, place = source.find("vendor"), source.find("product"), source.find("address")
    ids = ":".join(f"{_number(e.get('id')):04x}" for e in (vendor, product) if e is not None)
    numbers = [str(_number(place.get(key))) for key in ("bus", "device")] if place is not None else []
    return " ".join([ids, *numbers])


def _number(text: str | None) -> int:
    return int(text or "0", 0)

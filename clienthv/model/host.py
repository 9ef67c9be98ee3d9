"""The host document: what one PC is, read live or from a file.

Everywhere ``None`` means *unknown*: it was not read, or could not be. Unknown is never the same as *no*.
Addresses are written ``0000:01:00.0``; ids are lower-case hexadecimal without ``0x``.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from clienthv.errors import DocumentError
from clienthv.model.input import EventDevice as EventDevice
from clienthv.model.installation import Installation
from clienthv.model.network import HostNetwork as HostNetwork
from clienthv.model.particulars import NOTHING, Particulars
from clienthv.model.platform import Core as Core
from clienthv.model.platform import Cpu as Cpu
from clienthv.model.platform import Hugepages as Hugepages
from clienthv.model.platform import Iommu as Iommu
from clienthv.model.platform import Kernel as Kernel
from clienthv.model.platform import Kvm as Kvm
from clienthv.model.platform import Machine as Machine
from clienthv.model.platform import Memory as Memory
from clienthv.model.roles import RoleName as RoleName
from clienthv.model.stack import DomainCapabilities as DomainCapabilities
from clienthv.model.stack import GuestClaims as GuestClaims
from clienthv.model.stack import Stack as Stack
from clienthv.model.usb import UsbDevice
from clienthv.model.values import Address as Address
from clienthv.model.values import Count, HexId, PciAddress, as_json, text_of

SCHEMA = 1

LISTED: Final = "a listing"
"""The ``source`` of a host that was read from what somebody pasted."""

Key = TypeVar("Key", int, str)

# A function bound to one of these is held for guests: the host itself does not use it
# (kernel, Documentation/driver-api/vfio.rst; drivers/pci/pci-stub.c).
HELD_FOR_GUESTS: Final = frozenset({"vfio-pci", "pci-stub"})

ClassCode = Annotated[str, Meta(pattern=r"^[0-9a-f]{4}([0-9a-f]{2})?$(?!\n)")]


class SrIov(msgspec.Struct, frozen=True, kw_only=True):
    """A physical function's virtual functions: how many it can have, has, and which (PCIe Base Spec, SR-IOV).

    ``offset`` and ``stride`` place them: number n has the routing id of the physical function + offset + n * stride
    (PCIe Base Specification, "First VF Offset", "VF Stride"; both may change with the number of functions).
    ``vf_device_id`` is their device id; ``drivers_autoprobe`` whether the kernel binds a driver to new ones;
    ``link_up`` whether the physical function's (first) interface is administratively up (IFF_UP); ``writable``
    whether the user who read this may change their number.
    """

    totalvfs: Count | None = None
    numvfs: Count | None = None
    virtfns: tuple[Address, ...] = ()
    offset: Count | None = None
    stride: Count | None = None
    vf_device_id: HexId | None = None
    drivers_autoprobe: bool | None = None
    link_up: bool | None = None
    writable: bool | None = None


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """One display output of a DRM card (``/sys/class/drm/cardN-NAME/status``)."""

    name: str
    connected: bool | None = None


class PciFunction(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One PCI function as sysfs and the udev hardware database describe it.

    ``driver`` is the bound driver's name, "" when none is bound. ``class_code`` is the class with its
    programming interface (six digits) or without where that is unknown. ``reset_methods`` as in sysfs.
    ``bridge_path`` holds the bridges from the root to the function. ``access_platform``, of virtio devices alone, is
    whether they reach memory through the IOMMU (virtio specification, VIRTIO_F_ACCESS_PLATFORM). ``particulars`` is
    left out of documents in which nobody looked for any.
    """

    address: Address
    class_code: ClassCode | None = None
    vendor_id: HexId | None = None
    device_id: HexId | None = None
    subsystem_vendor_id: HexId | None = None
    subsystem_device_id: HexId | None = None
    vendor: str | None = None
    device: str | None = None
    revision: str | None = None
    driver: str | None = None
    iommu_group: Count | None = None
    boot_vga: bool | None = None
    reset_methods: tuple[str, ...] | None = None
    numa_node: Count | None = None
    sriov: SrIov | None = None
    physfn: Address | None = None
    bridge_path: tuple[Address, ...] | None = None
    drm_card: str | None = None
    render_node: str | None = None
    connectors: tuple[Connector, ...] | None = None
    interfaces: tuple[str, ...] | None = None
    block_devices: tuple[str, ...] | None = None
    access_platform: bool | None = None
    particulars: Particulars | msgspec.UnsetType = msgspec.UNSET

    @property
    def known(self) -> Particulars:
        """Its particulars; nothing is known of them where nobody looked."""
        return NOTHING if self.particulars is msgspec.UNSET else self.particulars

    @cached_property
    def place(self) -> PciAddress:
        """The address as numbers."""
        return PciAddress.parse(self.address)

    @property
    def hops(self) -> tuple[str, ...] | None:
        """Device and function number of each bridge on the way and of the function itself; None where unknown.

        Bus numbers have no place here: they change with what is plugged in elsewhere.
        """
        if self.bridge_path is None:
            return None
        return tuple(f"{p.device:02x}.{p.function}" for p in map(PciAddress.parse, (*self.bridge_path, self.address)))

    @property
    def base_class(self) -> str:
        """The class without its programming interface, four digits; "" when unknown."""
        return (self.class_code or "")[:4]

    @property
    def is_bridge(self) -> bool:
        """Whether this is a bridge of any kind (PCI base class 06)."""
        return self.base_class.startswith("06")

    @property
    def label(self) -> str:
        """A name for a person."""
        names = [n for n in (self.vendor, self.device) if n]
        return " ".join(names) or f"{self.vendor_id or '????'}:{self.device_id or '????'}"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One use the host makes of a PCI function, with what shows it."""

    role: RoleName
    address: Address
    evidence: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, kw_only=True, dict=True, omit_defaults=False):
    """One PC. ``roles_read`` names the roles that were looked for: another role is unknown for every device.

    ``other_keyboards`` has a sentence for each keyboard that hangs on no USB device, virtual ones left out.
    ``network``, ``events`` and ``installation`` are left out where they were not read.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["host"] = "host"
    name: str = "this PC"
    source: str | None = None
    machine: Machine = Machine()
    kernel: Kernel = Kernel()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    kvm: Kvm = Kvm()
    iommu: Iommu = Iommu()
    pci: tuple[PciFunction, ...] = ()
    roles_read: tuple[RoleName, ...] = ()
    roles: tuple[Role, ...] = ()
    usb: tuple[UsbDevice, ...] | None = None
    other_keyboards: tuple[str, ...] | None = None
    network: HostNetwork | msgspec.UnsetType = msgspec.UNSET
    events: tuple[EventDevice, ...] | msgspec.UnsetType = msgspec.UNSET
    tpm_device: bool | None = None
    stack: Stack | None = None
    installation: Installation | msgspec.UnsetType = msgspec.UNSET
    unknown: tuple[str, ...] = ()

    @cached_property
    def by_address(self) -> dict[str, PciFunction]:
        """Every PCI function by its address."""
        return {f.address: f for f in self.pci}

    @cached_property
    def by_group(self) -> dict[int, tuple[PciFunction, ...]]:
        """The functions of each IOMMU group, in address order."""
        return self._grouped(lambda f: f.iommu_group)

    @cached_property
    def by_slot(self) -> dict[str, tuple[PciFunction, ...]]:
        """The functions of each slot (one card or one on-board device), in address order."""
        return self._grouped(lambda f: f.place.slot)

    @cached_property
    def virtual_functions(self) -> dict[str, int]:
        """For each physical function how many functions name it as theirs."""
        return dict(Counter(f.physfn for f in self.pci if f.physfn is not None))

    @cached_property
    def bridges(self) -> frozenset[str]:
        """The addresses of all bridges: base class 06, and what has a bus of its domain behind it (header type 1).

        A VMD controller is none: what is behind it is in a domain of its own.
        """
        before = {a for f in self.pci for a in f.bridge_path or () if PciAddress.parse(a).domain == f.place.domain}
        return frozenset(f.address for f in self.pci if f.is_bridge or f.address in before)

    @cached_property
    def by_class(self) -> dict[str, tuple[PciFunction, ...]]:
        """The functions of each PCI base class (two digits), in address order."""
        return self._grouped(lambda f: f.base_class[:2])

    def _grouped(self, key: Callable[[PciFunction], Key | None]) -> dict[Key, tuple[PciFunction, ...]]:
        groups: dict[Key, list[PciFunction]] = {}
        for function in sorted(self.pci, key=lambda f: f.place):
            if (name := key(function)) is not None:
                groups.setdefault(name, []).append(function)
        return {name: tuple(members) for name, members in groups.items()}

    @cached_property
    def roles_by_address(self) -> dict[str, tuple[Role, ...]]:
        """The roles of each function that has any."""
        found: dict[str, list[Role]] = {}
        for role in self.roles:
            found.setdefault(role.address, []).append(role)
        return {address: tuple(roles) for address, roles in found.items()}

    @cached_property
    def usb_by_port(self) -> dict[str, UsbDevice]:
        """Every USB device by its port; none where they were not read."""
        return {device.port: device for device in self.usb or ()}

    @cached_property
    def vms(self) -> tuple[GuestClaims, ...]:
        """The VMs that are known of; none where nobody asked."""
        known = self.stack.vms if self.stack is not None else ()
        return known if isinstance(known, tuple) else ()

    def read(self, role: RoleName) -> bool:
        """Whether this role was looked for at all."""
        return role in self.roles_read


class _Header(msgspec.Struct):
    schema: int
    kind: str


def is_document(data: bytes) -> bool:
    """Whether a file is meant as a document: JSON begins with a brace, and nothing that people paste does."""
    return text_of(data[:4096]).lstrip().startswith("{")


def decode(data: bytes, origin: str) -> Host:
    """Read a host document. ``origin`` names it in errors. Raises DocumentError."""
    make_one = "make one with: clienthv inspect --save FILE"
    try:
        header = msgspec.json.decode(data, type=_Header)
    except msgspec.ValidationError as e:
        msg = f"{origin} is JSON, but not a clienthv host document: {e}"
        raise DocumentError(msg, hint=make_one) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        msg = f"{origin} is not a whole JSON document: {e}"
        raise DocumentError(msg, hint=f"it may be cut short or of another kind; {make_one}") from e
    if header.kind != "host":
        msg = f"{origin} is a {header.kind!r} document, not a host document"
        raise DocumentError(msg, hint=make_one)
    if header.schema > SCHEMA:
        msg = f"{origin} has host schema {header.schema}; this clienthv reads up to {SCHEMA}"
        raise DocumentError(msg, hint="update clienthv, or save the document again with this version")
    try:
        host = msgspec.json.decode(data, type=Host)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        words = re.sub(r"Expected `str` matching regex '.*'", "not of the expected form", str(e))
        msg = f"{origin}: {words}"
        raise DocumentError(msg, hint=f"the document does not follow host schema {SCHEMA}; {make_one}") from e
    _check(host, origin)
    return host


def _check(host: Host, origin: str) -> None:
    """Refuse what types cannot: one address or port twice, roles of functions that are not there."""
    ports = [device.port for device in host.usb or ()]
    for what, places in (("PCI function", [f.address for f in host.pci]), ("USB device", ports)):
        if twice := next((a for a, b in itertools.pairwise(sorted(places)) if a == b), None):
            msg = f"{origin}: {what} {twice} is listed twice"
            raise DocumentError(msg, hint="the document was edited or merged; save it again")
    for role in host.roles:
        if role.address not in host.by_address:
            msg = f"{origin}: role {role.role.value} names {role.address}, which is not among the PCI functions"
            raise DocumentError(msg, hint="the document was edited; save it again")


def encode(host: Host) -> bytes:
    """The host document as indented JSON with a final newline; the same host gives the same bytes."""
    return as_json(host)

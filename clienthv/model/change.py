"""The settings of the host that clienthv changes itself, and what else ``up`` makes: what they may be set to.

Everything that is written down about a change, and everything that is read back to undo one, has passed ``check``:
nothing else of the host can be named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum, unique
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from clienthv.model import values
from clienthv.model.mdev import is_type_or_none, is_uuid
from clienthv.model.network import INTERFACE

_INTERFACE: Final = re.compile(rf"{INTERFACE}\Z")
_ADDRESS: Final = re.compile(values.PCI_ADDRESS_PATTERN)
_LAST_VF: Final = 0xFFFF  # NumVFs has 16 bits (PCIe Base Specification, SR-IOV extended capability)
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,7})\Z")
_DRIVER: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}\Z")
_FILE: Final = re.compile(r"(?:new|[0-9]+ [0-9]+ [0-9]+)\Z")
_PAGE_KIB: Final = frozenset({"2048", "1048576"})  # x86-64 has pages of 2 MiB and 1 GiB

NO_DRIVER: Final = "none"
"""The value of a function that no driver has, and of a driver_override that is not set."""
NEW_IMAGE: Final = ".clienthv-new"
"""The end of an image's name while it is being made."""
VFIO_PCI: Final = "vfio_pci"
"""The one module that is loaded, by the kernel's name for it."""


@unique
class What(StrEnum):
    """What may be changed, in the order it is changed in.

    ``LOAD_MODULE`` and ``HUGEPAGES`` are the whole PC's: whether a module is loaded, and how many pages of a size (in
    KiB) its pool has. Then come settings of a physical function, two of a virtual one, and a GPU's share.
    ``NVME_FLEXIBLE`` is how many flexible queue and interrupt resources an NVMe primary controller has ("4/2").
    ``CREATE_MDEV`` is the type of a GPU's mediated device, or "none" where it is not there. ``DRIVER`` and
    ``DRIVER_OVERRIDE`` are those of a function that moves into a guest. ``IMAGE`` and ``DOMAIN`` are a disk image and
    a definition that ``up`` makes: they stay once the VM runs.
    """

    LOAD_MODULE = "load-module"
    HUGEPAGES = "hugepages"
    LINK_UP = "link-up"
    NVME_FLEXIBLE = "nvme-flexible"
    VF_AUTOPROBE = "vf-autoprobe"
    CREATE_VFS = "create-vfs"
    VF_TRUST = "vf-trust"
    NVME_ONLINE = "nvme-online"
    CREATE_MDEV = "create-mdev"
    DRIVER = "driver"
    DRIVER_OVERRIDE = "driver-override"
    IMAGE = "image"
    DOMAIN = "domain"


OF_A_FUNCTION: Final = frozenset({What.VF_TRUST, What.NVME_ONLINE})
"""What is set for one virtual function: it must be there, and no other VM needs it."""
OF_THE_PC: Final = frozenset({What.LOAD_MODULE, What.HUGEPAGES})
"""What belongs to no device."""
OF_A_START: Final = frozenset({What.IMAGE, What.DOMAIN})
"""What is undone when a start fails or is cut short, and stays once the VM has started. It outlives a boot."""
HANDING_OVER: Final = frozenset({What.DRIVER, What.DRIVER_OVERRIDE})
"""What libvirt gives back by itself when the guest stops, as long as libvirt lives."""


def _is_number(text: str) -> bool:
    return _NUMBER.match(text) is not None


def _is_count(text: str) -> bool:
    return _is_number(text) and int(text) <= _LAST_VF


def _are_resources(text: str) -> bool:
    queues, slash, interrupts = text.partition("/")
    return slash == "/" and _is_count(queues) and _is_count(interrupts)


def is_driver(text: str) -> bool:
    """Whether a text can name a driver, or be ``NO_DRIVER``."""
    return _DRIVER.match(text) is not None


_MOST_XML: Final = 1 << 19  # bytes; a definition has some ten thousand


_VALUES: Final[dict[What, Callable[[str], bool]]] = {
    What.LOAD_MODULE: frozenset({"absent", "loaded"}).__contains__,
    What.HUGEPAGES: _is_number,
    What.LINK_UP: frozenset({"up", "down"}).__contains__,
    What.NVME_FLEXIBLE: _are_resources,
    What.VF_AUTOPROBE: frozenset({"0", "1"}).__contains__,
    What.CREATE_VFS: _is_count,
    What.VF_TRUST: frozenset({"on", "off"}).__contains__,
    What.NVME_ONLINE: frozenset({"on", "off"}).__contains__,
    What.CREATE_MDEV: is_type_or_none,
    What.DRIVER: is_driver,
    What.DRIVER_OVERRIDE: is_driver,
    What.IMAGE: lambda text: text == "absent" or _FILE.match(text) is not None,
    What.DOMAIN: lambda text: len(text) <= _MOST_XML,
}

_DEVICES: Final[dict[What, Callable[[str], bool]]] = {
    What.LOAD_MODULE: frozenset({VFIO_PCI}).__contains__,
    What.HUGEPAGES: lambda text: text.partition(" ")[0] in _PAGE_KIB and values.is_vm_name(text.partition(" ")[2]),
    What.IMAGE: lambda text: text.startswith("/") and values.is_plain_text(text),
    What.DOMAIN: values.is_vm_name,
}


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting: of which physical function; ``interface`` is its network interface, ``index`` a VF's number.

    The link state and the trust need the interface; what is set for one function needs its index; a mediated device
    its UUID as ``mdev``. What belongs to no function has in ``device`` what it is: a module, an image's path, a VM's
    name; of huge pages their size in KiB and the VM that they were made for.
    """

    what: What
    device: Annotated[str, Meta(max_length=4096)]
    interface: str | None = None
    index: Annotated[int, Meta(ge=0, le=_LAST_VF)] | None = None
    mdev: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def pages_kib(self) -> str:
        """The size in KiB of huge pages."""
        return self.device.partition(" ")[0]

    @property
    def uuid(self) -> str:
        """The UUID of a mediated device; "" where the setting is of another kind."""
        return "" if self.mdev is msgspec.UNSET else self.mdev


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting with the value it had and the value it gets.

    A definition's are its XML, or "" where there is none, and what the VM's firmware state is ("kept" or "own") with
    its UUID.
    """

    setting: Setting
    before: str
    after: str


def is_interface(name: str) -> bool:
    """Whether a text can name a network interface."""
    return _INTERFACE.match(name) is not None


def check(change: Change) -> Change:
    """The change, when it is one that clienthv makes. Raises ValueError, naming what is wrong."""
    setting = change.setting
    if not _DEVICES.get(setting.what, _is_address)(setting.device):
        msg = f"{setting.what} of {setting.device!r}"
        raise ValueError(msg)
    if (setting.what in (What.LINK_UP, What.VF_TRUST)) is not (setting.interface is not None):
        msg = f"{setting.what} with interface {setting.interface!r}"
        raise ValueError(msg)
    if setting.interface is not None and not is_interface(setting.interface):
        msg = f"{setting.interface!r} cannot be a network interface"
        raise ValueError(msg)
    if (setting.what in OF_A_FUNCTION) is not (setting.index is not None):
        msg = f"{setting.what} with index {setting.index}"
        raise ValueError(msg)
    if (setting.what is What.CREATE_MDEV) is not is_uuid(setting.uuid) or (setting.uuid and not is_uuid(setting.uuid)):
        msg = f"{setting.what} with the mediated device {setting.uuid!r}"
        raise ValueError(msg)
    if setting.what is What.IMAGE and (change.after == "new") is not setting.device.endswith(NEW_IMAGE):
        msg = f"{setting.what} {change.after!r} of {setting.device!r}"
        raise ValueError(msg)
    for value in (change.before, change.after):
        if not _VALUES[setting.what](value):
            msg = f"{setting.what} cannot be {value[:80]!r}"
            raise ValueError(msg)
    return change


def _is_address(text: str) -> bool:
    return _ADDRESS.match(text) is not None

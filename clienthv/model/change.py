"""The settings of the host that clienthv changes itself: what they are, and what they may be set to.

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

from clienthv.model.host import Address
from clienthv.model.mdev import is_type_or_none, is_uuid
from clienthv.model.network import INTERFACE

_INTERFACE: Final = re.compile(rf"{INTERFACE}\Z")
_LAST_VF: Final = 0xFFFF  # NumVFs has 16 bits (PCIe Base Specification, SR-IOV extended capability)
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")


@unique
class What(StrEnum):
    """A setting of a physical function, in the order they are made in; then two of a virtual one, and a GPU's share.

    ``NVME_FLEXIBLE`` is how many flexible queue and interrupt resources an NVMe primary controller has ("4/2").
    ``CREATE_MDEV`` is the type of a GPU's mediated device, or "none" where it is not there.
    """

    LINK_UP = "link-up"
    NVME_FLEXIBLE = "nvme-flexible"
    VF_AUTOPROBE = "vf-autoprobe"
    CREATE_VFS = "create-vfs"
    VF_TRUST = "vf-trust"
    NVME_ONLINE = "nvme-online"
    CREATE_MDEV = "create-mdev"


OF_A_FUNCTION: Final = frozenset({What.VF_TRUST, What.NVME_ONLINE})
"""What is set for one virtual function: it must be there, and no other VM needs it."""


def _is_number(text: str) -> bool:
    return _NUMBER.match(text) is not None and int(text) <= _LAST_VF


def _are_resources(text: str) -> bool:
    queues, slash, interrupts = text.partition("/")
    return slash == "/" and _is_number(queues) and _is_number(interrupts)


_VALUES: Final[dict[What, Callable[[str], bool]]] = {
    What.LINK_UP: frozenset({"up", "down"}).__contains__,
    What.NVME_FLEXIBLE: _are_resources,
    What.VF_AUTOPROBE: frozenset({"0", "1"}).__contains__,
    What.CREATE_VFS: _is_number,
    What.VF_TRUST: frozenset({"on", "off"}).__contains__,
    What.NVME_ONLINE: frozenset({"on", "off"}).__contains__,
    What.CREATE_MDEV: is_type_or_none,
}


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting: of which physical function; ``interface`` is its network interface, ``index`` a VF's number.

    The link state and the trust need the interface; what is set for one function needs its index; a mediated device
    its UUID as ``mdev``.
    """

    what: What
    device: Address
    interface: str | None = None
    index: Annotated[int, Meta(ge=0, le=_LAST_VF)] | None = None
    mdev: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def uuid(self) -> str:
        """The UUID of a mediated device; "" where the setting is of another kind."""
        return "" if self.mdev is msgspec.UNSET else self.mdev


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting with the value it had and the value it gets."""

    setting: Setting
    before: str
    after: str


def is_interface(name: str) -> bool:
    """Whether a text can name a network interface."""
    return _INTERFACE.match(name) is not None


def check(change: Change) -> Change:
    """The change, when it is one that clienthv makes. Raises ValueError, naming what is wrong."""
    setting = change.setting
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
    for value in (change.before, change.after):
        if not _VALUES[setting.what](value):
            msg = f"{setting.what} cannot be {value!r}"
            raise ValueError(msg)
    return change

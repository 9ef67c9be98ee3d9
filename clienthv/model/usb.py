"""USB devices: how one is told from another, what it is, and what the host itself uses it for."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from clienthv.model.roles import RoleName
from clienthv.model.values import Address, HexId

# A bus, and the ports from its root hub to the device: at most six, as seven tiers with the root hub are all that USB
# has (USB 2.0 specification, 4.1.1). The kernel names devices so (drivers/usb/core/usb.c, usb_alloc_dev).
PORT: Final = r"[1-9][0-9]{0,2}-[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,5}"
PORT_PATTERN: Final = rf"^({PORT}|usb[1-9][0-9]{{0,2}})$(?!\n)"

_HUB: Final = "09"  # USB-IF, "Defined Class Codes"
_BOOT_KEYBOARD: Final = "030101"  # Device Class Definition for HID 1.11, 4.2 and 4.3: HID, boot interface, keyboard
_CARRY_INPUT: Final = ("03", "e0")  # human interface devices, and the Bluetooth adapters that keyboards come in by

# A vendor id of 0 names nothing: libvirt refuses it (src/conf/domain_conf.c, "vendor cannot be 0").
USB_NAME_PATTERN: Final = rf"^(?!0000)[0-9a-f]{{4}}:[0-9a-f]{{4}}(@{PORT})?$(?!\n)"
_USB_NAME = re.compile(USB_NAME_PATTERN)

# What an interface of such a device begins with: class, subclass, protocol (USB-IF, "Defined Class Codes"). A
# fingerprint reader has no class of its own: its interfaces are vendor-specific (ff).
_VENDOR_SPECIFIC: Final = "ff"
_FINGERPRINT: Final = "fingerprint-reader"
_CLASSES: Final = {
    _FINGERPRINT: _VENDOR_SPECIFIC,
    "smart-card": "0b",
    "webcam": "0e",
    "audio": "01",
    "printer": "07",
    "bluetooth": "e00101",
}
_WHAT: Final = {
    _FINGERPRINT: "fingerprint reader",
    "smart-card": "smart card reader",
    "audio": "sound device",
    "bluetooth": "Bluetooth adapter",
}
USB_CLASSES: Final = tuple(_CLASSES)
_BY_CLASS: Final = "class:"
USB_WISH_PATTERN: Final = rf"^(?!0000)([0-9a-f]{{4}}:[0-9a-f]{{4}}(@{PORT})?|class:({'|'.join(_CLASSES)}))$(?!\n)"

Port = Annotated[str, Meta(pattern=PORT_PATTERN)]
UsbClass = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}$(?!\n)")]
InterfaceClass = Annotated[str, Meta(pattern=r"^[0-9a-f]{6}$(?!\n)")]
BusNumber = Annotated[int, Meta(ge=1, le=999)]
DeviceNumber = Annotated[int, Meta(ge=1, le=127)]  # an address on the bus has seven bits (USB 2.0 specification, 9.4.6)


class UsbName(msgspec.Struct, frozen=True):
    """What a profile calls a USB device: its ids, and its port where it means the one plugged in there alone."""

    vendor_id: str
    product_id: str
    port: str | None = None

    @classmethod
    def parse(cls, text: str) -> UsbName:
        """Read ``046d:c52b`` or ``046d:c52b@1-2.3``. Raises ValueError."""
        if _USB_NAME.match(text) is None:
            msg = f"{text!r} is not a USB device such as 046d:c52b or 046d:c52b@1-2.3"
            raise ValueError(msg)
        ids, _, port = text.partition("@")
        vendor_id, _, product_id = ids.partition(":")
        return cls(vendor_id, product_id, port or None)

    def __str__(self) -> str:
        return self.ids + (f"@{self.port}" if self.port else "")

    @property
    def ids(self) -> str:
        """Vendor and product as ``046d:c52b``."""
        return f"{self.vendor_id}:{self.product_id}"

    def fits(self, device: UsbDevice) -> bool:
        """Whether a device is one that is meant."""
        return device.ids == self.ids and self.port in (None, device.port)


class UsbClassName(msgspec.Struct, frozen=True):
    """What a profile calls all devices of one class, ``class:webcam``."""

    name: str

    def __str__(self) -> str:
        return f"{_BY_CLASS}{self.name}"

    @property
    def what(self) -> str:
        """One such device, for a person."""
        return _WHAT.get(self.name, self.name)

    def fits(self, device: UsbDevice) -> bool | None:
        """Whether a device is of the class; None where nothing tells.

        A device that no list of fingerprint readers has may be one all the same, when it is vendor-specific.
        """
        if self.name == _FINGERPRINT and device.fingerprint_reader:
            return True
        classes = device.interface_classes
        if classes is None:
            return None
        found = any(interface.startswith(_CLASSES[self.name]) for interface in classes)
        return (None if found else False) if self.name == _FINGERPRINT else found


UsbWish: TypeAlias = UsbName | UsbClassName


def wish(text: str) -> UsbWish:
    """Read an entry of a profile's list. Raises ValueError."""
    name = text.removeprefix(_BY_CLASS)
    return UsbClassName(name) if text.startswith(_BY_CLASS) and name in _CLASSES else UsbName.parse(text)


class UsbRole(msgspec.Struct, frozen=True, kw_only=True):
    """One use the host makes of a USB device, with what shows it."""

    role: RoleName
    evidence: tuple[str, ...] = ()


class UsbDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One USB device as sysfs and the udev hardware database describe it (Documentation/ABI/stable/sysfs-bus-usb).

    ``port`` is the kernel's name: bus and port path, ``1-2.3``, or ``usb1`` for the root hub of bus 1. It stays when
    the device is plugged in again; ``devnum`` does not. ``device_class`` and ``interface_classes`` are the USB-IF's
    codes: two digits, and class, subclass and protocol of each interface in six. ``controller`` is the PCI function
    of the host controller. ``keyboard`` is whether udev or the kernel takes one of its input devices for a keyboard.
    ``fingerprint_reader`` is true where udev's list of such readers has it, and left out otherwise: nothing tells what
    else is one.
    """

    port: Port
    busnum: BusNumber | None = None
    devnum: DeviceNumber | None = None
    vendor_id: HexId | None = None
    product_id: HexId | None = None
    vendor: str | None = None
    product: str | None = None
    device_class: UsbClass | None = None
    interface_classes: tuple[InterfaceClass, ...] | None = None
    controller: Address | None = None
    drivers: tuple[str, ...] | None = None
    block_devices: tuple[str, ...] | None = None
    network_interfaces: tuple[str, ...] | None = None
    keyboard: bool | None = None
    roles: tuple[UsbRole, ...] = ()
    fingerprint_reader: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def ids(self) -> str:
        """Vendor and product as ``046d:c52b``."""
        return f"{self.vendor_id or '????'}:{self.product_id or '????'}"

    @property
    def label(self) -> str:
        """A name for a person."""
        names = [n for n in (self.vendor, self.product) if n]
        return " ".join(names) or self.ids

    @property
    def is_hub(self) -> bool:
        """Whether other devices are plugged into it; root hubs are hubs too."""
        return self.device_class == _HUB or self.port.startswith("usb") or self._has_class(_HUB)

    @property
    def may_be_keyboard(self) -> bool:
        """Whether a keyboard would go with it: one that is told as such, or an interface that says it is one.

        Receivers of wireless mice and mice with many keys have such an interface too.
        """
        return bool(self.keyboard) or _BOOT_KEYBOARD in (self.interface_classes or ())

    def could_have(self, role: RoleName) -> bool:
        """Whether a device of this make can have a role at all; what is not recorded could."""
        match role:
            case RoleName.MOUNTED_DISK:
                return self.block_devices != ()
            case RoleName.DEFAULT_ROUTE | RoleName.NETWORK:
                return self.network_interfaces != ()
            case RoleName.INPUT:
                return self.interface_classes is None or any(map(self._has_class, _CARRY_INPUT))
            case RoleName.BOOT_DISPLAY | RoleName.CONNECTED_DISPLAY:
                return False

    def _has_class(self, code: str) -> bool:
        return any(interface.startswith(code) for interface in self.interface_classes or ())

"""USB devices: how one is told from another, what it is, and what the host itself uses it for."""

from __future__ import annotations

from typing import Annotated, Final

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

Port = Annotated[str, Meta(pattern=PORT_PATTERN)]
UsbClass = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}$(?!\n)")]
InterfaceClass = Annotated[str, Meta(pattern=r"^[0-9a-f]{6}$(?!\n)")]
BusNumber = Annotated[int, Meta(ge=1, le=999)]
DeviceNumber = Annotated[int, Meta(ge=1, le=127)]  # an address on the bus has seven bits (USB 2.0 specification, 9.4.6)


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

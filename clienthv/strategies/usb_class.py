"""Which USB devices a profile means: by ids, or all of a class such as webcams (USB-IF, "Defined Class Codes").

A device that a profile also names by its ids is that name's, not the class's. The order of the list and of the host's
devices changes nothing but the order of the decisions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from clienthv.model.host import Host
from clienthv.model.plan import Reason, Rejected
from clienthv.model.roles import RoleName
from clienthv.model.usb import UsbClassName, UsbDevice, UsbName, UsbWish, wish
from clienthv.strategies.frame import Option, reject


def meant_by(texts: tuple[str, ...], host: Host) -> tuple[UsbWish, ...]:
    """Each device that is wanted, in the profile's order; a class that no device is of stays as it is."""
    wishes = tuple(map(wish, texts))
    named = [name for name in wishes if isinstance(name, UsbName)]
    found: dict[UsbWish, None] = {}
    for wanted in wishes:
        if isinstance(wanted, UsbName):
            found[wanted] = None
            continue
        members = [device for device in members_of(wanted, host) if not any(name.fits(device) for name in named)]
        found.update(dict.fromkeys(_name(device, host) for device in members))
        if not members and not any(name.fits(d) for d in members_of(wanted, host) for name in named):
            found[wanted] = None
    return tuple(found)


def members_of(wanted: UsbClassName, host: Host) -> list[UsbDevice]:
    """The devices that are known to be of a class, in the order of their ports; hubs are of none."""
    there = [d for d in host.usb or () if d.vendor_id and d.product_id and not d.is_hub and wanted.fits(d)]
    return sorted(there, key=_place)


def _place(device: UsbDevice) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", device.port)]


def _name(device: UsbDevice, host: Host) -> UsbName:
    """Its ids; with its port where there are alike ones, of which libvirt would not choose one."""
    alike = Counter(other.ids for other in host.usb or ())[device.ids] > 1
    return UsbName(device.vendor_id or "", device.product_id or "", device.port if alike else None)


def nothing(option: Option, wanted: UsbClassName, host: Host) -> Iterator[Rejected]:
    """Why no device is handed over for a class."""
    inspect = "run clienthv inspect --save on that PC"
    if host.usb is None:
        yield reject(option, Reason.USB_UNKNOWN, "the host document does not say what is plugged in", inspect)
        return
    unsure = [d for d in sorted(host.usb, key=_place) if not d.is_hub and wanted.fits(d) is None]
    if unsure:
        shown = ", ".join(f"{d.ids} ({d.label}) on port {d.port}" for d in unsure[:4])
        more = f" and {len(unsure) - 4} more" if len(unsure) > 4 else ""
        yield reject(
            option,
            Reason.USB_CLASS_UNKNOWN,
            f"no device says that it is a {wanted.what}; whether one of these is, is unknown: {shown}{more}",
            f'name the one that is meant: devices = ["{unsure[0].ids}"]',
        )
        return
    yield reject(option, Reason.NOT_PLUGGED_IN, f"no {wanted.what} is plugged in", "plug it in before clienthv up")


def against_filter(option: Option, device: UsbDevice) -> Iterator[Rejected]:
    """What a filter never takes, though it may be of the class: what the host may be worked with."""
    evidence = [said for role in device.roles if role.role is RoleName.INPUT for said in role.evidence]
    if evidence or device.may_be_keyboard or any(role.role is RoleName.INPUT for role in device.roles):
        shown = evidence[0] if evidence else "its interface 030101"
        yield reject(
            option,
            Reason.HOST_INPUT,
            f"{device.ids} on port {device.port} is or carries a keyboard, mouse or touchpad ({shown}), which no class "
            "takes along",
            f'if you mean it, name it: devices = ["{device.ids}"]',
        )

"""Where the facts of USB devices stand, and of the event devices that are shared with a guest."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.plan import Reason
from clienthv.model.roles import RoleName
from clienthv.model.usb import UsbDevice, UsbName, UsbWish, wish
from clienthv.strategies import pci
from clienthv.strategies.evidence.facts import About, Facts, fact, listed, stated

_USB: Final = "/sys/bus/usb/devices"
_EVENTS: Final = "/dev/input/by-path"
_SHOWN: Final = 8
_ROLES: Final = {reason: role for role, (reason, _) in pci.ROLE_REASONS.items()}


def _wanted(about: About) -> UsbWish | None:
    """What the profile calls the device; None where the objection is about no USB device."""
    try:
        return wish(about.device or "")
    except ValueError:
        return None


def _meant(about: About) -> tuple[UsbDevice, ...]:
    wanted = _wanted(about)
    return tuple(d for d in about.host.usb or () if isinstance(wanted, UsbName) and wanted.fits(d))


def is_usb(about: About) -> bool:
    """Whether an objection is about a USB device that a profile names, or a class of them."""
    return _wanted(about) is not None


def of_port(device: UsbDevice, name: str, value: str | int | None) -> Facts:
    """What a file of a USB device says (kernel, Documentation/ABI/stable/sysfs-bus-usb)."""
    yield fact(f"{_USB}/{device.port}/{name}", value)


def _interfaces(device: UsbDevice) -> Facts:
    classes = device.interface_classes
    yield fact(f"{_USB}/{device.port}:*/bInterfaceClass", None if classes is None else listed(classes))


def unknown(about: About) -> Facts:
    """Nothing that is plugged in was read, or not the number that libvirt would tell the device by."""
    if about.host.usb is None:
        yield fact(_USB, None)
    for device in _meant(about):
        yield from of_port(device, "busnum", device.busnum)
        yield from of_port(device, "devnum", device.devnum)


def not_plugged_in(about: About) -> Facts:
    """All ids that were looked through; where the profile names a port, what is on it."""
    wanted, there = _wanted(about), about.host.usb
    if there is None:
        yield fact(_USB, None)
    elif isinstance(wanted, UsbName):
        if wanted.port is not None:
            on_port = about.host.usb_by_port.get(wanted.port)
            yield fact(f"{_USB}/{wanted.port}", on_port.ids if on_port is not None else "")
        elsewhere = [d.port for d in there if d.ids == wanted.ids]
        said = f"{wanted.ids} on {listed(elsewhere)}" if elsewhere else f"none is {wanted.ids}"
        yield fact(f"{_USB}/*/idVendor, idProduct", said)
    elif wanted is not None:
        yield fact(f"{_USB}/*:*/bInterfaceClass", f"none is of a {wanted.what}")


def several(about: About) -> Facts:
    """Each device that fits."""
    for device in _meant(about)[:_SHOWN]:
        yield fact(f"{_USB}/{device.port}", device.ids)


def hub(about: About) -> Facts:
    """The class of the device or of its interfaces (USB-IF, "Defined Class Codes", 09)."""
    for device in _meant(about):
        yield from of_port(device, "bDeviceClass", device.device_class)
        yield from _interfaces(device)


def keyboards(about: About) -> Facts:
    """What makes it a keyboard, and every other one of the host."""
    for device in _meant(about):
        if device.keyboard:
            yield fact(f"udev, {device.port}", "ID_INPUT_KEYBOARD=1")
        else:
            yield from _interfaces(device)
    for other in about.host.usb or ():
        if other.keyboard and other not in _meant(about):
            yield fact(f"udev, {other.port}", "ID_INPUT_KEYBOARD=1")
    others = about.host.other_keyboards
    yield fact("/proc/bus/input/devices, not USB", None if others is None else listed(others))


def class_unknown(about: About) -> Facts:
    """Of each device that may be of the class, what its interfaces say."""
    wanted = _wanted(about)
    for device in about.host.usb or ():
        if wanted is not None and not isinstance(wanted, UsbName) and not device.is_hub and wanted.fits(device) is None:
            yield from _interfaces(device)


def used(about: About) -> Facts:
    """What shows that the host uses the device so, in its own entry."""
    role = _ROLES[about.reason] if about.reason is not None else None
    for device in _meant(about):
        held = [r for r in device.roles if r.role is role]
        for use in held:
            yield from stated(use.evidence or ("yes",), f"host document, roles of USB device {device.port}, {role}")
        if role is RoleName.INPUT and not held:
            yield from _interfaces(device)


def used_by_vm(about: About) -> Facts:
    """The definitions of the running VMs that name the device."""
    for device in _meant(about):
        place = f" {device.busnum} {device.devnum}"
        for vm in about.host.vms:
            had = [text for text in vm.usb if text in (device.ids, device.ids + place, place)]
            if vm.running and had:
                yield fact(f"virsh dumpxml {vm.name}", listed(had))


def events(about: About) -> Facts:
    """The names that a profile can call event devices by (systemd, rules.d/60-persistent-input.rules)."""
    name, found = about.device, about.host.events
    if found is msgspec.UNSET:
        yield fact(_EVENTS, None)
        return
    if about.reason is Reason.NO_EVENT_DEVICE and name is not None:
        device = next((d for d in found if d.is_called(name)), None)
        if device is None:
            yield fact(f"{_EVENTS}/{name}", "")
        else:
            yield fact(f"{_EVENTS}/{name}", f"on USB port {device.port}" if device.port else "present")
    yield fact(_EVENTS, listed(d.links[0].partition("/")[2] for d in found))

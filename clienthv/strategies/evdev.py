"""Keyboards and pointers of the host that guest and host take turns with (libvirt, formatdomain, "evdev").

QEMU takes the events of a device away from the host and gives them to the guest's own keyboard and pointer, whatever
those are; both Ctrl keys together change sides (QEMU, ui/input-linux.c). The host's only keyboard may go, as it comes
back the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from clienthv.model.host import Host
from clienthv.model.input import EventDevice
from clienthv.model.plan import Decision, Kind, Reason, Rejected, Strategy, Warned
from clienthv.model.usb import UsbName
from clienthv.strategies import usb_device
from clienthv.strategies.frame import Objections, Option, Question

_READ_IT = "run clienthv inspect --save on that PC"


def option(question: Question) -> Option:
    """Every event device that the profile names, together: a keyboard without its mouse is no help."""
    names = question.profile.device(Kind.INPUT).evdev
    found = [device for name in names if (device := _find(name, question.host)) is not None]
    links = tuple(dict.fromkeys(device.links[0] for device in found))
    kinds = {device.kind for device in found}
    what = " and ".join(kind for kind in ("keyboard", "pointer") if kind in kinds) or "no device"
    return Option(
        strategy=Strategy.PASSTHROUGH,
        model="evdev",
        backing=f"the host's {what} ({', '.join(links) or 'none'})",
        why="both Ctrl keys together give them to the guest and back",
        evdev=links,
    )


def objections(option: Option, question: Question) -> Objections:
    """Each device must be named and there, and the connection must be allowed to open it."""
    host, names = question.host, question.profile.device(Kind.INPUT).evdev
    if not names:
        detail = "the profile names no keyboard or pointer of the host"
        yield _reject(None, Reason.NOT_SELECTED, detail, f"[devices.input] evdev = [{_example(host)}]")
        return
    if host.events is msgspec.UNSET:
        detail = "the host document does not say which event devices there are"
        yield _reject(None, Reason.EVENTS_UNKNOWN, detail, _READ_IT)
        return
    stack = host.stack
    if stack is not None and stack.privileged is False:
        detail = f"the connection {stack.uri} may not open event devices"
        yield _reject(None, Reason.NO_PRIVILEGE, detail, "use qemu:///system, as a member of the group libvirt")
    for name in names:
        device = _find(name, host)
        if device is None:
            there = ", ".join(d.links[0].partition("/")[2] for d in host.events[:6]) or "none"
            detail = f"there is no {name} below /dev/input/by-path or by-id (there are: {there})"
            yield _reject(name, Reason.NO_EVENT_DEVICE, detail, "plug it in; ls /dev/input/by-path")
        elif (along := _goes_along(device, question)) is not None:
            detail = f"{name} goes to the guest with {along}, and is no event device of the host while it does"
            yield _reject(name, Reason.NO_EVENT_DEVICE, detail, "name it in one of the two")


def warnings(decision: Decision) -> Iterator[Warned]:
    """What a user should know before keys and mouse go to the guest."""
    if not decision.evdev:
        return
    has_keyboard = any(link.endswith("-event-kbd") for link in decision.evdev)
    yield Warned(
        code="shared-keyboard",
        detail=f"{decision.name}: the guest has {', '.join(decision.evdev)} as soon as it starts; "
        + (
            "both Ctrl keys pressed together give them back to the host, and to the guest again"
            if has_keyboard
            else "no keyboard is named that could give them back: they return when the VM stops"
        ),
    )


def _find(name: str, host: Host) -> EventDevice | None:
    return next((device for device in host.events or () if device.is_called(name)), None)


def _goes_along(device: EventDevice, question: Question) -> str | None:
    """The USB device, or the controller it is on, that is wanted by the guest as such."""
    usb = question.host.usb_by_port.get(device.port or "")
    if usb is None:
        return None
    wanted = [name for name in usb_device.named(question) if isinstance(name, UsbName) and name.fits(usb)]
    return str(wanted[0]) if wanted else usb.controller if usb.controller in question.moving else None


def _example(host: Host) -> str:
    names = [device.links[0].partition("/")[2] for device in host.events or ()]
    return ", ".join(f'"{name}"' for name in names[:2]) or '"…-event-kbd"'


def _reject(device: str | None, reason: Reason, detail: str, fix: str) -> Rejected:
    return Rejected(strategy=Strategy.PASSTHROUGH, device=device, reason=reason, detail=detail, fix=fix)

"""Which single USB devices of the host the guest gets: as the profile names them, each on its own.

QEMU takes them through libusb (QEMU documentation, "USB emulation", "Connecting USB devices"): no IOMMU is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.model.host import Host
from clienthv.model.plan import Kind, Reason, Rejected, Strategy
from clienthv.model.roles import RoleName
from clienthv.model.usb import UsbDevice, UsbName, UsbWish
from clienthv.strategies import others, pci, usb_class
from clienthv.strategies.frame import Objections, Option, Question, reject

_PORTS: Final = {"qemu-xhci": 15, "ich9-ehci1": 6}
"""Ports of the guest's controllers (QEMU, hw/usb/hcd-xhci.h, XHCI_MAXPORTS_2; hw/usb/hcd-ehci.h, NB_PORTS)."""

_READ_IT: Final = "run clienthv inspect --save on that PC"


class _Need(NamedTuple):
    """What the host needs a device for, or may; ``lifted`` is whether naming the device's port gives it up."""

    objection: Rejected
    lifted: bool


def named(question: Question) -> tuple[UsbWish, ...]:
    """The devices that the profile wants, in its order; a class stands for each of its devices."""
    return usb_class.meant_by(question.profile.device(Kind.USB).devices, question.host)


def meant(name: UsbName, host: Host) -> UsbDevice | None:
    """The one device that a name fits; None where none or several do."""
    found = _matches(name, host)
    return found[0] if len(found) == 1 else None


def handed_over(name: UsbWish, question: Question) -> Option:
    """The option of handing a device over, alone or with the controller that moves anyway."""
    if not isinstance(name, UsbName):
        return Option(strategy=Strategy.PASSTHROUGH, device=str(name), model=name.name, backing="nothing", why="")
    device = meant(name, question.host)
    if device is None:
        return Option(strategy=Strategy.PASSTHROUGH, device=str(name), model=name.ids, backing="nothing", why="")
    along = device.controller if device.controller in question.moving else None
    return Option(
        strategy=Strategy.PASSTHROUGH,
        device=str(name),
        functions=(along,) if along else (),
        model=name.ids,
        backing=f"{device.label} on port {device.port}",
        why="goes with its controller, which is handed over whole" if along else "plugged into the guest as it is",
    )


def ports(question: Question) -> int:
    """How many ports the guest's virtual controller has for devices of the host; one is the pointer's."""
    return _PORTS.get(question.guest.emulated.usb or "", 2) - 1


def left_out(name: UsbWish) -> Option:
    """The option of starting without a device: always possible."""
    return Option(strategy=Strategy.OMIT, model="none", backing="nothing", why=f"the VM goes without {name}")


def objections(option: Option, name: UsbWish, question: Question) -> Objections:
    """A device must be there, be the only one meant, and not be what the host works with."""
    if not isinstance(name, UsbName):
        yield from usb_class.nothing(option, name, question.host)
        return
    found = _matches(name, question.host)
    if len(found) != 1:
        yield _not_one(option, name, found, question.host)
        return
    if option.functions:
        return  # its controller's own rules let it go
    device = found[0]
    if device.is_hub:
        yield reject(
            option,
            Reason.IS_HUB,
            f"{name} on port {device.port} is a hub: what is plugged into it would stay with the host",
            "name the devices that are plugged into it",
        )
    if (running := others.runs_with_usb(option, device, question.host)) is not None:
        yield running
    if not _is_named(name, question):
        yield from usb_class.against_filter(option, device)
    yield from _against_guest(option, name, question)
    if name.port is not None and (device.busnum is None or device.devnum is None):
        yield reject(
            option,
            Reason.USB_UNKNOWN,
            f"the host document has no bus and device number for {device.port}, by which libvirt tells alike devices",
            _READ_IT,
        )
    yield from (
        n.objection for n in _needs(option, device, name, question) if not (n.lifted and _is_exact(name, question))
    )


def given_up(option: Option, name: UsbName, question: Question) -> Iterator[str]:
    """What the host gives up, or may give up, for a device whose port is named."""
    device = meant(name, question.host)
    if device is not None and not option.functions and _is_exact(name, question):
        yield from (n.objection.detail for n in _needs(option, device, name, question) if n.lifted)


def _is_named(name: UsbName, question: Question) -> bool:
    """Whether the profile has this very name, and not only a class that the device is of."""
    return str(name) in question.profile.device(Kind.USB).devices


def _is_exact(name: UsbName, question: Question) -> bool:
    """Whether the profile names the device with its port, by which it gives up what the host uses it for."""
    return name.port is not None and _is_named(name, question)


def _matches(name: UsbName, host: Host) -> tuple[UsbDevice, ...]:
    return tuple(device for device in host.usb or () if name.fits(device))


def _not_one(option: Option, name: UsbName, found: tuple[UsbDevice, ...], host: Host) -> Rejected:
    if host.usb is None:
        return reject(option, Reason.USB_UNKNOWN, "the host document does not say what is plugged in", _READ_IT)
    if found:
        ports = [f'"{name.ids}@{device.port}"' for device in found]
        return reject(
            option,
            Reason.SEVERAL_MATCH,
            f"{name} fits {len(found)} devices, on the ports {', '.join(device.port for device in found)}",
            f"name the port of the one that is meant: devices = [{' or '.join(ports)}]",
        )
    elsewhere = [device.port for device in host.usb if device.ids == name.ids]
    where = f"; {name.ids} is on {', '.join(elsewhere)}" if elsewhere else ""
    what = f"{name.ids} is not plugged into port {name.port}{where}" if name.port else f"{name} is not plugged in"
    return reject(option, Reason.NOT_PLUGGED_IN, what, "plug it in; clienthv inspect lists what is, with the ports")


def _against_guest(option: Option, name: UsbName, question: Question) -> Objections:
    """The guest must have a virtual controller to plug it into, and QEMU the right to open it."""
    if question.usb is not Strategy.EMULATED:
        yield reject(
            option,
            Reason.NO_USB_CONTROLLER,
            f"the guest has no virtual USB controller that {name} could be plugged into: its usb is {question.usb}",
            'put "emulated" on top of the ladder: [devices.usb] prefer = ["emulated"]',
        )
    elif question.guest.emulated.usb == "piix3-uhci":
        yield reject(
            option,
            Reason.NO_USB_CONTROLLER,
            f"{question.guest.id} gets a USB 1.1 controller with two ports, into which QEMU plugs no faster device",
        )
    elif name in named(question)[ports(question) :]:
        detail = f"the guest's controller has {ports(question)} ports for single devices"
        yield reject(option, Reason.NO_USB_CONTROLLER, detail)
    stack = question.host.stack
    if stack is not None and stack.privileged is False:
        yield reject(
            option,
            Reason.NO_PRIVILEGE,
            f"the connection {stack.uri} may not take devices from the host",
            "use qemu:///system, as a member of the group libvirt",
        )


def _needs(option: Option, device: UsbDevice, name: UsbName, question: Question) -> Iterator[_Need]:
    """What the host itself uses a device for, and what nobody looked for.

    Naming the port names the exact device, which gives up all but a mounted disk: a file system whose disk is pulled
    loses data.
    """
    mean_it = f'if you mean it, name its port: devices = ["{name.ids}@{device.port}"]'
    for role in device.roles:
        if role.role is RoleName.INPUT:
            continue  # a mouse may go, and a keyboard when there is another
        reason, what = pci.ROLE_REASONS[role.role]
        evidence = f" ({'; '.join(role.evidence)})" if role.evidence else ""
        lifted = role.role is not RoleName.MOUNTED_DISK
        fix = mean_it if lifted else "unmount it first (umount, swapoff)"
        yield _Need(reject(option, reason, f"{device.ids} on port {device.port} {what}{evidence}", fix), lifted)
    if question.host.read(RoleName.INPUT) and device.may_be_keyboard and not _keeps_a_keyboard(question):
        shown = "is" if device.keyboard else "could be, by its interface 030101,"
        detail = f"{device.ids} on port {device.port} {shown} the last keyboard of the host"
        yield _Need(reject(option, Reason.ONLY_KEYBOARD, detail, f"plug in another keyboard; {mean_it}"), lifted=True)
    held = {role.role for role in device.roles}
    for unread, (reason, what) in pci.UNREAD.items():
        if unread not in held and device.could_have(unread) and not question.host.read(unread):
            lifted = unread is not RoleName.MOUNTED_DISK
            detail = f"the host document does not say {what} ({device.ids} on port {device.port})"
            yield _Need(reject(option, reason, detail, f"{_READ_IT}{f', or {mean_it}' if lifted else ''}"), lifted)


def _keeps_a_keyboard(question: Question) -> bool:
    """Whether a keyboard stays with the host when all that the profile names goes.

    Every named device is counted as gone, whether it goes or not: two keyboards are not each other's spare.
    """
    wanted = [name for name in named(question) if isinstance(name, UsbName)]
    return bool(question.host.other_keyboards) or any(
        device.keyboard and device.controller not in question.moving and not any(name.fits(device) for name in wanted)
        for device in question.host.usb or ()
    )

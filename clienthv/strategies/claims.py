"""What a choice takes of the host, so that other VMs cannot have it too: the keys of claims.

A function goes to one VM, and so does its IOMMU group (kernel, Documentation/driver-api/vfio.rst, "Groups, Devices,
and IOMMUs"). Virtual functions of one card go to several VMs, but not beside the card itself. A TPM is opened once
(QEMU, docs/specs/tpm.rst), a USB device detached once, and whoever has its controller has it. Of the host's screens
and keyboards one has to stay, whoever takes the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import lcm
from typing import NamedTuple

from clienthv.model.host import Host, RoleName
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Strategy
from clienthv.model.usb import UsbName
from clienthv.strategies import screens, usb_device
from clienthv.strategies.frame import Option, Question


class Claim(NamedTuple):
    """How a thing is taken: alone, or beside others.

    Beside others ``amount`` of it is taken; all VMs together may take ``capacity``, or any number where that is None.
    """

    alone: bool
    amount: int = 1
    capacity: int | None = None


ALONE = Claim(alone=True)
SHARED = Claim(alone=False)


def claims(choice: Option | Decision, kind: Kind, question: Question) -> Mapping[str, Claim]:
    """What an option or decision claims, by key."""
    if choice.strategy is Strategy.MDEV and choice.device is not None:
        return dict(_of_mdev(choice, choice.device, question))
    if choice.strategy not in HOST_DEVICES:
        return dict.fromkeys(_stands_on(choice, question.host), SHARED)
    if kind is Kind.TPM:
        return {"the TPM": ALONE}
    if kind is Kind.INPUT:
        return dict(_of_input(choice, question.host))
    if kind is Kind.USB_DEVICE:
        return dict(_of_usb_device(choice, question))
    return dict(_of_functions(choice, question)) | dict(_of_the_host(choice, kind, question))


def _of_functions(choice: Option | Decision, question: Question) -> Iterator[tuple[str, Claim]]:
    host, of = question.host, choice.virtual_function
    for address in choice.functions:
        yield address, ALONE
        function = host.by_address.get(address)
        if function is not None and function.iommu_group is not None:
            yield f"IOMMU group {function.iommu_group}", ALONE
        if of is None:
            yield f"virtual functions of {address}", ALONE
    if of is not None:
        yield f"virtual functions of {of.physfn}", SHARED
    moving = set(choice.functions)
    for device in host.usb or ():
        if device.controller in moving:
            yield _port(device.port), ALONE


def _stands_on(choice: Option | Decision, host: Host) -> Iterator[str]:
    """The functions that something virtual stands on: others may use them too, but not take them away."""
    plug = choice.network
    bridges = (host.network.bridges if host.network else None) or ()
    ports = {p for bridge in bridges if plug is not None and bridge.name == plug.source for p in bridge.ports or ()}
    cards = {plug.source or ""} if plug is not None and plug.type == "macvtap" else ports
    for function in host.pci if cards or choice.render_node else ():
        if cards.intersection(function.interfaces or ()) or (choice.render_node or "") == function.render_node:
            yield function.address


def _of_input(choice: Option | Decision, host: Host) -> Iterator[tuple[str, Claim]]:
    """Event devices, each by the first of its links; what they are plugged into cannot be taken away meanwhile."""
    for link in choice.evdev:
        device = next((d for d in host.events or () if link in d.links), None)
        yield f"input device {device.links[0] if device is not None else link}", ALONE
        if device is not None and device.port is not None:
            yield _port(device.port), SHARED


def _of_mdev(choice: Option | Decision, device: str, question: Question) -> Iterator[tuple[str, Claim]]:
    """A share of a card, whose types draw on one stock; the card itself cannot go to another VM meanwhile.

    Where so many of a type are left, one of them is that part of what is left.
    """
    left = {t.id: t.available for t in question.host.by_address[device].known.mdev_types or () if t.available}
    whole = lcm(*left.values())
    yield f"mediated devices of {device}", Claim(False, whole // (left.get(choice.model) or whole), whole)
    yield f"virtual functions of {device}", SHARED


def _port(port: str) -> str:
    return f"USB port {port}"


def _of_usb_device(choice: Option | Decision, question: Question) -> Iterator[tuple[str, Claim]]:
    """A single USB device by the port it is plugged into, however the profile names it."""
    name = UsbName.parse(choice.device or "")
    device = usb_device.meant(name, question.host)
    if choice.functions or device is None:
        return  # it goes with its controller, which claims it
    yield _port(device.port), ALONE
    if device.may_be_keyboard and not question.host.other_keyboards:
        yield "keyboards of the host", _some(1, _keyboards(question.host), lifted=name.port is not None)


def _of_the_host(choice: Option | Decision, kind: Kind, question: Question) -> Iterator[tuple[str, Claim]]:
    """Screens and keyboards, of which the host keeps one unless the profile gives the last one up."""
    if choice.strategy is not Strategy.PASSTHROUGH:
        return
    host, wanted = question.host, question.profile.device(kind)
    connected = screens.connected(host)
    if taken := connected.intersection(choice.functions):
        lifted = RoleName.CONNECTED_DISPLAY in wanted.allow and taken.issubset(wanted.select)
        yield "screens of the host", _some(len(taken), len(connected), lifted=lifted)
    moving = set(choice.functions)
    keyboards = sum(device.may_be_keyboard and device.controller in moving for device in host.usb or ())
    if keyboards and not host.other_keyboards:
        lifted = RoleName.INPUT in wanted.allow
        yield "keyboards of the host", _some(keyboards, _keyboards(host), lifted=lifted)


def _some(amount: int, total: int, *, lifted: bool) -> Claim:
    return Claim(alone=False, amount=amount, capacity=None if lifted else max(total - 1, 0))


def _keyboards(host: Host) -> int:
    return sum(bool(device.may_be_keyboard) for device in host.usb or ())

"""How the guest gets its USB controller."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from clienthv.model.host import Host
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci
from clienthv.strategies.frame import Objections, Option, Options, Question, omitted, reject

_USB_CLASS: Final = "0c03"
_SHOWN: Final = 6


def options(strategy: Strategy, question: Question) -> Options:
    """Every USB controller of its own (not a graphics card's), or a virtual one."""
    host = question.host
    match strategy:
        case Strategy.PASSTHROUGH:
            for function in host.by_class.get("0c", ()):
                if function.base_class == _USB_CLASS and not pci.belongs_to_gpu(host, function):
                    whole = pci.whole(function, question, Kind.USB, "")
                    yield replace(whole, why=f"whatever is plugged in belongs to the guest{_now(whole, host)}")
        case Strategy.EMULATED:
            yield Option(
                strategy=strategy,
                model=question.guest.emulated.usb or "qemu-xhci",
                backing="QEMU",
                why="a USB 3 controller that current systems have a driver for"
                if question.guest.emulated.usb == "qemu-xhci"
                else f"the USB controller that {question.guest.id} has a driver for",
            )
        case _:
            yield omitted("USB")


def _now(option: Option, host: Host) -> str:
    """What is plugged in now, hubs left out; nothing where that is not known."""
    there = [d for d in host.usb or () if d.controller in option.functions and not d.is_hub]
    if not there:
        return ", now nothing" if host.usb is not None and all(d.controller for d in host.usb) else ""
    shown = ", ".join(f"{d.label} ({d.port})" for d in there[:_SHOWN])
    return f", now {shown}" + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")


def objections(option: Option, question: Question) -> Objections:
    """The controller that carries the host's keyboard stays; a virtual one needs a driver in the guest."""
    if option.strategy is Strategy.PASSTHROUGH:
        yield from pci.named_passthrough(option, question, Kind.USB)
    elif option.strategy is Strategy.EMULATED and question.guest.emulated.usb is None:
        yield reject(option, Reason.NO_GUEST_DRIVER, f"{question.guest.id} has no driver for any USB controller")

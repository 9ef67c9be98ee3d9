"""How the guest gets its USB controller."""

from __future__ import annotations

from typing import Final

from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci
from clienthv.strategies.frame import Objections, Option, Options, Question, omitted, reject

_USB_CLASS: Final = "0c03"


def options(strategy: Strategy, question: Question) -> Options:
    """Every USB controller of its own (not a graphics card's), or a virtual one."""
    host = question.host
    match strategy:
        case Strategy.PASSTHROUGH:
            for function in host.by_class.get("0c", ()):
                if function.base_class == _USB_CLASS and not pci.belongs_to_gpu(host, function):
                    why = "whatever is plugged in belongs to the guest"
                    yield pci.whole(function, question, Kind.USB, why)
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


def objections(option: Option, question: Question) -> Objections:
    """The controller that carries the host's keyboard stays; a virtual one needs a driver in the guest."""
    if option.strategy is Strategy.PASSTHROUGH:
        yield from pci.named_passthrough(option, question, Kind.USB)
    elif option.strategy is Strategy.EMULATED and question.guest.emulated.usb is None:
        yield reject(option, Reason.NO_GUEST_DRIVER, f"{question.guest.id} has no driver for any USB controller")

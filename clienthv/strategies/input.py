"""How the guest gets its pointer and keyboard."""

from __future__ import annotations

from clienthv.model.plan import Strategy
from clienthv.strategies import evdev
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted


def options(strategy: Strategy, question: Question) -> Options:
    """One option each; without a virtual USB controller the pointer is PS/2, which every PC machine type has."""
    match strategy:
        case Strategy.PASSTHROUGH:
            yield evdev.option(question)
        case Strategy.PARAVIRTUAL:
            yield Option(strategy=strategy, model="virtio", backing="the display", why="virtio tablet and keyboard")
        case Strategy.EMULATED if question.usb is Strategy.EMULATED and question.guest.emulated.tablet:
            yield Option(
                strategy=strategy,
                model="usb-tablet",
                backing="the display",
                why="the pointer follows without being caught",
            )
        case Strategy.EMULATED:
            yield Option(strategy=strategy, model="ps2", backing="the display", why="the PS/2 mouse that every PC has")
        case _:
            yield omitted("a tablet")


def objections(option: Option, question: Question) -> Objections:
    """Only virtio needs anything of the guest, and only evdev of the host."""
    if option.strategy is Strategy.PASSTHROUGH:
        yield from evdev.objections(option, question)
    elif option.strategy is Strategy.PARAVIRTUAL:
        yield from needs_virtio(option, question, "input")

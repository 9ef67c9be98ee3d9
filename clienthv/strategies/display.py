"""How a person sees the guest's screen: SPICE (with its guest agent), VNC, or not at all."""

from __future__ import annotations

from clienthv.model.plan import Reason, Strategy
from clienthv.strategies.frame import Objections, Option, Options, Question, omitted, reject


def options(strategy: Strategy, question: Question) -> Options:
    """One option each."""
    match strategy:
        case Strategy.PARAVIRTUAL:
            yield Option(
                strategy=strategy,
                model="spice",
                backing="QEMU",
                why="sound, clipboard and screen size with the guest's agent",
            )
        case Strategy.EMULATED:
            yield Option(strategy=strategy, model="vnc", backing="QEMU", why="every viewer speaks it")
        case _:
            yield omitted("a screen")


def objections(option: Option, question: Question) -> Objections:
    """QEMU builds may lack SPICE (domain capabilities, ``graphics/enum[@name='type']``)."""
    capabilities = question.capabilities
    if option.strategy is Strategy.OMIT or capabilities is None:
        return
    if option.model not in capabilities.graphics:
        yield reject(
            option,
            Reason.NOT_IN_QEMU,
            f"this QEMU offers the displays {', '.join(capabilities.graphics) or 'none'}, not {option.model}",
            "install qemu-system-modules-spice" if option.model == "spice" else None,
        )

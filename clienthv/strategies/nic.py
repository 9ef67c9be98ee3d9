"""How the guest gets its network card."""

from __future__ import annotations

from clienthv.model.plan import Kind, Strategy
from clienthv.strategies import networks, pci, sriov
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted

_NETWORK_CLASS = "02"
_WHY = {"e1000e": "an Intel 82574L that nearly every system has a driver for"}


def options(strategy: Strategy, question: Question) -> Options:
    """Every card or virtual function that could serve, or a virtual card with each network it can be plugged into."""
    match strategy:
        case Strategy.PASSTHROUGH:
            for function in question.host.by_class.get(_NETWORK_CLASS, ()):
                if function.physfn is None:
                    why = "the whole card: native speed, tied to this PC"
                    yield pci.whole(function, question, Kind.NIC, why)
        case Strategy.VF:
            yield from sriov.options(question, Kind.NIC)
        case Strategy.PARAVIRTUAL:
            card = Option(
                strategy=strategy,
                model="virtio",
                backing="QEMU's user-mode network",
                why="fast, the same on every PC, no change to the host",
            )
            # Without a driver it does not matter what the card is plugged into.
            yield from (card,) if any(needs_virtio(card, question, "net")) else networks.options(card, question)
        case Strategy.EMULATED:
            model = question.guest.emulated.nic
            card = Option(
                strategy=strategy,
                model=model,
                backing="QEMU's user-mode network",
                why=_WHY.get(model, f"a card that {question.guest.id} came with a driver for"),
            )
            yield from networks.options(card, question)
        case _:
            yield omitted("a network card")


def objections(option: Option, question: Question) -> Objections:
    """A card that carries the host's network stays with the host."""
    match option.strategy:
        case Strategy.VF:
            yield from sriov.objections(option, question, Kind.NIC)
        case Strategy.PASSTHROUGH:
            yield from pci.passthrough(option, question, Kind.NIC)
        case Strategy.PARAVIRTUAL:
            yield from needs_virtio(option, question, "net")
            yield from networks.objections(option, question)
        case Strategy.EMULATED:
            yield from networks.objections(option, question)
        case _:
            return

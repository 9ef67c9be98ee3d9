"""How the guest gets its network card."""

from __future__ import annotations

from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted, reject

_NETWORK_CLASS = "02"


def options(strategy: Strategy, question: Question) -> Options:
    """Every card or virtual function that could serve, or QEMU's own network."""
    match strategy:
        case Strategy.PASSTHROUGH:
            for card in question.host.by_class.get(_NETWORK_CLASS, ()):
                if card.physfn is None:
                    why = "the whole card: native speed, tied to this PC"
                    yield pci.whole(card, question, Kind.NIC, why)
        case Strategy.VF:
            yield from _virtual_functions(question)
        case Strategy.PARAVIRTUAL:
            yield Option(
                strategy=strategy,
                model="virtio",
                backing="QEMU's user-mode network",
                why="fast, the same on every PC, no change to the host",
            )
        case Strategy.EMULATED:
            yield Option(
                strategy=strategy,
                model="e1000e",
                backing="QEMU's user-mode network",
                why="an Intel 82574L that nearly every system has a driver for",
            )
        case _:
            yield omitted("a network card")


def _virtual_functions(question: Question) -> Options:
    """The free virtual functions, then the cards that could have some."""
    host = question.host
    for function in host.by_class.get(_NETWORK_CLASS, ()):
        if function.physfn is not None:
            why = f"a virtual function of {function.physfn}: native speed, and the card stays with the host"
            yield pci.option(Strategy.VF, function, (function.address,), why)
        elif function.sriov is not None and not function.sriov.virtfns:
            why = f"{function.label} can have {function.sriov.totalvfs} virtual functions"
            yield pci.option(Strategy.VF, function, (), why)


def objections(option: Option, question: Question) -> Objections:
    """A card that carries the host's network stays with the host."""
    match option.strategy:
        case Strategy.VF:
            yield from _against_vf(option, question)
        case Strategy.PASSTHROUGH:
            yield from pci.passthrough(option, question, Kind.NIC)
        case Strategy.PARAVIRTUAL:
            yield from needs_virtio(option, question)
        case _:
            return


def _against_vf(option: Option, question: Question) -> Objections:
    assert option.device is not None  # noqa: S101 - options() gives every VF option its device
    function = question.host.by_address[option.device]
    if function.physfn is None:
        total = function.sriov.totalvfs if function.sriov is not None else None
        yield reject(
            option,
            Reason.NO_VF_CREATED if total else Reason.NO_SRIOV,
            f"{option.device} has no virtual functions yet (sriov_numvfs 0 of {total or 0})",
            f"echo {min(total, 4)} | sudo tee /sys/bus/pci/devices/{option.device}/sriov_numvfs" if total else None,
        )
        return
    yield from pci.passthrough(option, question, Kind.NIC)

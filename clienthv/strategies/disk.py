"""How the guest gets its disk."""

from __future__ import annotations

from clienthv.model.plan import Kind, Strategy
from clienthv.strategies import pci, sriov
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted

_NVME_CLASS = "0108"
_VIRTIO = {"virtio-blk": "virtio", "virtio-scsi": "virtio-scsi"}


def options(strategy: Strategy, question: Question) -> Options:
    """Every NVMe controller, any other storage controller that the profile names, or a disk image."""
    match strategy:
        case Strategy.PASSTHROUGH:
            for function in question.host.by_class.get("01", ()):
                named = function.address in question.profile.device(Kind.DISK).select
                if function.physfn is None and (named or function.base_class == _NVME_CLASS):
                    why = f"{function.label}, the whole controller and all on it"
                    yield pci.whole(function, question, Kind.DISK, why)
        case Strategy.VF:
            yield from sriov.options(question, Kind.DISK)
        case Strategy.PARAVIRTUAL:
            yield Option(
                strategy=strategy,
                model=_VIRTIO[question.profile.device(Kind.DISK).bus or "virtio-blk"],
                backing="a disk image",
                why="fast, and the image runs on every PC",
            )
        case Strategy.EMULATED:
            yield Option(
                strategy=strategy,
                model=question.guest.emulated.disk,
                backing="a disk image",
                why="an AHCI disk that every system since 2006 has a driver for"
                if question.guest.emulated.disk == "sata"
                else "an IDE disk, which every system for PCs has a driver for",
            )
        case _:
            yield omitted("a disk")


def objections(option: Option, question: Question) -> Objections:
    """A controller that carries a mounted filesystem or swap stays with the host."""
    if option.strategy is Strategy.PASSTHROUGH:
        yield from pci.named_passthrough(option, question, Kind.DISK)
    elif option.strategy is Strategy.VF:
        yield from sriov.objections(option, question, Kind.DISK)
    elif option.strategy is Strategy.PARAVIRTUAL:
        yield from needs_virtio(option, question, "scsi" if option.model == "virtio-scsi" else "block")

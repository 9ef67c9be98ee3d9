"""How the guest gets its sound."""

from __future__ import annotations

from typing import Final

from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted, reject

_HDA_CLASS: Final = "0403"
_VIRTIO_SOUND_LIBVIRT: Final = (10, 4)  # libvirt 10.4.0 release notes: sound model 'virtio'


def options(strategy: Strategy, question: Question) -> Options:
    """Every sound controller of its own (not a graphics card's), other multimedia that is named, or a virtual one."""
    host = question.host
    match strategy:
        case Strategy.PASSTHROUGH:
            for function in host.by_class.get("04", ()):
                named = function.address in question.profile.device(Kind.AUDIO).select
                if (named or function.base_class == _HDA_CLASS) and not pci.belongs_to_gpu(host, function):
                    yield pci.whole(function, question, Kind.AUDIO, "the host's own sockets")
        case Strategy.PARAVIRTUAL:
            yield Option(
                strategy=strategy,
                model="virtio",
                backing="the display's sound",
                why="low overhead, needs Linux 5.13 or newer in the guest",
            )
        case Strategy.EMULATED:
            yield Option(
                strategy=strategy,
                model=question.guest.emulated.audio,
                backing="the display's sound",
                why="sound that every current system has a driver for"
                if question.guest.emulated.audio == "ich9"
                else f"sound that {question.guest.id} came with a driver for",
            )
        case _:
            yield omitted("sound")


def objections(option: Option, question: Question) -> Objections:
    """virtio-sound needs a libvirt that knows it; a real controller the same as every PCI device."""
    if option.strategy is Strategy.PASSTHROUGH:
        yield from pci.named_passthrough(option, question, Kind.AUDIO)
    elif option.strategy is Strategy.PARAVIRTUAL:
        yield from needs_virtio(option, question, "sound")
        stack = question.host.stack
        if stack is not None and stack.libvirt_version is not None:
            have = tuple(int(part) for part in stack.libvirt_version.split(".")[:2] if part.isdecimal())
            if have < _VIRTIO_SOUND_LIBVIRT:
                yield reject(
                    option,
                    Reason.NOT_IN_QEMU,
                    f"libvirt {stack.libvirt_version} does not know virtio-sound (10.4.0 does)",
                    "update libvirt",
                )

"""How the guest gets its sound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv.model import values
from clienthv.model.host import Stack
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci
from clienthv.strategies.frame import Objections, Option, Options, Question, needs_virtio, omitted, reject

_HDA_CLASS: Final = "0403"
_VIRTIO_SOUND: Final = (
    ("libvirt", "libvirt_version", (10, 4)),  # libvirt 10.4.0 release notes: sound model 'virtio'
    ("QEMU", "qemu_version", (8, 2)),  # QEMU 8.2 changelog: virtio-sound
)


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
        for program, version, knows in without_virtio_sound(question.host.stack):
            detail = f"{program} {version} does not know virtio-sound ({knows} does)"
            yield reject(option, Reason.NOT_IN_QEMU, detail, f"update {program}")


def without_virtio_sound(stack: Stack | None) -> Iterator[tuple[str, str, str]]:
    """What is too old for it: libvirt or QEMU, its version, and the first that knows it."""
    for program, field, since in _VIRTIO_SOUND:
        version = getattr(stack, field, None)
        if version is not None and values.version(version)[:2] < since:
            yield program, version, ".".join(map(str, since))

"""Which programs have a graphics or sound device open: their names alone, neither numbers nor command lines.

A driver that is unbound while its device is open waits for the program, perhaps for ever, or takes it down.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_on_usb, owner
from clienthv.inspect.udev import devices, is_told
from clienthv.model.host import PciFunction

_DISPLAY: Final = "03"
_SOUND: Final = ("0401", "0403")
_NVIDIA: Final = "/proc/driver/nvidia/gpus"
# Streams alone: every session has the mixer (controlCN) open and lets go of it when the card goes (kernel,
# sound/core/init.c, snd_card_disconnect).
_NODES: Final = {"drm": ("/dev/dri", r"(?:card|renderD)[0-9]+"), "sound": ("/dev/snd", r"(?:pcm|midi|compr)C[0-9]+D.*")}


def with_holders(tree: Tree, functions: tuple[PciFunction, ...]) -> tuple[PciFunction, ...]:
    """The functions with who has them open; None for other kinds, and where nobody can tell.

    Who finds nobody and could not look at every process knows nothing.
    """
    kept_by = _nodes(tree, functions)
    wanted = [f for f in functions if f.base_class.startswith(_DISPLAY) or f.base_class in _SOUND]
    told = {"drm": is_told(tree, "drm"), "sound": is_told(tree, "sound")}
    if not kept_by:
        names, complete = dict[str, set[str]](), True
    else:
        names, complete = _open(tree, kept_by)
    found = {
        f.address: tuple(sorted(names.get(f.address, ())))
        for f in wanted
        if names.get(f.address) or (complete and told["drm" if f.base_class.startswith(_DISPLAY) else "sound"])
    }
    return tuple(_held(f, found[f.address]) if f.address in found else f for f in functions)


def _held(function: PciFunction, holders: tuple[str, ...]) -> PciFunction:
    return replace(function, particulars=replace(function.known, holders=holders))


def _nodes(tree: Tree, functions: Iterable[PciFunction]) -> Mapping[str, frozenset[str]]:
    """The functions behind each device file."""
    found: dict[str, set[str]] = defaultdict(set)
    for subsystem, (folder, pattern) in _NODES.items():
        for device in devices(tree, subsystem):
            address = None if is_on_usb(device.path) else owner(device.path)
            if address is not None and re.fullmatch(pattern, device.name):
                found[f"{folder}/{device.name}"].add(address)
    cards = [f.address for f in functions if f.driver == "nvidia" and f.base_class.startswith(_DISPLAY)]
    for address in cards:
        minor = re.search(
            r"^Device Minor:\s*([0-9]{1,3})\s*$", tree.text(f"{_NVIDIA}/{address}/information") or "", re.M
        )
        if minor is not None:
            found[f"/dev/nvidia{minor[1]}"].add(address)
        else:
            for number in range(len(cards)):  # which is which is not told: each may be any
                found[f"/dev/nvidia{number}"].add(address)
    return {node: frozenset(addresses) for node, addresses in found.items()}


def read_programs(tree: Tree, node: str) -> tuple[str, ...]:
    """The programs that have a device file open, as far as they can be seen."""
    return tuple(sorted(_open(tree, {node: frozenset({node})})[0].get(node, ())))


def _open(tree: Tree, kept_by: Mapping[str, frozenset[str]]) -> tuple[dict[str, set[str]], bool]:
    """The names of the programs that have each function open, and whether every process could be looked at.

    kthreadd is number 2 where all processes are to be seen, and in no container (kernel, init/main.c, rest_init).
    """
    quiet = Tree(tree.root)  # every user is refused other users' files: one fact, not a sentence for each
    found: dict[str, set[str]] = defaultdict(set)
    complete = quiet.attribute("/proc/2/comm") == "kthreadd"
    for number in quiet.names("/proc") or ():
        if not number.isdecimal():
            continue
        files = _files(quiet, number)
        if files is None:
            complete = False
            continue
        for address in {a for file in files for a in kept_by.get(file, ())}:
            found[address].add(_name(quiet.attribute(f"/proc/{number}/comm")))
    return dict(found), complete


def _files(tree: Tree, number: str) -> set[str] | None:
    """What a process has open; None where this user may not see it. One that has just ended has nothing."""
    here = tree.path(f"/proc/{number}/fd")
    try:
        return {_target(f"{here}/{name}") for name in os.listdir(here)}  # noqa: PTH208 - as in Tree
    except (FileNotFoundError, ProcessLookupError):
        return set()
    except OSError:
        return None


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""


def _name(comm: str | None) -> str:
    """A program's name; the kernel keeps 15 bytes of it (Documentation/filesystems/proc.rst, comm)."""
    return comm[:64] if comm and comm.isprintable() else "?"

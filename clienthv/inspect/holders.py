"""Which programs have a graphics or sound device open or mapped: names alone, neither numbers nor command lines.

A driver that is unbound while its device is open waits for the program, perhaps for ever, or takes it down.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Final, NamedTuple

from msgspec.structs import replace

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_on_usb, owner
from clienthv.inspect.udev import devices, is_told
from clienthv.model.host import PciFunction

_DISPLAY: Final = "03"
_SOUND: Final = ("0401", "0403")
# A process has 65530 mappings at most, if vm.max_map_count is not raised (Documentation/admin-guide/sysctl/vm.rst).
_MAPS_LIMIT: Final = 16 * 1024 * 1024
_MAPPED: Final = re.compile(r" (/dev/.+)$", re.M)  # the last column (Documentation/filesystems/proc.rst, maps)
_NVIDIA: Final = "/proc/driver/nvidia/gpus"
# Streams alone: every session has the mixer (controlCN) open and lets go of it when the card goes (kernel,
# sound/core/init.c, snd_card_disconnect).
_NODES: Final = {"drm": ("/dev/dri", r"(?:card|renderD)[0-9]+"), "sound": ("/dev/snd", r"(?:pcm|midi|compr)C[0-9]+D.*")}


class Holder(NamedTuple):
    """A program that holds a device: its process number, its name, and which file of the device it has."""

    pid: int
    name: str
    what: str


def with_holders(tree: Tree, functions: tuple[PciFunction, ...]) -> tuple[PciFunction, ...]:
    """The functions with who has them open; None for other kinds, and where nobody can tell.

    Who finds nobody and could not look at every process knows nothing.
    """
    kept_by = _nodes(tree, functions)
    wanted = [f for f in functions if f.base_class.startswith(_DISPLAY) or f.base_class in _SOUND]
    told = {"drm": is_told(tree, "drm"), "sound": is_told(tree, "sound")}
    held, complete = _holders(tree, kept_by.keys())
    names: dict[str, set[str]] = defaultdict(set)
    for holder in held:
        for address in kept_by[holder.what]:
            names[address].add(holder.name)
    found = {
        f.address: tuple(sorted(names[f.address]))
        for f in wanted
        if names[f.address] or (complete and told["drm" if f.base_class.startswith(_DISPLAY) else "sound"])
    }
    return tuple(_held(f, found[f.address]) if f.address in found else f for f in functions)


def _held(function: PciFunction, holders: tuple[str, ...]) -> PciFunction:
    return replace(function, particulars=replace(function.known, holders=holders))


def _nodes(tree: Tree, functions: Iterable[PciFunction]) -> Mapping[str, frozenset[str]]:
    """The functions behind each device file."""
    found: dict[str, set[str]] = defaultdict(set)
    for subsystem, (where, pattern) in _NODES.items():
        for device in devices(tree, subsystem):
            address = None if is_on_usb(device.path) else owner(device.path)
            if address is not None and re.fullmatch(pattern, device.name):
                found[f"{where}/{device.name}"].add(address)
    cards = [f.address for f in functions if f.driver == "nvidia" and f.base_class.startswith(_DISPLAY)]
    for node, address in _nvidia_nodes(tree, cards):
        found[node].add(address)
    return {node: frozenset(addresses) for node, addresses in found.items()}


def _nvidia_nodes(tree: Tree, cards: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The device files of NVIDIA's driver, which has none in sysfs, each with its card."""
    for address in cards:
        information = tree.text(f"{_NVIDIA}/{address}/information") or ""
        minor = re.search(r"^Device Minor:\s*([0-9]{1,3})\s*$", information, re.M)
        # Where it is not told which is which, each may be any.
        for number in (minor[1],) if minor is not None else range(len(cards)):
            yield f"/dev/nvidia{number}", address


def vfio_group(tree: Tree, here: str) -> str | None:
    """The file of a device's VFIO group (Documentation/driver-api/vfio.rst); None where it has no group."""
    group = tree.target(f"{here}/iommu_group")
    return f"/dev/vfio/{group}" if group is not None and re.fullmatch(r"[0-9]{1,9}", group) else None


def read_programs(tree: Tree, node: str) -> tuple[str, ...]:
    """The programs that have a device file open or mapped, as far as they can be seen."""
    return tuple(sorted({holder.name for holder in _holders(tree, {node})[0]}))


def _holders(tree: Tree, files: Set[str]) -> tuple[set[Holder], bool]:
    """Who has which of the files, and whether every process could be looked at.

    kthreadd is number 2 where all processes are to be seen, and in no container (kernel, init/main.c, rest_init).
    """
    if not files:
        return set(), True
    quiet = Tree(tree.root)  # every user is refused other users' files: one fact, not a sentence for each
    found: set[Holder] = set()
    complete = quiet.attribute("/proc/2/comm") == "kthreadd"
    for number in quiet.names("/proc") or ():
        if not number.isdecimal():
            continue
        held, whole = _files(quiet, number)
        complete = complete and whole
        if mine := held & files:
            name = _name(quiet.attribute(f"/proc/{number}/comm"))
            found.update(Holder(int(number), name, file) for file in mine)
    return found, complete


def _files(tree: Tree, number: str) -> tuple[set[str], bool]:
    """What a process has open or mapped, and whether this user may see all of it.

    What is mapped stays open when its descriptor is closed (man 2 mmap). One that has just ended has nothing.
    """
    here, maps = tree.path(f"/proc/{number}/fd"), f"/proc/{number}/maps"
    try:
        opened = {_target(f"{here}/{name}") for name in os.listdir(here)}  # noqa: PTH208 - as in Tree
    except (FileNotFoundError, ProcessLookupError):
        return set(), True
    except OSError:
        return set(), False
    mapped = _MAPPED.findall(tree.text(maps, _MAPS_LIMIT) or "")
    return opened.union(mapped), maps not in tree.refused


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""


def _name(comm: str | None) -> str:
    """A program's name; the kernel keeps 15 bytes of it (Documentation/filesystems/proc.rst, comm)."""
    return comm[:64] if comm and comm.isprintable() else "?"

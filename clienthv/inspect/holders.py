"""Which programs have a device open or mapped; of these the host document has the names alone, and of few devices.

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
from clienthv.inspect.places import addresses, is_on_usb, owner
from clienthv.inspect.storage import Disks
from clienthv.inspect.udev import devices, folder, is_told
from clienthv.model.host import PciFunction
from clienthv.model.mdev import is_uuid

_DISPLAY: Final = "03"
_SOUND: Final = ("0401", "0403")
# A process has 65530 mappings at most, if vm.max_map_count is not raised (Documentation/admin-guide/sysctl/vm.rst).
_MAPS_LIMIT: Final = 16 * 1024 * 1024
_MAPPED: Final = re.compile(r" (/dev/.+)$", re.M)  # the last column (Documentation/filesystems/proc.rst, maps)
_DEVNAME: Final = re.compile(r"^DEVNAME=([!-~]{1,200})$", re.M)
_NVIDIA: Final = "/proc/driver/nvidia/gpus"
_PACKET: Final = "/proc/net/packet"
# Streams alone: every session has the mixer (controlCN) open and lets go of it when the card goes (kernel,
# sound/core/init.c, snd_card_disconnect).
_NODES: Final = {"drm": ("/dev/dri", r"(?:card|renderD)[0-9]+"), "sound": ("/dev/snd", r"(?:pcm|midi|compr)C[0-9]+D.*")}


class Holder(NamedTuple):
    """A program that holds a device: its process number, its name, and which device file or interface it has."""

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


def read_holders(address: str, root: str = "/") -> tuple[Holder, ...]:
    """Who has anything of a PCI function open or mapped, as far as it can be seen: what its driver may wait for.

    Ask before the driver is unbound: one that is being removed takes its devices out of sysfs first and waits then
    (kernel, sound/core/init.c, snd_card_free).
    """
    tree = Tree(root)
    told = {node: node for node in (*_below(tree, address), *_vfio_groups(tree, address))}
    told |= {node: node for node, card in _nvidia_nodes(tree, tree.names(_NVIDIA) or ()) if card == address}
    told |= _packet_sockets(tree, address)
    held, _ = _holders(tree, told.keys())
    return tuple(sorted({holder._replace(what=told[holder.what]) for holder in held}))


def _below(tree: Tree, address: str) -> Iterator[str]:
    """The device files of all devices below a function, and of its NVMe multipath disks, which lie elsewhere.

    Mixers are among them: a sound card is freed when its last file is closed (kernel, sound/core/init.c,
    snd_card_file_remove). Every device with a file is in /sys/dev (Documentation/ABI/testing/sysfs-dev) and says its
    name in DEVNAME (drivers/base/core.c, dev_uevent).
    """
    disks = frozenset(Disks.read(tree).by_controller().get(address, ()))
    for kind in ("block", "char"):
        for number in tree.names(f"/sys/dev/{kind}") or ():
            path = tree.real(f"/sys/dev/{kind}/{number}") or ""
            if address in addresses(path) or not disks.isdisjoint(path.split("/")):
                name = _DEVNAME.search(tree.text(f"{path}/uevent") or "")
                if name is not None:
                    yield f"/dev/{name[1]}"


def _vfio_groups(tree: Tree, address: str) -> Iterator[str]:
    """The group files of a function that no driver of the host has, and of the mediated devices made of it.

    While vfio-pci is being removed, the link to it is gone already (kernel, drivers/base/dd.c, driver_sysfs_remove).
    """
    here = f"{folder('pci')}/{address}"
    driver = tree.target(f"{here}/driver")
    made = [f"{here}/{name}" for name in tree.names(here) or () if is_uuid(name)]
    for device in (here, *made) if driver is None or "vfio" in driver else made:
        node = vfio_group(tree, device)
        if node is not None:
            yield node


def vfio_group(tree: Tree, here: str) -> str | None:
    """The file of a device's VFIO group (Documentation/driver-api/vfio.rst); None where it has no group."""
    group = tree.target(f"{here}/iommu_group")
    return f"/dev/vfio/{group}" if group is not None and re.fullmatch(r"[0-9]{1,9}", group) else None


def _packet_sockets(tree: Tree, address: str) -> dict[str, str]:
    """The packet sockets bound to interfaces of a function, with the interface; not those that listen on all.

    Columns: kernel, net/packet/af_packet.c, packet_seq_show.
    """
    cards = [device for device in devices(tree, "net") if address in addresses(device.path)]
    names = {tree.attribute(f"{card.path}/ifindex"): card.name for card in cards}
    rows = [line.split() for line in tree.lines(_PACKET) or ()]
    return {f"socket:[{row[8]}]": names[row[4]] for row in rows if len(row) == 9 and row[4] in names}


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

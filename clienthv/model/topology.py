"""The PCI functions of a host as trees: what hangs on which root bus, bridge, controller and physical function."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from clienthv.model.host import Host, PciFunction
from clienthv.model.values import PciAddress

MAX_DEPTH: Final = 32
"""How many bridges may stand one behind another. Six Thunderbolt devices in a chain have some fifteen; a path that is
longer, or leads round in a circle, comes from a document that nobody measured."""

UNPLACED: Final = "the way to it is not known"


class Node(msgspec.Struct, frozen=True):
    """A place of the tree: a PCI function, or what only leads to some.

    ``function`` is None for a root bus, for a PCI domain behind a function (Intel VMD; kernel,
    drivers/pci/controller/vmd.c), and for a bridge that the host document does not list. ``address`` is the
    function's, or domain and bus as ``0000:00``; ``label`` is for a person.
    """

    function: PciFunction | None
    label: str
    address: str
    children: tuple[Node, ...] = ()


class _Bus(msgspec.Struct, frozen=True, order=True):
    """A root of the tree, or a domain that the function ``behind`` makes; ``placed`` where that is known."""

    domain: int
    bus: int
    placed: bool = True
    behind: str = ""

    @property
    def label(self) -> str:
        what = f"PCI domain {self.domain:04x}"
        if self.behind:
            return f"{what}, behind {self.behind}"
        return f"{what}, root bus {self.bus:02x}" if self.placed else f"{what}, bus {self.bus:02x}: {UNPLACED}"


_Place: TypeAlias = str | _Bus
_Above: TypeAlias = dict[str, _Place]


def topology(host: Host) -> tuple[Node, ...]:
    """Every PCI function of a host exactly once, below its root bus; roots and children in the order of addresses.

    A function hangs on the last bridge of its path, a virtual function on its physical one where the host has that.
    Bridges of a path that the document does not list are nodes without a function. What has no recorded path, or one
    that cannot be, hangs on a root of its own bus that says so. Depth is bounded whatever the document says.
    """
    above = _above(host)
    below: dict[_Place, set[_Place]] = {}
    for function in host.pci:
        way = _way(function.address, above)
        for child, parent in itertools.pairwise(way or (function.address, _bus_of(function.address, placed=False))):
            below.setdefault(parent, set()).add(child)
    roots = sorted(b for b in below if isinstance(b, _Bus) and not b.behind)
    return tuple(_node(root, below, host) for root in roots)


def _above(host: Host) -> _Above:
    """What each function hangs on, and each bridge that some path names and the document does not list."""
    above: _Above = {}
    for function in sorted(host.pci, key=lambda f: f.place):
        path = function.bridge_path
        if function.physfn is not None and function.physfn in host.by_address:
            above[function.address] = function.physfn
            continue
        if path is None:
            above[function.address] = _bus_of(function.address, placed=False)
            continue
        _hang(function.address, path[-1:], above)
        for place, bridge in enumerate(path):
            if bridge not in host.by_address and bridge not in above:
                _hang(bridge, path[max(place - 1, 0) : place], above)
    return above


def _hang(address: str, last: tuple[str, ...], above: _Above) -> None:
    """Hang one on the bridge before it, or on its root bus where there is none; a domain of its own comes between."""
    bus = _bus_of(address)
    if not last:
        above[address] = bus
    elif PciAddress.parse(last[0]).domain == bus.domain:
        above[address] = last[0]
    else:
        above[address] = msgspec.structs.replace(bus, behind=last[0])


def _bus_of(address: str, *, placed: bool = True) -> _Bus:
    place = PciAddress.parse(address)
    return _Bus(place.domain, place.bus, placed)


def _way(address: str, above: _Above) -> tuple[_Place, ...] | None:
    """What one hangs on, and that in turn, up to the root bus; None where this is too long or goes round."""
    way: list[_Place] = [address]
    while len(way) <= MAX_DEPTH:
        parent = above[address]
        way.append(parent)
        if isinstance(parent, _Bus):
            if not parent.behind:
                return tuple(way)
            way.append(parent.behind)
        address = parent.behind if isinstance(parent, _Bus) else parent
    return None


def _node(of: _Place, below: Mapping[_Place, set[_Place]], host: Host) -> Node:
    children = tuple(_node(child, below, host) for child in sorted(below.get(of, ()), key=_order))
    if isinstance(of, _Bus):
        return Node(None, of.label, f"{of.domain:04x}:{of.bus:02x}", children)
    function = host.by_address.get(of)
    return Node(function, function.label if function is not None else "a bridge that is not listed", of, children)


def _order(of: _Place) -> tuple[int, int, int, int]:
    if isinstance(of, _Bus):
        return of.domain, of.bus, 0, 0
    place = PciAddress.parse(of)
    return place.domain, place.bus, place.device, place.function

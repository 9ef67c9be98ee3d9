"""Which network cards carry default routes, addresses or bridges of the host itself."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.findings import Findings
from clienthv.inspect.udev import Device, devices, is_told
from clienthv.model.host import HELD_FOR_GUESTS, PciFunction, RoleName

NET: Final = "/sys/class/net"
ROUTES: Final = "/proc/net/route"
ROUTES6: Final = "/proc/net/ipv6_route"
ADDRESSES6: Final = "/proc/net/if_inet6"
RTF_UP: Final = 0x1  # include/uapi/linux/route.h
RTF_REJECT: Final = 0x200
SIOCGIFADDR: Final = 0x8915  # man 7 netdevice
_LINK_LOCAL: Final = "20"  # include/net/ipv6.h: scopes as in /proc/net/if_inet6
_HOST: Final = "10"
_NETWORK_CLASS: Final = "02"


def read_network(tree: Tree, functions: tuple[PciFunction, ...], findings: Findings) -> None:
    """Give the roles default-route and network, or say why they could not be looked for."""
    routes, routes6 = tree.lines(ROUTES), tree.lines(ROUTES6)
    if (routes is None and routes6 is None) or not is_told(tree, "net"):
        why = f"{ROUTES} or {NET} could not be read; the PC's own network cards are unknown"
        findings.unread(RoleName.DEFAULT_ROUTE, why)
        findings.unread(RoleName.NETWORK, why)
        return
    cards = {device.name: device for device in devices(tree, "net")}
    for name, source in default_routes(routes or (), routes6 or ()):
        _default_route(tree, cards, (name, source), findings)
    for name, source in _with_addresses(tree, cards, routes or ()):
        for chain in _chains(tree, cards, name):
            said = f"{source}: {' on '.join(chain)} has an address"
            findings.carries(RoleName.NETWORK, cards[chain[-1]].path, said)
    for card in cards.values():
        for upper in _uppers(tree, card):
            findings.carries(RoleName.NETWORK, card.path, f"{NET}/{card.name}: is part of {upper}")
    hidden = [f for f in functions if f.base_class.startswith(_NETWORK_CLASS) and f.driver and not f.interfaces]
    if elsewhere := [f for f in hidden if f.driver not in HELD_FOR_GUESTS]:
        names = ", ".join(f"{f.address} ({f.driver})" for f in elsewhere[:4])
        why = f"{names} has a driver but no interface here; it may serve another network namespace"
        findings.unread(RoleName.DEFAULT_ROUTE, why)
        findings.unread(RoleName.NETWORK, why)
        return
    findings.look(RoleName.DEFAULT_ROUTE)
    findings.look(RoleName.NETWORK)


def default_routes(routes: tuple[str, ...], routes6: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The interfaces of the default routes that are up and do not reject, with the file that says so.

    Documentation/networking/proc_net_tcp.rst has the tables' family; net/ipv4/fib_trie.c and net/ipv6/route.c write
    them. Only the main routing table shows.
    """
    for line in routes[1:]:
        f = line.split()
        if len(f) >= 8 and f[1] == f[7] == "00000000" and _is_usable(f[3]):
            yield f[0], ROUTES
    for line in routes6:
        f = line.split()
        if len(f) == 10 and f[0] == "0" * 32 and f[1] == "00" and f[9] != "lo" and _is_usable(f[8]):
            yield f[9], ROUTES6


def _is_usable(flags: str) -> bool:
    try:
        bits = int(flags, 16)
    except ValueError:
        return False
    return bool(bits & RTF_UP) and not bits & RTF_REJECT


def _default_route(tree: Tree, cards: dict[str, Device], route: tuple[str, str], findings: Findings) -> None:
    name, source = route
    chains = list(_chains(tree, cards, name))
    for chain in chains:
        said = f"{source}: default route through {' on '.join(chain)}"
        findings.carries(RoleName.DEFAULT_ROUTE, cards[chain[-1]].path, said)
    if not any("/virtual/" not in cards[chain[-1]].path for chain in chains):
        findings.unknown.append(f"the default route goes through {name}, and what card carries that is not in sysfs")


def _chains(tree: Tree, cards: dict[str, Device], name: str) -> Iterator[tuple[str, ...]]:
    """The ways from an interface down through bridges, bonds, VLANs and the like to the cards."""
    pending: list[tuple[str, ...]] = [(name,)] if name in cards else []
    while pending:
        chain = pending.pop()
        below = [n for n in _lowers(tree, cards, chain[-1]) if n not in chain]
        pending.extend((*chain, lower) for lower in reversed(below))
        if not below:
            yield chain


def _lowers(tree: Tree, cards: dict[str, Device], name: str) -> list[str]:
    """What an interface stands on (Documentation/ABI/testing/sysfs-class-net: lower_*, brif, bonding/slaves)."""
    here = cards[name].path
    entries = tree.names(here) or ()
    found = {entry.removeprefix("lower_") for entry in entries if entry.startswith("lower_")}
    if "brif" in entries:
        found.update(tree.names(f"{here}/brif") or ())
    if "bonding" in entries:
        found.update((tree.attribute(f"{here}/bonding/slaves") or "").split())
    return sorted(found & cards.keys())


def _uppers(tree: Tree, card: Device) -> list[str]:
    """What stands on an interface: its bridge or bond, VLANs, macvlans."""
    master = tree.target(f"{card.path}/master")
    uppers = [n.removeprefix("upper_") for n in tree.names(card.path) or () if n.startswith("upper_")]
    return sorted({*uppers, *([master] if master else [])})


def _with_addresses(tree: Tree, cards: dict[str, Device], routes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Interfaces with an IPv4 address, or an IPv6 address of more than link scope, which every live link has."""
    routed = _routed(routes)
    scoped = {
        f[5] for f in map(str.split, tree.lines(ADDRESSES6) or ()) if len(f) == 6 and f[3] not in (_LINK_LOCAL, _HOST)
    }
    for name in cards:
        if name in routed:
            yield name, ROUTES
        elif tree.live and _has_ipv4(name):
            yield name, "SIOCGIFADDR"
        if name in scoped:
            yield name, ADDRESSES6


def _routed(routes: tuple[str, ...]) -> set[str]:
    return {line.split()[0] for line in routes[1:] if line.split()}


def is_used_by_host(interface: str, root: str = "/") -> bool:
    """Whether an interface has an IPv4 address or route, which no link gets by itself: somebody gave it one.

    Addresses of IPv6 prove nothing: a router's advertisements make them (RFC 4862).
    """
    tree = Tree(root)
    return interface in _routed(tree.lines(ROUTES) or ()) or (tree.live and _has_ipv4(interface))


def _has_ipv4(name: str) -> bool:
    """Whether the kernel gives an IPv4 address: an address without any route shows in no table of /proc/net."""
    request = struct.pack("16s16x8x", name.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            fcntl.ioctl(asked, SIOCGIFADDR, request)
    except OSError:
        return False
    return True

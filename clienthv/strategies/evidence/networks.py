"""Where the facts stand of what a virtual network card can be plugged into."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.advice import Evidence
from clienthv.model.network import Card, Plug, VirtualNetwork
from clienthv.model.plan import Reason
from clienthv.strategies.evidence.facts import CAPABILITIES, About, Facts, fact, listed

_NET: Final = "/sys/class/net"
_NETWORKS: Final = "virsh net-list --all"
_BACKENDS: Final = f"{CAPABILITIES}, interface backend"


def plug_of(about: About) -> Plug | None:
    """What the objection is about; None where it is not about a network."""
    try:
        return Plug.parse(about.device or "")
    except msgspec.ValidationError:
        return None


def unknown(about: About) -> Facts:
    """Where it would stand which bridges, cards and networks there are, and whether passt can be used."""
    plug, network = plug_of(about), about.host.network
    match plug.type if plug is not None else None:
        case "bridge" if network:
            yield fact("/etc/qemu/bridge.conf", None)
        case "bridge" | "macvtap":
            yield fact(_NET, None)
        case "network":
            yield fact(_NETWORKS, None)
        case _:
            yield from passt(about)


def no_bridge(about: About) -> Facts:
    """Every bridge with its ports, and the cards that could be one."""
    network = about.host.network
    if not network:
        return
    yield fact(f"{_NET}/*/bridge", listed(b.name for b in network.bridges))
    for bridge in network.bridges:
        yield fact(f"{_NET}/{bridge.name}/brif", None if bridge.ports is None else listed(bridge.ports))
    yield from (_wireless(card) for card in network.cards if card.wireless is not False)


def no_card(about: About) -> Facts:
    """Every network card, and what speaks against it."""
    network = about.host.network
    if not network:
        return
    yield fact(f"{_NET}/*/device", listed(c.name for c in network.cards))
    for card in network.cards:
        yield _up(card.name, card.up)
        yield _wireless(card)
        yield fact(f"{_NET}/{card.name}/master", card.master)


def several(about: About) -> Facts:
    """The bridges or cards that an open name could mean."""
    plug = plug_of(about)
    yield from no_bridge(about) if plug is not None and plug.type == "bridge" else no_card(about)


def no_network(about: About) -> Facts:
    """The networks of libvirt with their modes."""
    found = _networks(about)
    said = listed(f"{n.name} ({n.forward or 'mode unknown'})" for n in found or ())
    yield fact(_NETWORKS, None if found is None else said)


def inactive(about: About) -> Facts:
    """Whether the network is active."""
    plug = plug_of(about)
    for network in _networks(about) or ():
        if plug is not None and network.name == plug.source:
            yield fact(f"virsh net-info {network.name}", None if network.active is None else "Active: no")


def link_down(about: About) -> Facts:
    """Whether the bridge or card is up (kernel, Documentation/ABI/testing/sysfs-class-net, flags; IFF_UP)."""
    plug, network = plug_of(about), about.host.network
    states = {one.name: one.up for one in network.bridges} if network else {}
    states |= {one.name: one.up for one in network.cards} if network else {}
    if plug is not None and plug.source in states:
        yield _up(plug.source, states[plug.source])


def of_card(about: About) -> Facts:
    """What speaks against one card: that it is wireless, or part of something."""
    plug, network = plug_of(about), about.host.network
    for card in network.cards if network else ():
        if plug is not None and card.name == plug.source:
            wireless = about.reason is Reason.WIRELESS
            yield _wireless(card) if wireless else fact(f"{_NET}/{card.name}/master", card.master)


def plugged(about: About, plug: Plug) -> Facts:
    """What a virtual card is plugged into, as it is now."""
    network = about.host.network
    for bridge in network.bridges if network else ():
        if plug.type == "bridge" and bridge.name == plug.source:
            yield _up(bridge.name, bridge.up)
            yield fact(f"{_NET}/{bridge.name}/brif", None if bridge.ports is None else listed(bridge.ports))
    for card in network.cards if network else ():
        if plug.type == "macvtap" and card.name == plug.source:
            yield _up(card.name, card.up)
            yield fact(f"{_NET}/{card.name}/master", card.master)
    for known in _networks(about) or ():
        if plug.type == "network" and known.name == plug.source:
            yield fact(f"virsh net-info {known.name}", "Active: yes" if known.active else None)
    if plug.type == "passt":
        yield from passt(about)


def passt(about: About) -> Facts:
    """What libvirt offers, the program, and the default route that it wants."""
    network, stack = about.host.network, about.host.stack
    backends = stack.capabilities.net_backends if stack is not None and stack.capabilities is not None else None
    told = None if backends is None or backends is msgspec.UNSET else listed(backends)
    yield fact("virsh version, libvirt", stack.libvirt_version if stack is not None else None)
    yield fact(_BACKENDS, told)
    there = network.passt if network else None
    yield fact("/usr/bin/passt", {True: "present", False: "", None: None}[there])
    routed = network.default_route if network else None
    yield fact("/proc/net/route", {True: "a default route", False: "no default route", None: None}[routed])


def _networks(about: About) -> tuple[VirtualNetwork, ...] | None:
    stack = about.host.stack
    return None if stack is None or stack.networks is msgspec.UNSET else stack.networks


def _up(name: str, up: bool | None) -> Evidence:
    return fact(f"{_NET}/{name}/flags", {True: "IFF_UP", False: "without IFF_UP", None: None}[up])


def _wireless(card: Card) -> Evidence:
    return fact(f"{_NET}/{card.name}/phy80211", {True: "present", False: "", None: None}[card.wireless])

"""What a virtual network card is plugged into: a bridge, a libvirt network, a card by macvtap, passt, user mode.

A ladder within the rung of the virtual card; QEMU's user-mode network, which works everywhere, ends it. Bridges and
macvtap put the guest on the host's own network, which is never done unasked (libvirt documentation, "Domain XML
format", "Network interfaces").
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from clienthv.model.network import Card, HostNetwork, Plug, VirtualNetwork
from clienthv.model.plan import Decision, Kind, Reason, Rejected, Strategy, Warned
from clienthv.strategies.frame import Objections, Option, Options, Question

_USER: Final = Plug(type="user")
_DEFAULT: Final = ("network", "passt", "user")
_MEANT: Final = "nat"
"""The mode of the networks that an open name can mean: others lead nowhere by themselves (libvirt, formatnetwork)."""
_READ_IT: Final = "run clienthv inspect --save on that PC, with libvirt running"
_WHY: Final = {
    "bridge": "the guest is on the bridge's network, like a machine of its own",
    "macvtap": "the guest is on the card's network, like a machine of its own, without a bridge",
    "network": "libvirt's own network: the guest reaches out, and host and guests reach each other",
    "passt": "the guest reaches out with the host's addresses; no change to the host",
}
_BACKING: Final = {
    "bridge": "the bridge",
    "macvtap": "macvtap on",
    "network": "libvirt's network",
    "passt": "passt",
}


def options(card: Option, question: Question) -> Options:
    """A virtual card with each thing that it can be plugged into, the most wanted first."""
    for rung in _ladder(question):
        plug = _resolved(rung, question)
        if plug.type == "user":
            yield card
        else:
            backing = f"{_BACKING[plug.type]} {plug.source or ''}".strip()
            yield replace(card, backing=backing, why=_WHY[plug.type], network=plug)


def objections(option: Option, question: Question) -> Objections:
    """What speaks against the network that a virtual card would be plugged into."""
    plug = option.network
    if plug is not None:
        for reason, detail, fix in _RULES[plug.type](plug, question):
            yield Rejected(strategy=option.strategy, device=str(plug), reason=reason, detail=detail, fix=fix)


def warnings(decision: Decision) -> Iterator[Warned]:
    """What a user should know of the network."""
    if decision.network is not None and decision.network.type == "macvtap":
        yield Warned(
            code="macvtap-without-host",
            detail=f"{decision.name}: guest and host do not reach each other over {decision.network.source}, only what "
            'is behind its switch (libvirt documentation, "Direct attachment to physical interface")',
        )


def _ladder(question: Question) -> tuple[str, ...]:
    """The profile's, or: libvirt's NAT network, else passt, else user mode. What a VM was plugged into comes first.

    Of what the host document does not tell nothing is said, unless the profile asks for it.
    """
    asked = question.profile.device(Kind.NIC).network
    rungs = asked or tuple(rung for rung in _DEFAULT if not _is_unknown(rung, question))
    had = question.kept.decisions.get(Kind.NIC)
    if had is None or had.strategy not in (Strategy.PARAVIRTUAL, Strategy.EMULATED) or not question.kept.plugged:
        return rungs
    before = str(had.network or _USER)
    return (before, *(rung for rung in rungs if rung != before))


def _is_unknown(rung: str, question: Question) -> bool:
    plug = _resolved(rung, question)
    return plug.type in _RULES and any(said[0] is Reason.NETWORKS_UNKNOWN for said in _RULES[plug.type](plug, question))


def _resolved(rung: str, question: Question) -> Plug:
    """The rung with a name, where one that leaves the name open means one thing on this host."""
    plug = Plug.parse(rung)
    if plug.source is not None:
        return plug
    match plug.type:
        case "bridge":
            return _only(plug, _lan_bridges(question))
        case "macvtap":
            return _only(plug, _free(_cards(question)))
        case "network":
            inside = [n for n in _networks(question) or () if n.forward == _MEANT]
            active = [n.name for n in inside if n.active]
            names = [n for n in active if n == "default"] or active or [n.name for n in inside]
            return replace(plug, source=names[0]) if names else plug
        case "passt" | "user":
            return plug


def _only(plug: Plug, names: list[str]) -> Plug:
    return replace(plug, source=names[0]) if len(names) == 1 else plug


def _networks(question: Question) -> tuple[VirtualNetwork, ...] | None:
    stack = question.host.stack
    return None if stack is None or stack.networks is msgspec.UNSET else stack.networks


def _cards(question: Question) -> tuple[Card, ...]:
    return question.host.network.cards if question.host.network else ()


def _free(cards: tuple[Card, ...]) -> list[str]:
    """The cards that can carry macvtap: wired, up, and part of nothing."""
    return [card.name for card in cards if card.up and not card.master and card.wireless is False]


def _lan_bridges(question: Question) -> list[str]:
    """Bridges with a card in them; those that libvirt or containers make for themselves have none."""
    network, cards = question.host.network, {card.name for card in _cards(question)}
    return [b.name for b in network.bridges if cards & set(b.ports or ())] if network else []


_Said = Iterator[tuple[Reason, str, str | None]]


def _bridge(plug: Plug, question: Question) -> _Said:
    network = question.host.network
    if not network:
        yield Reason.NETWORKS_UNKNOWN, "the host document does not say which bridges there are", _READ_IT
        return
    bridge = next((b for b in network.bridges if b.name == plug.source), None)
    if bridge is None:
        yield _no_bridge(plug, question, network)
        return
    if bridge.up is not True:
        state = "down" if bridge.up is False else "up or down, the host document does not say"
        yield Reason.LINK_DOWN, f"the bridge {bridge.name} is {state}", f"ip link set dev {bridge.name} up"
    stack = question.host.stack
    if stack is not None and stack.privileged is False:
        yield from _needs_helper(bridge.name, network, stack.uri)


def _no_bridge(plug: Plug, question: Question, network: HostNetwork) -> tuple[Reason, str, str | None]:
    there = _lan_bridges(question)
    if plug.source is None and len(there) > 1:
        named = " or ".join(f'"bridge:{name}"' for name in there)
        return Reason.SEVERAL_MATCH, f"there are {len(there)} bridges with a card: {', '.join(there)}", f"name {named}"
    names = ", ".join(b.name for b in network.bridges) or "none"
    wireless = [c.name for c in network.cards if c.wireless]
    cannot = (
        f"; {wireless[0]} is a wireless card, which cannot be part of one: an access point takes frames from its own "
        "address alone"
        if wireless and len(wireless) == len(network.cards)
        else ""
    )
    what = f"there is no bridge {plug.source}" if plug.source else "no bridge has a network card of this PC in it"
    fix = None if cannot else 'make a bridge of the wired card (nmcli, netplan, systemd-networkd), or use "macvtap"'
    return Reason.NO_BRIDGE, f"{what} (there are: {names}){cannot}", fix


def _needs_helper(bridge: str, network: HostNetwork, uri: str | None) -> _Said:
    """An ordinary user plugs into a bridge by qemu-bridge-helper alone (QEMU, qemu-bridge-helper.c)."""
    if network.helper_allows is None:
        yield Reason.NETWORKS_UNKNOWN, "which bridges qemu-bridge-helper gives to a user is unknown", _READ_IT
    elif not {bridge, "all"} & set(network.helper_allows):
        yield (
            Reason.NO_PRIVILEGE,
            f"{uri} may not plug into {bridge}: qemu-bridge-helper is not set-uid root or /etc/qemu/bridge.conf does "
            "not allow it",
            f'use qemu:///system; or write "allow {bridge}" into /etc/qemu/bridge.conf and chmod u+s the helper',
        )


def _macvtap(plug: Plug, question: Question) -> _Said:
    network = question.host.network
    if not network:
        yield Reason.NETWORKS_UNKNOWN, "the host document does not say which network cards there are", _READ_IT
        return
    stack = question.host.stack
    if stack is not None and stack.privileged is False:
        yield Reason.NO_PRIVILEGE, f"the connection {stack.uri} may not make macvtap devices", "use qemu:///system"
    card = next((c for c in network.cards if c.name == plug.source), None)
    if card is None:
        yield _no_card(plug, network)
        return
    if card.wireless is not False:
        yield (
            Reason.WIRELESS,
            f"{card.name} is a wireless card{'' if card.wireless else ', or may be'}: an access point takes frames "
            "from its own address alone (kernel, net/wireless/core.c, IFF_DONT_BRIDGE)",
            'use "network", "passt" or "user"',
        )
    if card.up is not True:
        state = "down" if card.up is False else "up or down, the host document does not say"
        yield Reason.LINK_DOWN, f"{card.name} is {state}", f"ip link set dev {card.name} up"
    if card.master != "":
        part = f"is part of {card.master}" if card.master else "may be part of a bridge"
        yield (
            Reason.NETWORK_IN_USE,
            f"{card.name} {part}: such a port carries no macvtap",
            f'use "bridge:{card.master}"' if card.master else _READ_IT,
        )


def _no_card(plug: Plug, network: HostNetwork) -> tuple[Reason, str, str | None]:
    names = [c.name for c in network.cards]
    usable = _free(network.cards)
    if plug.source is None and len(usable) > 1:
        named = " or ".join(f'"macvtap:{name}"' for name in usable)
        return Reason.SEVERAL_MATCH, f"{len(usable)} cards could carry it: {', '.join(usable)}", f"name {named}"
    what = f"{plug.source} is no network card of this PC" if plug.source else "no wired card is up and free"
    return Reason.NO_INTERFACE, f"{what} (there are: {', '.join(names) or 'none'})", "ip link lists them all"


def _network(plug: Plug, question: Question) -> _Said:
    networks, stack = _networks(question), question.host.stack
    if stack is not None and stack.privileged is False:
        yield (
            Reason.NO_PRIVILEGE,
            f"the connection {stack.uri} has no networks with a way out: they take root",
            "use qemu:///system, as a member of the group libvirt",
        )
        return
    if networks is None:
        yield Reason.NETWORKS_UNKNOWN, "the host document does not say which networks libvirt has", _READ_IT
        return
    network = next((n for n in networks if n.name == plug.source), None)
    if network is None:
        what = f"network {plug.source}" if plug.source else "network with NAT"
        names = ", ".join(n.name for n in networks) or "none"
        yield Reason.NO_NETWORK, f"libvirt has no {what} (there are: {names})", "virsh net-define; virsh net-list --all"
    elif network.active is not True:
        yield Reason.NETWORK_INACTIVE, f"libvirt's network {network.name} is not active", _start(network.name)


def _start(name: str) -> str:
    quoted = shlex.quote(name)
    return f"virsh net-start {quoted}; virsh net-autostart {quoted}"


def _passt(plug: Plug, question: Question) -> _Said:
    """What libvirt offers, and the program: libvirt lists passt whether that is there or not.

    Versions up to 2024 end with "No external routable interface" on a host without a default route (passt 2023-03-09).
    A libvirt that does not list it knows it from 9.0.0 on (libvirt documentation, "Domain XML format").
    """
    network, stack, capabilities = question.host.network, question.host.stack, question.capabilities
    offered = capabilities.net_backends if capabilities is not None else msgspec.UNSET
    version = (stack.libvirt_version or "") if stack is not None else ""
    major = version.partition(".")[0]
    if not network or network.passt is None or network.default_route is None or not major.isdecimal():
        yield Reason.NETWORKS_UNKNOWN, f"the host document does not say whether {plug} can be used", _READ_IT
    elif ("passt" not in offered) if offered is not msgspec.UNSET else int(major) < 9:
        yield Reason.NO_PASST, f"libvirt {version} does not offer passt here (9.0.0 and later can)", None
    elif not network.passt:
        yield Reason.NO_PASST, "the program passt is not installed", "install the package passt"
    elif not network.default_route:
        yield Reason.NO_PASST, "the host has no default route, without which passt may not start", "connect the host"


_RULES: Final = {"bridge": _bridge, "macvtap": _macvtap, "network": _network, "passt": _passt}

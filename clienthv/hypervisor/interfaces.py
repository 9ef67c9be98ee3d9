"""What a virtual network card can be plugged into on a PC, by its libvirt: bridges and cards."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from clienthv.errors import HostError
from clienthv.hypervisor import documents
from clienthv.hypervisor.binding import libvirt
from clienthv.hypervisor.connection import Connection
from clienthv.model.host import Stack
from clienthv.model.network import INTERFACE, Bridge, Card, HostNetwork

_MOST: Final = 1000
_INTERFACE: Final = re.compile(rf"{INTERFACE}\Z")


def host_network(
    connection: Connection, cards: tuple[Card, ...], stack: Stack, unknown: list[str]
) -> HostNetwork | msgspec.UnsetType:
    """Bridges and cards; unset where the bridges are unknown altogether."""
    bridges = _interface_bridges(connection)
    if bridges is None:
        bridges = _network_bridges(stack)
        unknown.append(
            "bridges that no network of libvirt uses: libvirt has no driver for interfaces there"
            if bridges
            else "bridges: libvirt has no driver for interfaces there"
        )
    if bridges is None:
        return msgspec.UNSET
    return HostNetwork(bridges=bridges, cards=cards)


def _interface_bridges(connection: Connection) -> tuple[Bridge, ...] | None:
    """The bridges by libvirt's interface driver, with their ports; None where there is none."""
    try:
        handles = connection.handle.listAllInterfaces(0)
        told = [(i.XMLDesc(0), bool(i.isActive())) for i in handles[:_MOST]]
    except libvirt().libvirtError:
        return None
    found = {bridge.name: bridge for xml, active in told if (bridge := parse_bridge(xml, active=active)) is not None}
    return tuple(found[name] for name in sorted(found))


def parse_bridge(xml: str, *, active: bool) -> Bridge | None:
    """A bridge among libvirt's interfaces (libvirt, "Interface XML format"); None for anything else.

    Active is one with a carrier (src/interface/interface_backend_udev.c, udevInterfaceIsActive): another may be up,
    too.
    """
    try:
        root = documents.parse(xml, "libvirt's interfaces")
    except HostError:
        return None
    name = root.get("name", "")
    if root.get("type") != "bridge" or not _is_interface(name):
        return None
    ports = (port.get("name", "") for port in root.iterfind("bridge/interface"))
    return Bridge(name=name, ports=tuple(sorted(filter(_is_interface, ports))), up=True if active else None)


def _network_bridges(stack: Stack) -> tuple[Bridge, ...] | None:
    """The bridges of libvirt's active networks, which are up; those of networks that only use one may not be."""
    networks = stack.networks if isinstance(stack.networks, tuple) else ()
    found = {
        n.bridge: Bridge(name=n.bridge, up=True if n.forward != "bridge" else None)
        for n in networks
        if n.active and n.bridge is not None and _is_interface(n.bridge)
    }
    return tuple(found[name] for name in sorted(found)) or None


def _is_interface(name: str) -> bool:
    return _INTERFACE.match(name) is not None

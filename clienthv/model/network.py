"""What a virtual network card can be plugged into, and what of it a host has; None means unknown."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

# Shorter than IFNAMSIZ (kernel, net/core/dev.c, dev_valid_name). Narrower than the kernel's rule: nothing that a
# command line or a path could take for something else.
INTERFACE: Final = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}"
NETWORK: Final = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}"  # libvirt takes nearly anything; nobody needs more
RUNG_PATTERN: Final = (
    rf"^(bridge|network|macvtap|passt|user|bridge:{INTERFACE}|macvtap:{INTERFACE}|network:{NETWORK})$(?!\n)"
)

InterfaceName = Annotated[str, Meta(pattern=rf"^{INTERFACE}$(?!\n)")]
NetworkName = Annotated[str, Meta(pattern=rf"^{NETWORK}$(?!\n)")]
PlugType = Literal["bridge", "network", "macvtap", "passt", "user"]


class Plug(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands behind a virtual network card: how, and which bridge, libvirt network or card of the host."""

    type: PlugType
    source: NetworkName | None = None

    @classmethod
    def parse(cls, rung: str) -> Plug:
        """Read a rung of a profile, ``bridge`` or ``bridge:br0``."""
        kind, _, source = rung.partition(":")
        return msgspec.convert({"type": kind, "source": source or None}, cls)

    def __str__(self) -> str:
        return self.type + (f":{self.source}" if self.source else "")


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge of the host, with the interfaces that are its ports (``/sys/class/net/NAME/brif``)."""

    name: InterfaceName
    ports: tuple[InterfaceName, ...] | None = None
    up: bool | None = None


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface with hardware behind it. ``master`` is the bridge or bond it is a part of, "" for none."""

    name: InterfaceName
    up: bool | None = None
    wireless: bool | None = None
    master: str | None = None


class HostNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """What the host has for virtual network cards.

    ``helper_allows`` are the bridges that qemu-bridge-helper gives to an ordinary user, "all" for any: none where it
    is not installed or may not make taps. ``passt`` is whether its program is there, ``default_route`` whether
    the host has one.
    """

    bridges: tuple[Bridge, ...] = ()
    cards: tuple[Card, ...] = ()
    helper_allows: tuple[str, ...] | None = None
    passt: bool | None = None
    default_route: bool | None = None


class VirtualNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network of libvirt. ``forward`` is its mode, "isolated" where the network leads nowhere."""

    name: str
    active: bool | None = None
    forward: str | None = None
    bridge: str | None = None

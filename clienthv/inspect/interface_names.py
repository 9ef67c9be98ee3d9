"""Names of network interfaces that tell of people: by the address of a card, or as somebody called them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from clienthv.model.host import Host

# Names that the kernel, systemd (systemd.net-naming-scheme), libvirt and Docker give by themselves, and ours.
_GIVEN: Final = re.compile(
    r"(?:lo|net[0-9]+|eth[0-9]+|wlan[0-9]+|usb[0-9]+|br[0-9]+|bond[0-9]+|docker[0-9]+|virbr[0-9]+|vnet[0-9]+|tap[0-9]+"
    r"|tun[0-9]+|(?:en|wl|ww|ib)[a-z0-9]+)\Z"
)
_BY_ADDRESS: Final = re.compile(r".*x[0-9a-f]{12}\Z")
_SHORTEST_WORD: Final = 3  # a shorter name is not looked for inside sentences


def plain_names(host: Host, document: Any) -> Any:
    """A document of this host, as plain lists and dictionaries, with numbers for the names that tell of people."""
    telling = sorted({n for n in _names(host) if not _GIVEN.match(n) or _BY_ADDRESS.match(n)})
    given = {name: f"net{number}" for number, name in enumerate(telling)}
    words = [name for name in sorted(given, key=len, reverse=True) if len(name) >= _SHORTEST_WORD]
    pattern = re.compile(rf"(?<![\w.@+-])(?:{'|'.join(map(re.escape, words))})(?![\w@+-])") if words else None

    def renamed(text: str) -> str:
        if text in given:
            return given[text]
        return text if pattern is None else pattern.sub(lambda match: given[match[0]], text)

    return each_text(document, renamed) if given else document


def _names(host: Host) -> Iterator[str]:
    for function in host.pci:
        yield from function.interfaces or ()
    for device in host.usb or ():
        yield from device.network_interfaces or ()
    if host.network:
        for card in host.network.cards or ():
            yield from (card.name, card.master or "lo")
        for bridge in host.network.bridges or ():
            yield from (bridge.name, *(bridge.ports or ()))
        yield from (name for name in host.network.helper_allows or () if name != "all")
    networks = host.stack.networks if host.stack is not None else ()
    yield from (network.bridge for network in networks or () if network.bridge)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Plain lists and dictionaries with every text in them changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: each_text(inner, change) for key, inner in value.items()}
    return [each_text(inner, change) for inner in value] if isinstance(value, list | tuple) else value

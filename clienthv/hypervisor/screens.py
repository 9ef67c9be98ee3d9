"""How a running domain shows its screen (libvirt, domain format, "Graphical framebuffers")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clienthv.hypervisor.domain import parse_domain
from clienthv.model.view import Screen

_NOT_SHOWN: Final = "egl-headless"  # draws for another of the domain's screens
_LOOKING_GLASS: Final = "looking-glass"


def screens_of(xml: str) -> tuple[Screen, ...]:
    """The screens of a running domain's XML, with the addresses that libvirt has given them."""
    graphics = parse_domain(xml).iterfind("devices/graphics")
    return tuple(_screen(element) for element in graphics if element.get("type") != _NOT_SHOWN)


def _screen(element: Any) -> Screen:
    kind = element.get("type", "")
    listens = element.findall("listen")
    sockets = [element.get("socket"), *(e.get("socket") for e in listens)]
    path = next((socket for socket in sockets if socket), None)
    if path is not None:
        return Screen(type=kind, path=path)
    port = element.get("port", "")
    if not port.isdecimal() or int(port) == 0:
        return Screen(type=kind)
    named = [element.get("listen"), *(e.get("address") for e in listens)]
    return Screen(type=kind, host=next((address for address in named if address), None), port=int(port))


def looking_glass_of(xml: str) -> Iterator[str]:
    """The files of the shared memory that Looking Glass looks into (QEMU's ivshmem, below /dev/shm)."""
    for element in parse_domain(xml).iterfind("devices/shmem"):
        name = element.get("name", "")
        if name.startswith(_LOOKING_GLASS):
            yield f"/dev/shm/{name}"  # noqa: S108 - named for a person, not opened

"""The storage pools of a PC, by its libvirt."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.errors import HostError
from clienthv.hypervisor import documents
from clienthv.hypervisor.binding import libvirt
from clienthv.hypervisor.connection import Connection

_MOST: Final = 1000
_LONGEST_PATH: Final = 4096  # include/uapi/linux/limits.h, PATH_MAX


class TargetStorage(msgspec.Struct, frozen=True, kw_only=True):
    """A storage pool: its kind in libvirt's words (dir, logical, ...), its folder or device, and what is free in it."""

    name: str
    active: bool
    type: str | None = None
    path: str | None = None
    available_bytes: int | None = None


def storage_pools(connection: Connection) -> tuple[TargetStorage, ...] | None:
    """The storage pools, by name; None where the connection has no driver for them, or it does not answer."""
    virt = libvirt()
    try:
        told = [
            (p.name(), p.XMLDesc(0), p.info(), bool(p.isActive()))
            for p in connection.handle.listAllStoragePools(0)[:_MOST]
        ]
    except virt.libvirtError:
        return None
    found = (parse_pool(name, xml, available=info[3], active=active) for name, xml, info, active in told)
    return tuple(sorted((pool for pool in found if pool is not None), key=lambda pool: pool.name))


def parse_pool(name: str, xml: str, *, available: int, active: bool) -> TargetStorage | None:
    """A pool's document (libvirt, "Storage pool XML format"); None for one that makes no sense.

    What is free in a pool that is not active is not known: libvirt says 0.
    """
    try:
        root = documents.parse(xml, "libvirt's storage pools")
    except HostError:
        return None
    path = (root.findtext("target/path") or "").strip()
    plain = documents.line(name)
    if plain is None or plain != name:
        return None
    return TargetStorage(
        name=name,
        active=active,
        type=documents.line(root.get("type")),
        path=path if path.startswith("/") and path.isprintable() and len(path) <= _LONGEST_PATH else None,
        available_bytes=available if active and available >= 0 else None,
    )

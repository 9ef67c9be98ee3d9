"""The PCs that something is to be moved to: documents, listings, this PC, and what libvirt tells of others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from clienthv import places
from clienthv.errors import ClienthvError, HostError
from clienthv.hypervisor import Choice, Connection, cpu_comparison, cpu_map, node
from clienthv.lifecycle import live
from clienthv.model.host import Host
from clienthv.portability import Subject, Target

LOCAL: Final = "local"
"""The word for the PC that clienthv runs on, with the libvirt that it would use."""


def is_uri(name: str) -> bool:
    """Whether a target is a libvirt connection (libvirt documentation, "Connection URIs")."""
    return "://" in name


def read(name: str, load: Callable[[str], Host], subject: Subject, connect: str | None, say: live.Say) -> Target:
    """One target. ``load`` reads a document or a listing. Raises HostError, DocumentError."""
    if name == LOCAL:
        with Connection(live.choose(connect), waiting=say) as connection:
            return _of_connection(name, connection, live.read_host(connection, but=subject.name), subject)
    if not is_uri(name):
        return Target(name=name, host=load(name), cpu_map=cpu_map.read())
    choice = Choice(name, "given with --to")
    if subject.kind == "vm" and choice.embedded_root is None and live.choose(connect).embedded_root is not None:
        msg = f"the embedded driver shares no process with another connection, so {name} cannot be asked beside it"
        hint = f"clienthv export {subject.name} -o FILE; clienthv migrate-check FILE --to {name}; clienthv import FILE"
        raise HostError(msg, hint=hint)
    if choice.other_pc is not None:
        with Connection(choice, waiting=say, elsewhere=True) as connection:
            return _elsewhere(name, connection, choice.other_pc, subject)
    with Connection(choice, waiting=say) as connection:
        return _of_connection(name, connection, live.read_host(connection, but=subject.name), subject)


def _of_connection(name: str, connection: Connection, host: Host, subject: Subject) -> Target:
    return Target(
        name=name,
        host=host,
        here=True,
        live=True,
        exists=_exists,
        free=_free(places.images()),
        cpu_refusal=_cpu_refusal(connection, subject),
        cpu_map=cpu_map.read(),
    )


def _cpu_refusal(connection: Connection, subject: Subject) -> tuple[str, ...] | None:
    """What libvirt itself says against the processor of a definition; None where there is nothing to compare."""
    domain = subject.domain
    if domain is None or domain.cpu is None or domain.cpu.mode != "custom":
        return None
    kind: Literal["kvm", "qemu"] = "kvm" if domain.type == "kvm" else "qemu"
    try:
        said = cpu_comparison.compare(connection, cpu_comparison.as_xml(domain.cpu), kind)
    except ClienthvError:
        return None
    return () if said.fits else said.missing or (said.said or "it",)


def _elsewhere(name: str, connection: Connection, pc: str, subject: Subject) -> Target:
    """Another PC by its libvirt's word; the room in its pools is where images go."""
    told = node.node_of(connection, pc)
    rooms = [pool.available_bytes for pool in told.pools or () if pool.available_bytes is not None]
    return Target(
        name=name,
        host=told.host,
        live=True,
        free=max(rooms, default=None),
        cpu_refusal=_cpu_refusal(connection, subject),
        cpu_map=cpu_map.read(),
    )


def _exists(path: str) -> bool | None:
    """Whether a path of this PC is there; None where this user may not look, or for what is no path of a PC."""
    if not path.startswith("/"):
        return None
    try:
        os.stat(path)  # noqa: PTH116 - its error tells
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _free(folder: Path) -> int | None:
    """The bytes that are free where images go, whether or not that folder is there yet."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return None

"""Mediated devices: what a function can be shared as, and which there are.

Source: kernel, Documentation/driver-api/vfio-mediated-device.rst.
"""

from __future__ import annotations

from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.holders import read_programs, vfio_group
from clienthv.inspect.places import owner
from clienthv.inspect.udev import folder
from clienthv.model.mdev import NO_MDEV, is_type_or_none, is_uuid
from clienthv.model.particulars import Mdev, MdevType

DEVICES: Final = "/sys/bus/mdev/devices"


def read_mdev_types(tree: Tree, here: str) -> tuple[MdevType, ...] | None:
    """The types that a function offers; none where it has no folder for them, None where that cannot be told."""
    names = tree.names(f"{here}/mdev_supported_types")
    if names is None:
        return () if tree.exists(f"{here}/mdev_supported_types") is False and tree.exists(f"{here}/vendor") else None
    return tuple(_type(tree, f"{here}/mdev_supported_types/{n}", n) for n in names if is_type_or_none(n))


def _type(tree: Tree, here: str, name: str) -> MdevType:
    return MdevType(
        id=name,
        name=_line(tree.text(f"{here}/name"), 200),
        description=_line(tree.text(f"{here}/description"), 500),
        available=tree.number(f"{here}/available_instances"),
        api=_line(tree.text(f"{here}/device_api"), 40),
        writable=tree.writable(f"{here}/create"),
    )


def _line(text: str | None, length: int) -> str | None:
    """A driver's text on one line; they separate with line breaks or commas as they like."""
    words = ", ".join(part.strip(" ,") for part in (text or "").splitlines() if part.strip())
    return words[:length] if words and words.isprintable() else None


def read_mdevs(tree: Tree) -> dict[str, tuple[Mdev, ...]]:
    """The mediated devices that there are, by the function that they are made on."""
    found: dict[str, tuple[Mdev, ...]] = {}
    for uuid in tree.names(DEVICES) or ():
        address = owner(tree.real(f"{DEVICES}/{uuid}") or "")
        kind = tree.target(f"{DEVICES}/{uuid}/mdev_type")
        if address is not None and is_uuid(uuid) and kind is not None and is_type_or_none(kind):
            found[address] = (*found.get(address, ()), Mdev(uuid=uuid, type=kind))
    return found


def mdev_type_now(address: str, uuid: str, root: str = "/") -> str | None:
    """The type of a mediated device, ``none`` where it is not there; None where the function can have none."""
    tree = Tree(root)
    for device in read_mdevs(tree).get(address, ()):
        if device.uuid == uuid:
            return device.type
    elsewhere = tree.exists(f"{DEVICES}/{uuid}")
    return NO_MDEV if not elsewhere and tree.exists(f"{folder('pci')}/{address}/mdev_supported_types") else None


def mdev_users(uuid: str, root: str = "/") -> tuple[str, ...]:
    """The programs that have a mediated device open, as far as they can be seen: through its VFIO group."""
    tree = Tree(root)
    node = vfio_group(tree, f"{DEVICES}/{uuid}")
    return read_programs(tree, node) if node is not None else ()

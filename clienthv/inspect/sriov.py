"""SR-IOV as sysfs tells it: a physical function's virtual functions, and the state of its link."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_address, owner
from clienthv.inspect.settings import writers_to
from clienthv.inspect.udev import devices, folder
from clienthv.model.host import SrIov

NET: Final = "/sys/class/net"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_IFF_UP: Final = 0x1  # include/uapi/linux/if.h
_NVME: Final = re.compile(r"nvme[0-9]{1,4}\Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Card(NamedTuple):
    """A physical function as it is now: its network interfaces, and the drivers bound to its virtual functions.

    ``nvme`` is the name of its NVMe controller, such as nvme0; None where it is none.
    """

    sriov: SrIov
    interfaces: tuple[str, ...]
    drivers: dict[str, str]
    nvme: str | None = None


def read_card(address: str, root: str = "/") -> Card | None:
    """The physical function at an address; None when it is not there or has no SR-IOV."""
    tree = Tree(root)
    here = f"{folder('pci')}/{address}"
    interfaces = tuple(d.name for d in devices(tree, "net") if owner(d.path) == address)
    sriov = read_sriov(tree, here, interfaces)
    if sriov is None:
        return None
    bound = {a: tree.target(f"{folder('pci')}/{a}/driver") for a in sriov.virtfns}
    nvme = next((n for n in sorted(tree.names(f"{here}/nvme") or ()) if _NVME.match(n)), None)
    return Card(sriov, interfaces, {a: driver for a, driver in bound.items() if driver}, nvme)


def read_sriov(tree: Tree, here: str, interfaces: tuple[str, ...] | None) -> SrIov | None:
    """What a function's folder says; only a physical function that can have virtual ones has sriov_totalvfs.

    The number of functions is read under a lock that a driver has which does not let go of the card, or which hangs
    while it makes them (drivers/pci/iov.c, sriov_numvfs_show and sriov_numvfs_store): then they are counted instead.
    Files: Documentation/ABI/testing/sysfs-bus-pci; offset, stride and vf_device from drivers/pci/iov.c (Linux 4.15).
    """
    if not tree.exists(f"{here}/sriov_totalvfs"):
        return None
    links = [name for name in tree.names(here) or () if re.fullmatch(r"virtfn[0-9]{1,5}", name)]
    links.sort(key=lambda name: int(name.removeprefix("virtfn")))
    functions = (tree.target(f"{here}/{name}") for name in links)
    vf_device = tree.hexadecimal(f"{here}/sriov_vf_device")
    hangs = tree.target(f"{here}/driver") is None or writers_to(here.rpartition("/")[2], tree.root)
    return SrIov(
        totalvfs=tree.number(f"{here}/sriov_totalvfs"),
        numvfs=len(links) if hangs else tree.number(f"{here}/sriov_numvfs"),
        virtfns=tuple(address for address in functions if address is not None and is_address(address)),
        offset=tree.number(f"{here}/sriov_offset"),
        stride=tree.number(f"{here}/sriov_stride"),
        vf_device_id=f"{vf_device:04x}" if vf_device is not None and vf_device <= 0xFFFF else None,
        drivers_autoprobe=tree.switch(f"{here}/sriov_drivers_autoprobe"),
        link_up=is_up(tree, interfaces[0]) if interfaces else None,
        writable=tree.writable(f"{here}/sriov_numvfs"),
    )


def is_up(tree: Tree, interface: str) -> bool | None:
    """Whether an interface is administratively up (Documentation/ABI/testing/sysfs-class-net, flags)."""
    flags = tree.hexadecimal(f"{NET}/{interface}/flags")
    return None if flags is None else bool(flags & _IFF_UP)


def link_is_up(interface: str, root: str = "/") -> bool | None:
    """Whether an interface is administratively up now; None when it is not there."""
    return is_up(Tree(root), interface)


def read_boot_id(root: str = "/") -> str:
    """The kernel's name for this boot (Documentation/admin-guide/sysctl/kernel.rst, random/boot_id); "" if hidden."""
    text = Tree(root).attribute(BOOT_ID) or ""
    return text if _UUID.match(text) else ""

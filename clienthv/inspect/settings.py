"""Single facts of the host that clienthv changes, as they are now."""

from __future__ import annotations

from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_address
from clienthv.inspect.udev import folder
from clienthv.model.change import NO_DRIVER, is_driver

HUGEPAGES: Final = "/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages"
"""The file with the number of huge pages of a size in KiB (Documentation/ABI/testing/sysfs-kernel-mm-hugepages)."""


def module_is_loaded(name: str, root: str = "/") -> bool:
    """Whether a kernel module is there, be it built in."""
    return Tree(root).exists(f"/sys/module/{name}") is True


def nr_hugepages(size_kib: str, root: str = "/") -> int | None:
    """How many huge pages of a size there are; None where the kernel has no pool of them."""
    return Tree(root).number(HUGEPAGES.format(size_kib))


def driver_of(address: str, root: str = "/") -> str | None:
    """The driver of a PCI function, ``none`` without one; None where there is no such function."""
    tree, here = Tree(root), f"{folder('pci')}/{address}"
    return (tree.target(f"{here}/driver") or NO_DRIVER) if tree.exists(here) else None


def driver_override_of(address: str, root: str = "/") -> str | None:
    """A PCI function's driver_override (Documentation/ABI/testing/sysfs-bus-pci), ``none`` where it is not set."""
    text = Tree(root).attribute(f"{folder('pci')}/{address}/driver_override")
    if text is None:
        return None
    return text if is_driver(text) else NO_DRIVER  # the kernel says (null)


def can_hand_over(address: str, root: str = "/") -> bool:
    """Whether this user may take a PCI function from its driver; libvirt's daemon may where this user may not."""
    return Tree(root).writable(f"{folder('pci')}/{address}/driver_override") is True


def read_machine_id(root: str = "/") -> str:
    """What systemd calls this machine (man 5 machine-id); "" where it has no name."""
    return Tree(root).attribute("/etc/machine-id") or ""


def physfn_of(address: str, root: str = "/") -> str | None:
    """The physical function of a virtual one (Documentation/ABI/testing/sysfs-bus-pci, physfn); None for others."""
    return Tree(root).target(f"{folder('pci')}/{address}/physfn")


def functions_with(driver: str, root: str = "/") -> tuple[str, ...]:
    """The PCI functions that a driver has."""
    return tuple(name for name in Tree(root).names(f"/sys/bus/pci/drivers/{driver}") or () if is_address(name))

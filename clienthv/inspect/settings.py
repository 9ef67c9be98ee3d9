"""Single facts of the host that clienthv changes, as they are now."""

from __future__ import annotations

from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_address
from clienthv.inspect.udev import folder
from clienthv.model.change import NO_DRIVER
from clienthv.process import WRITES_TO

_WRITERS: Final = frozenset({"dd", "ip", "modprobe", "nvme", "qemu-img", "prlimit"})
"""The programs that change something for clienthv, by their names as processes."""
HUGEPAGES: Final = "/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages"
"""The file with the number of huge pages of a size in KiB (Documentation/ABI/testing/sysfs-kernel-mm-hugepages)."""


def is_there(path: str, root: str = "/") -> bool:
    """Whether there is a file or folder, or may be: in a folder that may not be searched."""
    return Tree(root).exists(path) is not False


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


def can_hand_over(address: str, root: str = "/") -> bool:
    """Whether this user may take a PCI function from its driver; libvirt's daemon may where this user may not."""
    return Tree(root).writable(f"{folder('pci')}/{address}/driver_override") is True


def read_machine_id(root: str = "/") -> str:
    """What systemd calls this machine (man 5 machine-id); "" where it has no name."""
    return Tree(root).attribute("/etc/machine-id") or ""


def writers_to(what: str, root: str = "/") -> tuple[int, ...]:
    """The processes that still change for clienthv a function, an interface, a controller, a pool, a module, an image.

    The kernel keeps them waiting, or clienthv was killed a moment ago. Only of such programs is the environment read,
    as that of a process that hangs may not be had (man 5 proc_pid_environ; it lies in its memory).
    """
    tree, mark = Tree(root), f"{WRITES_TO}={what}"
    numbers = (name for name in tree.names("/proc") or () if name.isdecimal())
    ours = (n for n in numbers if tree.attribute(f"/proc/{n}/comm") in (None, *_WRITERS))
    return tuple(int(n) for n in ours if mark in (tree.text(f"/proc/{n}/environ") or "").split("\0"))


def stacked_on(interface: str, root: str = "/") -> tuple[str, ...]:
    """The interfaces that stand on another (Documentation/ABI/testing/sysfs-class-net, upper_*): macvtap, bridges."""
    names = Tree(root).names(f"/sys/class/net/{interface}") or ()
    return tuple(name.removeprefix("upper_") for name in names if name.startswith("upper_"))


def usb_place(port: str, root: str = "/") -> tuple[int, int] | None:
    """Bus and device number of what is plugged into a port now; None where nothing is."""
    tree, here = Tree(root), f"/sys/bus/usb/devices/{port}"
    bus, device = tree.number(f"{here}/busnum"), tree.number(f"{here}/devnum")
    return (bus, device) if bus is not None and device is not None else None


def virtfn_index(physfn: str, address: str, root: str = "/") -> int | None:
    """Which of a card's virtual functions one is, counted from 0 (Documentation/ABI/testing/sysfs-bus-pci, virtfnN)."""
    tree, here = Tree(root), f"{folder('pci')}/{physfn}"
    links = (name for name in tree.names(here) or () if name.startswith("virtfn"))
    found = [name.removeprefix("virtfn") for name in links if tree.target(f"{here}/{name}") == address]
    return int(found[0]) if found and found[0].isdecimal() else None


def physfn_of(address: str, root: str = "/") -> str | None:
    """The physical function of a virtual one (Documentation/ABI/testing/sysfs-bus-pci, physfn); None for others."""
    return Tree(root).target(f"{folder('pci')}/{address}/physfn")


def functions_with(driver: str, root: str = "/") -> tuple[str, ...]:
    """The PCI functions that a driver has."""
    return tuple(name for name in Tree(root).names(f"/sys/bus/pci/drivers/{driver}") or () if is_address(name))

"""What a PCI function takes of the address space, and who holds some of that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.places import is_address
from clienthv.model.particulars import LABEL_LENGTH

IOMEM: Final = "/proc/iomem"
_BARS: Final = 6  # PCI Local Bus Specification, 6.2.5: a type 0 header has six; the ROM and SR-IOV's follow
_MEMORY: Final = 0x200  # include/linux/ioport.h, IORESOURCE_MEM
_64_BITS: Final = 0x100000  # include/linux/ioport.h, IORESOURCE_MEM_64
_MIB: Final = 1 << 20
# drivers/firmware/sysfb_simplefb.c, arch/x86/kernel/setup.c and the framebuffer drivers, by the names they reserve by.
_SCREENS: Final = frozenset(
    {"BOOTFB", "efifb", "vesafb", "simplefb", "simple-framebuffer", "simpledrm", "vesadrm", "efidrm"}
)


def read_mmio64_mib(tree: Tree, here: str) -> int | None:
    """The MiB of a function's 64-bit memory BARs, together, rounded up (Documentation/PCI/sysfs-pci.rst, resource)."""
    lines = tree.lines(f"{here}/resource")
    if lines is None:
        return None
    size = 0
    for line in lines[:_BARS]:
        match = re.fullmatch(r"0x([0-9a-f]{16}) 0x([0-9a-f]{16}) 0x([0-9a-f]{16})", line.strip())
        if match is None:
            return None
        first, last, flags = (int(part, 16) for part in match.groups())
        if last > first and flags & _MEMORY and flags & _64_BITS:
            size += last - first + 1
    return -(-size // _MIB)


def read_framebuffers(tree: Tree) -> Mapping[str, str] | None:
    """Who holds memory of each function for the screen that firmware left; None where that cannot be read.

    Everybody sees the names and how they nest; the addresses are root's (Documentation/admin-guide/sysctl/kernel.rst).
    """
    lines = tree.text(IOMEM)
    if lines is None:
        return None
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in lines.split("\n"):
        span, _, name = line.partition(" : ")
        depth = len(span) - len(span.lstrip(" "))
        above = [(d, n) for d, n in above if d < depth]
        owners = [n for _, n in above if is_address(n)]
        if name in _SCREENS and owners:
            found[owners[-1]] = name
        above.append((depth, name))
    return found


def read_label(tree: Tree, here: str) -> str | None:
    """What firmware calls an on-board device (Documentation/ABI/testing/sysfs-bus-pci, label)."""
    text = tree.attribute(f"{here}/label")
    return text if text and text.isprintable() and len(text) <= LABEL_LENGTH else None

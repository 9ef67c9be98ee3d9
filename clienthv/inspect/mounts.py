"""Which PCI controllers carry mounted file systems and swap."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.findings import Findings
from clienthv.inspect.places import usb_port
from clienthv.inspect.storage import Disks
from clienthv.model.host import RoleName

MOUNTS: Final = "/proc/self/mountinfo"
SWAPS: Final = "/proc/swaps"
_CONTAINER_MARKS: Final = ("/run/.containerenv", "/run/systemd/container")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: device number, mount point, file system type, and what that calls its source."""

    number: str
    point: str
    kind: str
    source: str


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The mounts of /proc/self/mountinfo (man 5 proc_pid_mountinfo); lines of another form are left out."""
    found = []
    for line in text.split("\n"):
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if dash and len(fields) >= 6 and len(kinds) >= 2:
            found.append(Mount(fields[2], _unescaped(fields[4]), kinds[0], _unescaped(kinds[1])))
    return tuple(found)


def read_mounted_disks(tree: Tree, disks: Disks, findings: Findings) -> None:
    """Give the role mounted-disk, or say why it could not be looked for."""
    text = tree.text(MOUNTS)
    if text is None or not disks.told:
        missing = MOUNTS if text is None else "/sys/class/block"
        findings.unread(RoleName.MOUNTED_DISK, f"which disks are mounted is unknown: {missing} could not be read")
        return
    mounts = parse_mounts(text)
    lost = [m for m in mounts if not _follow(disks, m, findings)] + _hidden(disks, mounts)
    for name in _swaps(tree, disks):
        _give(disks, name, f"{SWAPS}: swap", findings)
    if lost:
        kinds = ", ".join(sorted({m.kind for m in lost}))
        why = f"a mounted file system ({kinds}) does not tell its disks in sysfs; see lsblk or zpool status"
        findings.unread(RoleName.MOUNTED_DISK, f"not every mounted disk is known: {why}")
        return
    if not any(m.point == "/" for m in mounts):
        why = f"{MOUNTS} shows no root file system, so this process (in a chroot or container) sees a part of them"
        findings.unread(RoleName.MOUNTED_DISK, f"not every mounted disk is known: {why}")
        return
    if marks := [mark for mark in _CONTAINER_MARKS if tree.exists(mark)]:
        why = f"{marks[0]} shows that this is a container, which sees its own mounts alone"
        findings.unread(RoleName.MOUNTED_DISK, f"not every mounted disk is known: {why}")
        return
    findings.look(RoleName.MOUNTED_DISK)


def _hidden(disks: Disks, mounts: tuple[Mount, ...]) -> list[Mount]:
    """The root of a container: an overlay over file systems that are mounted where it cannot see them.

    On a live medium the root is an overlay too, but the medium below it shows among the mounts.
    """
    roots = [m for m in mounts if m.point == "/" and m.kind in ("overlay", "fuse.fuse-overlayfs")]
    return roots if not any(m.number in disks.by_number for m in mounts) else []


def _follow(disks: Disks, mount: Mount, findings: Findings) -> bool:
    """Whether the mount is accounted for: its disks got the role, or it has none (memory, network, FUSE)."""
    names = _devices(disks, mount)
    for name in names:
        _give(disks, name, f"{MOUNTS}: {mount.point}", findings)
    on_disk = not mount.number.startswith("0:")  # major 0 is what the kernel numbers file systems without a device
    several = mount.kind in _ANONYMOUS and mount.source.startswith("/dev/")
    return bool(names) or not (on_disk or several or mount.kind == "zfs")


_ANONYMOUS: Final = frozenset({"btrfs", "bcachefs"})  # file systems of several disks, mounted as device 0:N


def _devices(disks: Disks, mount: Mount) -> tuple[str, ...]:
    number = disks.by_number.get(mount.number)
    if number is not None:
        return (number,)
    if mount.kind == "zfs":
        return disks.of_pool(mount.source.partition("/")[0])
    if not mount.source.startswith("/dev/"):
        return ()
    names = [n for part in mount.source.split(":") if (n := disks.named(part)) is not None]
    return tuple(member for name in names for member in disks.with_members(name))


def _swaps(tree: Tree, disks: Disks) -> Iterator[str]:
    """The devices of swap; a swap file lies on a file system that is mounted."""
    for line in (tree.lines(SWAPS) or ())[1:]:
        name = disks.named(_unescaped(line.split(" ")[0].split("\t")[0]))
        if name is not None:
            yield name


def _give(disks: Disks, name: str, what: str, findings: Findings) -> None:
    for chain in disks.chains(name):
        said = f"{what} is on {' on '.join(chain)}"
        for address in disks.controllers(chain[-1]):
            findings.give(RoleName.MOUNTED_DISK, address, said)
        findings.give_usb(RoleName.MOUNTED_DISK, usb_port(disks.by_name[chain[-1]].path), said)


def _unescaped(text: str) -> str:
    """Spaces, tabs, newlines and backslashes are written in octal (fs/seq_file.c, mangle_path)."""
    return _ESCAPED.sub(lambda m: chr(int(m.group(1), 8)), text)


def file_system_of(path: str) -> str | None:
    """The type of the file system that a file lies on, by the innermost mount above it; None where it is unknown."""
    real = os.path.realpath(path)
    try:
        mounts = parse_mounts(Path(MOUNTS).read_text(errors="replace"))
    except OSError:
        return None
    above = [m for m in mounts if real == m.point or real.startswith(m.point.rstrip("/") + "/")]
    return max(above, key=lambda m: len(m.point)).kind if above else None

"""Devices as udev lists them; a tree that is not the running PC is listed from its folders."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clienthv.inspect.files import Tree

_BUSES: Final = frozenset({"pci", "usb"})


@dataclass(frozen=True, slots=True)
class Device:
    """One kernel device: its place below /sys/devices and what the udev database says about it."""

    path: str
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kernel's own name for it."""
        return self.path.rpartition("/")[2]


def folder(subsystem: str) -> str:
    """Where sysfs lists a subsystem's devices (Documentation/admin-guide/sysfs-rules.rst)."""
    return f"/sys/bus/{subsystem}/devices" if subsystem in _BUSES else f"/sys/class/{subsystem}"


def devices(tree: Tree, subsystem: str, wanted: Sequence[str] = ()) -> tuple[Device, ...]:
    """Every device of a subsystem, in path order, with the ``wanted`` udev properties it has."""
    found = _from_udev(subsystem, wanted) if tree.live else None
    if found is None:
        found = _from_folders(tree, subsystem)
    return tuple(sorted(found, key=lambda device: device.path))


def is_told(tree: Tree, subsystem: str) -> bool:
    """Whether the tree says anything about a subsystem.

    A kernel without it has no folder for it, which says that there is no such device; a trimmed tree without any
    /sys/class says nothing.
    """
    return bool(tree.exists(folder(subsystem)) or tree.exists("/sys/class"))


def _from_udev(subsystem: str, wanted: Sequence[str]) -> list[Device] | None:
    """``None`` when libudev is missing or cannot work here, as in small containers."""
    context = _context()
    if context is None:
        return None
    try:
        listed = list(context.list_devices(subsystem=subsystem))
    except OSError:
        return None
    return [Device(_text(d.sys_path), _wanted(d, wanted)) for d in listed]


@functools.cache
def _context() -> Any:
    """One for the process: pyudev asks ldconfig where libudev is each time it makes one."""
    try:
        import pyudev  # costs more than all other imports here, and only the running PC needs it

        return pyudev.Context()
    except (ImportError, OSError):
        return None


def _wanted(device: Any, keys: Sequence[str]) -> dict[str, str]:
    found = {key: device.properties.get(key) for key in keys}
    return {key: _text(value) for key, value in found.items() if value}


def _from_folders(tree: Tree, subsystem: str) -> list[Device]:
    here = folder(subsystem)
    paths = (tree.real(f"{here}/{name}") for name in tree.names(here) or ())
    return [Device(path) for path in paths if path is not None]


def _text(text: str) -> str:
    """Bytes that are not UTF-8 arrive as lone surrogates, which JSON cannot hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

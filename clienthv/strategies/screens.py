"""Which GPU the host's own screen hangs on, from what is known of it."""

from __future__ import annotations

from typing import Final

import msgspec

from clienthv.model.host import HELD_FOR_GUESTS, Host, PciFunction, RoleName

_DISPLAY_CLASS: Final = "03"
_CONTROLLER_3D: Final = "0302"


class BootDisplay(msgspec.Struct, frozen=True):
    """Whether a GPU drives the boot display (None: it cannot be told), and what shows it."""

    drives: bool | None
    evidence: str


NOT_A_SCREEN: Final = BootDisplay(False, "not a display controller")


def is_gpu(function: PciFunction) -> bool:
    """Whether a function is a display controller (PCI Code and ID Assignment, base class 03)."""
    return function.base_class.startswith(_DISPLAY_CLASS)


def boot_displays(host: Host) -> dict[str, BootDisplay]:
    """For every GPU whether the host's boot display hangs on it.

    The kernel says so itself (``boot_vga``, Documentation/ABI/testing/sysfs-bus-pci). Where a document does not
    carry that, what it does carry may still decide: what is held for guests or has no outputs does not show the
    host's screen, the one GPU left does, and firmware starts the screen that is plugged in.
    """
    gpus = gpus_of(host)
    told = host.read(RoleName.BOOT_DISPLAY) or any(f.boot_vga for f in gpus)
    candidates = {f.address for f in gpus if _could_drive(f)}
    showing = candidates & connected(host)
    return {f.address: _told(host, f) if told else _inferred(f, candidates, showing) for f in gpus}


def _told(host: Host, function: PciFunction) -> BootDisplay:
    if function.boot_vga is not None:
        return BootDisplay(function.boot_vga, f"boot_vga is {int(function.boot_vga)}")
    drives = has_role(host, function.address, RoleName.BOOT_DISPLAY)
    return BootDisplay(drives, "the boot display" if drives else "another GPU is the boot display, or none")


def _inferred(function: PciFunction, candidates: set[str], connected: set[str]) -> BootDisplay:
    if function.boot_vga is False or function.address not in candidates:
        return BootDisplay(False, "has no outputs of its own, or is held for guests")
    if len(candidates) == 1:
        return BootDisplay(True, "the only GPU that the host could show its screen on")
    if connected and function.address not in connected:
        return BootDisplay(False, "no screen is connected to it, and one is to another GPU")
    if connected == {function.address}:
        return BootDisplay(True, "the only GPU with a connected screen")
    return BootDisplay(None, "boot_vga is not recorded, and several GPUs could be it")


def _could_drive(function: PciFunction) -> bool:
    if function.base_class == _CONTROLLER_3D or function.physfn is not None:
        return False
    return function.driver not in HELD_FOR_GUESTS and function.boot_vga is not False


def gpus_of(host: Host) -> tuple[PciFunction, ...]:
    """The host's display controllers, in address order."""
    return host.by_class.get(_DISPLAY_CLASS, ())


def connected(host: Host) -> frozenset[str]:
    """The addresses of the display controllers that the host shows its screen on."""
    return frozenset(f.address for f in gpus_of(host) if has_role(host, f.address, RoleName.CONNECTED_DISPLAY))


def has_role(host: Host, address: str, role: RoleName) -> bool:
    """Whether the host uses this function so."""
    return any(r.role is role for r in host.roles_by_address.get(address, ()))

"""virsh and the viewers, which take our place."""

from __future__ import annotations

import os
import shutil
import sys
from typing import NoReturn

from clienthv.errors import HostError
from clienthv.model.view import Screen
from clienthv.process.running import find

Window = tuple[tuple[str, ...] | None, str | None]
"""A command that opens a window, or None and the reason why none can be opened here."""


def become_console(uri: str, name: str, uuid: str) -> NoReturn:
    """Become virsh on a guest's serial console. Raises HostError where virsh or a terminal is missing.

    virsh takes a number for the id of a running VM before it takes it for a name: it is given the UUID.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        msg = "a serial console needs a terminal"
        raise HostError(msg, hint=f"run clienthv console {name} in a terminal, without a pipe")
    program = find("virsh", "install libvirt-clients")
    os.execv(program, [program, "--connect", uri, "console", uuid])  # noqa: S606 - no shell is wanted


def become_window(command: tuple[str, ...]) -> NoReturn:
    """Become the viewer that ``window_by_libvirt`` or ``window_by_address`` has named."""
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def window_by_libvirt(uri: str, uuid: str, *, local: bool) -> Window:
    """virt-viewer on a VM, or why it cannot show one here. It too takes a number for an id first: so the UUID.

    ``local``: libvirt hands over the screen's file descriptor (man virt-viewer, --attach), which needs no address.
    """
    attach = ["--attach"] if local else []
    return _window("virt-viewer", "virt-viewer", ["--connect", uri, *attach, "--", uuid])


def window_by_address(screen: Screen) -> Window:
    """A viewer on a screen that has an address, or why there is none.

    remote-viewer opens UNIX sockets of SPICE alone (virt-viewer 11), TigerVNC's vncviewer those of VNC.
    """
    if screen.type == "vnc" and screen.path is not None:
        return _window("vncviewer", "tigervnc-viewer", [screen.path])
    return _window("remote-viewer", "virt-viewer", ["--", screen.address or ""])


def _window(program: str, package: str, arguments: list[str]) -> Window:
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None, "there is no graphical session here to show a window in"
    path = shutil.which(program)
    if path is None:
        return None, f"{program} is not installed (package {package})"
    return (path, *arguments), None

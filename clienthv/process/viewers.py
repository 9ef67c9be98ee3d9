"""virsh and virt-viewer, which take our place."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from clienthv.errors import HostError
from clienthv.process.running import find


def become_console(uri: str, name: str) -> NoReturn:
    """Become virsh on a guest's serial console. Raises HostError where virsh or a terminal is missing."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        msg = "a serial console needs a terminal"
        raise HostError(msg, hint=f"run clienthv console {name} in a terminal, without a pipe")
    program = find("virsh", "install libvirt-clients")
    os.execv(program, [program, "--connect", uri, "console", name])  # noqa: S606 - no shell is wanted


def become_viewer(uri: str, name: str) -> NoReturn:
    """Become virt-viewer on a guest's screen. Raises HostError where it or a screen to show it on is missing."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        msg = "there is no graphical session here to show a window in"
        raise HostError(msg, hint=f"clienthv screenshot {name} -o FILE takes a picture instead")
    program = find("virt-viewer", "install virt-viewer")
    os.execv(program, [program, "--connect", uri, "--attach", "--", name])  # noqa: S606 - no shell is wanted

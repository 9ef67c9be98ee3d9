"""Where a VM's picture can be seen, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from clienthv.model.view import Screen, Where

_PORT: Final = 5900  # where VNC begins; any free one will do
_THIS_PC: Final = "USER@THIS-PC"


def lines(where: Where) -> Iterator[str]:
    """Each screen with its address and how to open it; then what is seen elsewhere."""
    yield f"VM {where.vm} on {where.uri}" + (f": {where.no_window}" if where.no_window else "")
    for screen, address in zip(where.screens, where.addresses, strict=True):
        yield from _screen(screen, address, where)
    yield from elsewhere(where)


def elsewhere(where: Where) -> Iterator[str]:
    """The pictures that no viewer shows."""
    for other in where.elsewhere:
        if other.by == "gpu":
            yield f"  {other.what} is the guest's: what it draws is on the monitors plugged into it"
        elif other.by == "gpu-part":
            yield f"  {other.what} is the guest's and has no monitor: what it draws is seen by a program in the guest"
        else:
            command = shlex.join(["looking-glass-client", "-f", other.what])
            yield f"  Looking Glass, with its program running in the guest: {command}"


def _screen(screen: Screen, address: str | None, where: Where) -> Iterator[str]:
    if address is None and screen.type not in ("spice", "vnc"):
        yield f"  {screen.type}: a window in the desktop session of whoever started the VM"
        return
    if address is None:
        by_libvirt = shlex.join(["virt-viewer", "--connect", where.uri, "--attach", "--", where.vm])
        yield f"  {screen.type}, which has no address: libvirt alone hands it out"
        yield f"    {by_libvirt}"
        return
    yield f"  {address}"
    here = _opened(screen, address)
    if where.ssh is None:
        yield f"    here: {here}"
    yield f"    from {'another' if where.ssh is None else 'this'} PC: {_forwarded(screen, where.ssh or _THIS_PC)}"
    yield f"      and then: remote-viewer {screen.type}://localhost:{_PORT}"


def _opened(screen: Screen, address: str) -> str:
    if screen.type == "vnc" and screen.path is not None:
        return f"vncviewer {shlex.quote(screen.path)} (TigerVNC)"
    return f"remote-viewer {shlex.quote(address)}"


def _forwarded(screen: Screen, destination: str) -> str:
    """OpenSSH forwards to UNIX sockets too, and takes an IPv6 address in brackets (man ssh, -L)."""
    host = screen.host or "localhost"
    end = screen.path if screen.path is not None else f"{f'[{host}]' if ':' in host else host}:{screen.port}"
    return shlex.join(["ssh", "-N", "-L", f"{_PORT}:{end}", destination])

"""The view document: where the picture of a running VM can be seen."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.values import as_json

SCHEMA: Final = 1
_ANYWHERE: Final = {"0.0.0.0": "localhost", "::": "localhost"}  # noqa: S104 - read, not listened on


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    """One screen that QEMU shows, by its type in libvirt's words (spice, vnc, sdl).

    It is reached at a UNIX socket, ``path``, or at ``host`` and ``port``. Without either only libvirt hands it out,
    and one of type sdl, gtk or dbus is a window in the desktop session of whoever started the VM.
    """

    type: str
    path: str | None = None
    host: str | None = None
    port: int | None = None

    @property
    def address(self) -> str | None:
        """Its URI, as remote-viewer takes it; None without an address."""
        if self.path is not None:
            return f"{self.type}+unix://{self.path}"
        if self.port is None:
            return None
        host = _ANYWHERE.get(self.host or "", self.host or "localhost")
        return f"{self.type}://[{host}]:{self.port}" if ":" in host else f"{self.type}://{host}:{self.port}"


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that QEMU does not show: of a ``gpu`` of the host, of a part of one, or in ``looking-glass``.

    A whole GPU has its own monitors; a ``gpu-part``, a virtual function or a mediated device, has none. ``what`` is the
    GPU by address and name, or the file of the shared memory.
    """

    by: Literal["gpu", "gpu-part", "looking-glass"]
    what: str


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer for one VM.

    ``ssh`` is what ssh takes to reach the PC that the connection leads to, None for this one. ``command`` opens the
    first screen here; None, with the reason in ``no_window``, where nothing can.
    """

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["view"] = "view"
    vm: str
    uri: str
    ssh: str | None
    screens: tuple[Screen, ...]
    addresses: tuple[str | None, ...]
    elsewhere: tuple[Elsewhere, ...]
    command: tuple[str, ...] | None
    no_window: str | None


def encode(where: Where) -> bytes:
    """The view document as indented JSON with a final newline."""
    return as_json(where)

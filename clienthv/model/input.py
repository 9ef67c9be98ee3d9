"""Input devices of the host by the names that udev gives their event devices; None means unknown."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.usb import Port

# systemd, rules.d/60-persistent-input.rules: links below /dev/input/by-path and by-id. No "/" and no "..": a name from
# a stranger's profile leads nowhere else.
_NAME: Final = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_:.+-]{0,199}-event-(kbd|mouse)"
EVENT_NAME_PATTERN: Final = rf"^{_NAME}$(?!\n)"
BY_ID: Final = "by-id/"

EventLink = Annotated[str, Meta(pattern=rf"^by-(path|id)/{_NAME}$(?!\n)")]


class EventDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One event device with its links below /dev/input, and the USB device it is a part of.

    The names by id can hold serial numbers: a document that is given away has none of them.
    """

    links: tuple[EventLink, ...]
    kind: Literal["keyboard", "pointer"]
    port: Port | None = None

    def is_called(self, name: str) -> bool:
        """Whether a profile's name is one of its links'."""
        return any(link.partition("/")[2] == name for link in self.links)

"""The event devices of keyboards and pointers, by udev's links to them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.places import usb_port
from clienthv.model.input import EVENT_NAME_PATTERN, EventDevice

FOLDER: Final = "/dev/input"
_NAME: Final = re.compile(EVENT_NAME_PATTERN)
_EVENT: Final = re.compile(r"event[0-9]{1,6}\Z")


def read_events(tree: Tree) -> tuple[EventDevice, ...] | None:
    """Every keyboard and pointer that has a link (systemd, rules.d/60-persistent-input.rules); None where none tells.

    Without udev there are event devices and no links: then nothing is known.
    """
    found: dict[str, list[str]] = defaultdict(list)
    told = False
    for folder in ("by-path", "by-id"):
        names = tree.names(f"{FOLDER}/{folder}")
        told = told or names is not None
        for name in filter(_NAME.match, names or ()):
            event = tree.target(f"{FOLDER}/{folder}/{name}") or ""
            if _EVENT.match(event):
                found[event].append(f"{folder}/{name}")
    if not told:
        return None
    devices = (_device(tree, event, links) for event, links in found.items())
    return tuple(sorted(devices, key=lambda device: device.links[0]))


def _device(tree: Tree, event: str, links: list[str]) -> EventDevice:
    path = tree.real(f"/sys/class/input/{event}")
    is_keyboard = any(link.endswith("-event-kbd") for link in links)
    return EventDevice(
        links=tuple(links), kind="keyboard" if is_keyboard else "pointer", port=usb_port(path) if path else None
    )

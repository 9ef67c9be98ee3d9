"""Which devices, USB controllers and what hangs on them mostly, are or carry the PC's keyboards, mice and touchpads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from clienthv.inspect.files import Tree
from clienthv.inspect.findings import Findings
from clienthv.inspect.udev import devices, is_told
from clienthv.model.host import RoleName

INPUTS: Final = "/proc/bus/input/devices"
_KEYBOARD: Final = "ID_INPUT_KEYBOARD"
PROPERTIES: Final = ("ID_INPUT", _KEYBOARD, "ID_INPUT_MOUSE", "ID_INPUT_TOUCHPAD")
_FULL_ROW: Final = 0xFFFFFFFE  # KEY_ESC to KEY_S, as systemd's udev-builtin-input_id.c asks of a keyboard


def read_input(tree: Tree, findings: Findings) -> None:
    """Give the role input, or say why it could not be looked for."""
    found = devices(tree, "input", PROPERTIES)
    if any("ID_INPUT" in device.properties for device in found):
        for device in found:
            said = [key for key in PROPERTIES[1:] if device.properties.get(key) == "1"]
            if said:
                _found(findings, device.path, f"udev: {device.name} has {said[0]}=1", is_keyboard=said[0] == _KEYBOARD)
        findings.look(RoleName.INPUT)
        return
    text = tree.text(INPUTS)
    if text is None and (found or not is_told(tree, "input")):
        findings.unread(RoleName.INPUT, f"keyboards and mice are unknown: udev tells none and {INPUTS} is not readable")
        return
    for path, what in handlers(text or ""):
        shown = f"{INPUTS}: {path.rpartition('/')[2]} is a {what}"
        _found(findings, f"/sys{path}", shown, is_keyboard=what == "keyboard")
    findings.look(RoleName.INPUT)


def _found(findings: Findings, path: str, said: str, *, is_keyboard: bool) -> None:
    """One input device; what udev lists as its event device is the same one again."""
    findings.carries(RoleName.INPUT, path, said)
    if is_keyboard and re.fullmatch(r"input[0-9]+", path.rpartition("/")[2]):
        findings.keyboards[path] = said


def handlers(text: str) -> Iterator[tuple[str, str]]:
    """The sysfs path of each keyboard and mouse of /proc/bus/input/devices (drivers/input/input.c).

    A keyboard has the handler kbd and every key of the first rows: power buttons and headset keys have kbd too.
    """
    for block in text.split("\n\n"):
        path = re.search(r"^S: Sysfs=(\S+)$", block, re.MULTILINE)
        names = re.search(r"^H: Handlers=(.*)$", block, re.MULTILINE)
        keys = re.search(r"^B: KEY=.*?([0-9a-f]{1,16})\s*$", block, re.MULTILINE)
        if path is None or names is None:
            continue
        handled = names.group(1).split()
        if "kbd" in handled and keys is not None and int(keys.group(1), 16) & _FULL_ROW == _FULL_ROW:
            yield path.group(1), "keyboard"
        elif any(re.fullmatch(r"mouse[0-9]+", name) for name in handled):
            yield path.group(1), "pointing device"

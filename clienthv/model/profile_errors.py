"""What is wrong with a profile, said so that its writer can mend it: the key path, the value, the nearest right one."""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from clienthv.errors import ProfileError
from clienthv.model.host import RoleName
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.tables import CPU_MODELS, DRIVERS, Boot, Device, Devices, Guest, Profile, ProfileText, SizeOf

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_AT_PATH = re.compile(r" - at `(?:key in )?\$?\.?(?P<path>[^`]*)`\Z")
_BAD_ENUM = re.compile(r"Invalid enum value (?P<value>'.*'|\d+)", re.DOTALL)


def explained(error: msgspec.ValidationError, data: dict[str, Any], source: ProfileText) -> ProfileError:
    """Msgspec's error as one of a profile, with a hint."""
    text = str(error)
    at = _AT_PATH.search(text)
    path = at.group("path") if at else ""
    what = text[: at.start()] if at else text
    hint = "clienthv profiles show balanced prints a complete example"
    if unknown := _UNKNOWN_FIELD.match(what):
        key = unknown.group("key")
        allowed = _fields_at(path)
        near = difflib.get_close_matches(key, allowed, n=1)
        full = f"{path}.{key}" if path else key
        what = f"unknown key {key!r}"
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(allowed)}"
        return ProfileError(f"{source.origin}: {full}: {what}", hint=hint)
    if bad := _BAD_ENUM.match(what):
        choices = _choices_at(path)
        value = bad.group("value").strip("'")
        near = difflib.get_close_matches(value, choices, n=1)
        what = f"{value!r} is not one of {', '.join(choices)}"
        hint = f"did you mean {near[0]!r}?" if near else hint
    elif "matching regex" in what:
        what = f"{_value_at(data, path)!r} is not {_form_at(path)}"
    return ProfileError(f"{source.origin}: {path or 'the profile'}: {what}", hint=hint)


def _form_at(path: str) -> str:
    forms = {
        "size.memory": 'a size with its unit, such as "8 GiB"',
        "size.memory_min": 'a size with its unit, such as "8 GiB"',
        "guest.os": "an osinfo id, such as debian12 or win11",
        "boot.kernel": "an absolute path",
        "boot.initrd": "an absolute path",
    }
    if ".devices[" in path:
        return (
            "a USB device such as 046d:c52b or, on one port, 046d:c52b@1-2.3 (see lsusb; lower-case), or class:webcam"
        )
    if ".evdev[" in path:
        return "a name below /dev/input/by-path or by-id that ends in -event-kbd or -event-mouse"
    if ".network[" in path:
        return "bridge, network, macvtap, passt or user, the first three with :NAME where needed"
    device = 'a PCI address such as 0000:01:00.0, "10de:1b80", "vendor:amd", "name:*RTX*" or a path'
    return forms.get(path, device if ".select" in path else "of the expected form")


def _value_at(data: Any, path: str) -> Any:
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list | tuple) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
    return data


def _fields_at(path: str) -> list[str]:
    types: dict[str, Any] = {"": Profile, "guest": Guest, "size": SizeOf, "boot": Boot, "devices": Devices}
    model = types.get(path, Device if path.startswith("devices.") else Profile)
    extra = ["extends"] if model is Profile else []
    return sorted([f.encode_name for f in msgspec.structs.fields(model) if f.name != "name"] + extra)


def _choices_at(path: str) -> list[str]:
    if ".allow" in path:
        return [r.value for r in RoleName]
    if path.startswith("guest.drivers"):
        return list(DRIVERS)
    if path.endswith(".model"):
        return list(CPU_MODELS)
    parts = path.split(".")
    if len(parts) > 1 and parts[1] in set(STRATEGIES):
        return [s.value for s in STRATEGIES[Kind(parts[1])]]
    return [s.value for s in Strategy]

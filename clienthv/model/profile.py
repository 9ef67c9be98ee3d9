"""The profile: reading its text, merging what it extends, and checking it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from clienthv.errors import ProfileError
from clienthv.model import profile_checks
from clienthv.model.profile_errors import explained
from clienthv.model.tables import CPU_MODELS as CPU_MODELS
from clienthv.model.tables import DEFAULT_LADDERS as DEFAULT_LADDERS
from clienthv.model.tables import DRIVERS as DRIVERS
from clienthv.model.tables import SCHEMA as SCHEMA
from clienthv.model.tables import Boot as Boot
from clienthv.model.tables import Device as Device
from clienthv.model.tables import Devices as Devices
from clienthv.model.tables import Guest as Guest
from clienthv.model.tables import Profile as Profile
from clienthv.model.tables import ProfileText as ProfileText
from clienthv.model.tables import SizeOf as SizeOf

PROFILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_MAX_EXTENDS: Final = 8


def parse(chain: tuple[ProfileText, ...]) -> Profile:
    """Merge a chain of texts, the profile itself first and what it extends after it. Raises ProfileError."""
    merged: dict[str, Any] = {}
    for source in reversed(chain):
        data = toml(source)
        data.pop("extends", None)
        alone = _decode(data, source)
        profile_checks.ladders(alone, source)
        profile_checks.boot(alone, source)
        profile_checks.usb(alone, source)
        merged = _merge(merged, data)
    first = chain[0]
    profile = msgspec.structs.replace(_decode(merged, first), name=first.name)
    profile_checks.required(profile, first)
    profile_checks.allowed(profile, first)
    profile_checks.size(profile, first)
    return profile


def chain_of(first: ProfileText, find: Callable[[str, ProfileText], ProfileText]) -> tuple[ProfileText, ...]:
    """The profile and everything it extends, in that order. Raises ProfileError.

    ``find`` looks up a name for the profile that extends it.
    """
    chain = [first]
    while (parent := extends_of(chain[-1])) is not None:
        found = find(parent, chain[-1])
        if any(found.origin == link.origin for link in chain) or len(chain) > _MAX_EXTENDS:
            way = " → ".join([link.name for link in chain] + [parent])
            msg = f"{first.origin}: extends goes round in a circle or too deep: {way}"
            raise ProfileError(msg, hint="let the profile extend one that does not lead back to it")
        chain.append(found)
    return tuple(chain)


def extends_of(source: ProfileText) -> str | None:
    """The name of the profile that this one extends. Raises ProfileError."""
    name = toml(source).get("extends")
    if name is not None and (not isinstance(name, str) or not PROFILE_NAME.match(name)):
        msg = f"{source.origin}: extends: expected a profile's name, got {name!r}"
        raise ProfileError(msg, hint="see clienthv profiles for the names")
    return name


def toml(source: ProfileText) -> dict[str, Any]:
    """The text as a TOML table. Raises ProfileError."""
    try:
        return tomllib.loads(source.text)
    except (ValueError, RecursionError) as e:  # ValueError: also a number too long to be one
        msg = f"{source.origin} is not valid TOML: {e}"
        raise ProfileError(msg, hint="text values need quotes; tables are written [devices.gpu]") from e


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _decode(data: dict[str, Any], source: ProfileText) -> Profile:
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        msg = f"{source.origin}: schema: {schema} is newer than this clienthv, which reads up to {SCHEMA}"
        raise ProfileError(msg, hint="update clienthv")
    if "name" in data:
        msg = f"{source.origin}: name: unknown key 'name'"
        raise ProfileError(msg, hint="a profile is named by its file")
    try:
        return msgspec.convert(data, Profile)
    except msgspec.ValidationError as e:
        raise explained(e, data, source) from e

"""A set of VMs in a TOML file: which profiles run together, under which names, and how much each matters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from clienthv import profiles
from clienthv.errors import ProfileError
from clienthv.model import values
from clienthv.model.profile import Profile
from clienthv.model.wish import Wish

MOST: Final = 64
"""VMs of one set."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One VM: its profile, by name or by a path from the set's folder, its own name, and its priority."""

    profile: Annotated[str, Meta(min_length=1, max_length=1024)]
    name: Annotated[str, Meta(max_length=64)] | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Annotated[int, Meta(ge=1, le=1)] = 1
    vm: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=MOST)]


def load(path: Path) -> tuple[Wish, ...]:
    """The VMs of a set file. Raises ProfileError."""
    text = profiles.text_of(
        path, "set of VMs", 'a set is a TOML file with a table [[vm]] for each VM: profile = "balanced"'
    )
    try:
        entries = msgspec.toml.decode(text, type=_File).vm
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        msg = f"{path} is not a set of VMs: {e}"
        raise ProfileError(msg, hint="each VM is a table [[vm]] with profile, and if you like name and priority") from e
    read = []
    for entry in entries:
        where = str(path.parent / entry.profile) if profiles.is_path(entry.profile) else entry.profile
        read.append((entry, profiles.load(where)[0]))
    return _named(read, str(path))


def of(names: tuple[str, ...]) -> tuple[Wish, ...]:
    """The VMs of some profiles, each by name or path. Raises ProfileError."""
    return _named([(Entry(profile=name), profiles.load(name)[0]) for name in names], "the command line")


def _named(read: list[tuple[Entry, Profile]], origin: str) -> tuple[Wish, ...]:
    """Every VM under a name of its own: the same profile again gets a number."""
    given = Counter(entry.name for entry, _ in read if entry.name is not None)
    for name, number in given.items():
        if number > 1 or not values.is_vm_name(name or ""):
            msg = f"{origin}: {name!r} " + ("is the name of two VMs" if number > 1 else "cannot be a VM's name")
            raise ProfileError(msg, hint="letters, digits and _ . + -, at most 64, each name once")
    used, asked = set(given), []
    for entry, profile in read:
        name, number = entry.name or profile.name, 2
        while entry.name is None and name in used:
            name, number = f"{profile.name}-{number}", number + 1
        used.add(name)
        asked.append(Wish(name, profile, entry.priority))
    return tuple(asked)

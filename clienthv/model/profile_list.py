"""The profiles document: which profiles can be used, where they come from, and what they extend."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.model.values import as_json

SCHEMA: Final = 1


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One profile.

    ``origin`` is a word for the folder: user, system, packaged; file for one that was given by its path. ``extends``
    are the names of the profiles it starts from, the nearest first. ``problem`` is why it cannot be used, None for one
    that can.
    """

    name: str
    origin: str
    path: str
    description: str
    extends: tuple[str, ...] = ()
    problem: str | None = None


class ProfileList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, in the order of the folders."""

    schema: Annotated[int, Meta(ge=1)] = SCHEMA
    kind: Literal["profiles"] = "profiles"
    profiles: tuple[Listed, ...]


def encode(listed: ProfileList) -> bytes:
    """The profiles document as indented JSON with a final newline."""
    return as_json(listed)

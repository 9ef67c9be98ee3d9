"""A VM of a set: what is wanted of it, and how much it matters."""

from __future__ import annotations

from typing import NamedTuple

from clienthv.model.guest import GuestOs
from clienthv.model.profile import Profile


class Wish(NamedTuple):
    """One VM that is wanted: its name, what it should be, how much it matters (more is more), its system."""

    name: str
    profile: Profile
    priority: int = 0
    guest: GuestOs | None = None

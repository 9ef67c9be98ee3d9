"""What a PC can do, what holds it back, and the smallest change for each: facts and profiles in, advice out."""

from __future__ import annotations

from collections.abc import Sequence

from clienthv.joint import Wish
from clienthv.model.advice import Diagnosis
from clienthv.model.host import Host

__all__ = ["examine"]


def examine(host: Host, wishes: Sequence[Wish]) -> Diagnosis:
    """What this PC can do, and what would lift each rung of these profiles that is not taken. Pure."""
    return Diagnosis(host=host.name, profiles=tuple(w.name for w in wishes), abilities=(), advice=())

"""What a change would unlock: the PC as it would be after it is planned for again, and the plans are compared.

A rung that one change alone does not reach may be reached by several together: then those are found without which it
is not reached, and each names the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from clienthv import planner
from clienthv.doctor.remedy import Met, Remedy
from clienthv.errors import HostError, PlanError
from clienthv.joint import Wish
from clienthv.model.advice import Unlocks
from clienthv.model.host import Host
from clienthv.model.plan import STRATEGIES, Decision, Kind, Reason, Rejected, Strategy
from clienthv.strategies import size

Codes = frozenset[str]
_NOT_AT_ALL = 99
"""The rung of a VM that cannot be."""


class Standing(NamedTuple):
    """What a VM becomes on a PC: the decision for each kind, and on which rung of its ladder it is."""

    decisions: Mapping[Kind, Decision]
    rungs: Mapping[Kind, int]


class Outcome(NamedTuple):
    """What one VM meets as the PC is: its standing, what was rejected, and why the PC is too small for it, if so.

    ``stuck`` are the kinds of which nothing on the ladder is possible, as far as planning came.
    """

    standing: Standing | None
    rejected: tuple[Rejected, ...]
    too_small: str | None
    stuck: tuple[Kind, ...] = ()


def meet(host: Host, wish: Wish) -> Outcome:
    """Plan one VM, and keep what was met on the way."""
    try:
        settled = planner.settle(planner.ask(host, wish.profile, guest=wish.guest), planner.Judged())
    except planner.NoRungError as e:
        tried = {r.strategy for r in e.rejected}
        stuck = tuple(kind for kind in STRATEGIES if set(wish.profile.ladder(kind)) == tried)
        return Outcome(None, e.rejected, _too_small(host, wish), stuck)
    except PlanError:
        return Outcome(None, (), None)
    decisions = (*settled.decisions.values(), *settled.usb_devices)
    rejected = tuple(r for d in decisions for r in d.rejected)
    small = _too_small(host, wish)
    rungs = {k: wish.profile.ladder(k).index(d.strategy) for k, d in settled.decisions.items()}
    return Outcome(None if small else Standing(settled.decisions, rungs), rejected, small)


def _too_small(host: Host, wish: Wish) -> str | None:
    try:
        size.vcpus(host, wish.profile)
        size.memory_mib(host, wish.profile)
    except HostError as e:
        return e.message
    return None


def gathered(found: Iterable[tuple[Wish, Outcome]]) -> Met:
    """What all plans met together."""
    rejected: list[Rejected] = []
    profiles: dict[Reason, list[str]] = defaultdict(list)
    for wish, met in found:
        rejected.extend(met.rejected)
        for reason in dict.fromkeys(r.reason for r in met.rejected):
            profiles[reason].append(wish.name)
    return Met(tuple(rejected), {reason: tuple(names) for reason, names in profiles.items()})


class _Search:
    """One VM on one PC with any of the changes made; each combination is planned once."""

    def __init__(self, host: Host, wish: Wish, now: Standing | None, remedies: Sequence[Remedy]) -> None:
        self._host = host
        self._wish = wish
        self._remedies = [r for r in remedies if r.change is not None]
        self._known: dict[Codes, Standing | None] = {frozenset(): now}

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(r.advice.code for r in self._remedies)

    def after(self, codes: Codes) -> Standing | None:
        """What the VM becomes after these changes."""
        if codes not in self._known:
            host = self._host
            for remedy in self._remedies:
                if remedy.advice.code in codes and remedy.change is not None:
                    host = remedy.change(host)
            self._known[codes] = meet(host, self._wish).standing
        return self._known[codes]

    def rung(self, codes: Codes, kind: Kind) -> int:
        """How far below the top a kind is after these changes."""
        standing = self.after(codes)
        return _NOT_AT_ALL if standing is None else standing.rungs[kind]

    def least(self, kind: Kind, rung: int) -> Codes:
        """Changes of which none can be left out for a kind to reach this rung; the last ones are kept the longest."""
        needed = frozenset(self.codes)
        for code in self.codes:
            if self.rung(needed - {code}, kind) <= rung:
                needed -= {code}
        return needed


def unlocked(host: Host, wish: Wish, now: Outcome, remedies: Sequence[Remedy]) -> Iterator[tuple[str, Unlocks]]:
    """For each change the rungs of this VM that it opens, alone or with others. Of none that is not reached."""
    search = _Search(host, wish, now.standing, remedies)
    every = frozenset(search.codes)
    best = search.after(every)
    if best is None:
        return
    for kind in _kinds(wish, now, best):
        reached = set()
        for code in search.codes:
            rung = search.rung(frozenset({code}), kind)
            if rung < search.rung(frozenset(), kind):
                reached.add(rung)
                yield code, _unlocks(search, wish, kind, frozenset({code}), ())
        if best.rungs[kind] < min(reached, default=search.rung(frozenset(), kind)):
            needed = search.least(kind, best.rungs[kind])
            for code in (c for c in search.codes if c in needed):
                also = tuple(c for c in search.codes if c in needed and c != code)
                yield code, _unlocks(search, wish, kind, needed, also)


def _kinds(wish: Wish, now: Outcome, best: Standing) -> tuple[Kind, ...]:
    """The kinds that could become better; of a VM that cannot be at all those that it must have or cannot."""
    if now.standing is not None:
        had = now.standing
        better = (kind for kind, rung in best.rungs.items() if rung < had.rungs[kind])
        return tuple(kind for kind in better if not _unknown(had.decisions[kind]))
    required = tuple(kind for kind in best.rungs if wish.profile.device(kind).require)
    return required or now.stuck or (Kind.CPU,)


def _unknown(decision: Decision) -> bool:
    """Whether KVM may be there already: nobody has read it."""
    return any(r.reason is Reason.VIRTUALIZATION_UNKNOWN for r in decision.rejected)


def _unlocks(search: _Search, wish: Wish, kind: Kind, codes: Codes, also: tuple[str, ...]) -> Unlocks:
    standing = search.after(codes)
    decision = standing.decisions[kind] if standing is not None else None
    of = decision.virtual_function if decision is not None else None
    device = of.physfn if of is not None and of.created else decision.device if decision is not None else None
    strategy = decision.strategy if decision is not None else Strategy.OMIT
    return Unlocks(profile=wish.name, kind=kind, strategy=strategy, device=device, also=also)

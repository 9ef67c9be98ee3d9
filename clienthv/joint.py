"""Several VMs on one PC: one joint decision on who gets which device.

Every VM is first planned alone. Where two claim the same thing, the search branches: the one goes without it, or the
other does; the VM concerned is planned anew. The cheapest open state is followed first, so the first one without a
conflict is the best (docs/adr/0012; the method is conflict-based search: Sharon et al., Artificial Intelligence 219,
2015). The best has the most VMs planned, then the fewest rungs below the top, priority by priority.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count
from typing import Final, NamedTuple

from msgspec.structs import replace

from clienthv import planner
from clienthv.errors import HostError, PlanError
from clienthv.model.guest import GuestOs
from clienthv.model.host import Host
from clienthv.model.plan import Decision, Kind, Plan, Reason, Rejected, Warned
from clienthv.model.plans import Member, Plans
from clienthv.model.profile import Profile
from clienthv.strategies import size
from clienthv.strategies.claims import claims

MOST_STATES: Final = 2000
"""How many states are looked at before the VMs are simply served one after the other."""


class Wish(NamedTuple):
    """One VM that is wanted: its name, what it should be, how much it matters (more is more), its system."""

    name: str
    profile: Profile
    priority: int = 0
    guest: GuestOs | None = None


class _Planned(NamedTuple):
    """One VM's plan under the present conditions, what it claims, and how many rungs it is below the top."""

    plan: Plan | None
    problem: str | None
    claims: Mapping[str, bool]
    cost: int


class _Search:
    """The VMs in the order they are served, and every plan that was made so far."""

    def __init__(self, host: Host, wishes: Sequence[Wish]) -> None:
        self.host = host
        self.wishes = wishes
        self.memory = size.memories_mib(host, [wish.profile for wish in wishes])
        self._judged = {wish.profile: planner.Judged() for wish in wishes}
        self._made: dict[tuple[Profile, int | None, frozenset[str]], _Planned] = {}

    def planned(self, number: int, taken: frozenset[str]) -> _Planned:
        """One VM's plan when these keys belong to others."""
        key = self.wishes[number].profile, self.memory[number], taken
        if key not in self._made:
            self._made[key] = self._plan(number, taken)
        return self._made[key]

    def _plan(self, number: int, taken: frozenset[str]) -> _Planned:
        memory, profile = self.memory[number], self.wishes[number].profile
        if memory is None:
            return _Planned(None, f"no memory is left for it beside the others on {self.host.name}", {}, 0)
        try:
            shared = planner.Shared(taken, memory, self._judged[profile])
            plan = planner.plan(self.host, profile, shared=shared, guest=self.wishes[number].guest)
        except (PlanError, HostError) as e:
            return _Planned(None, e.message, {}, 0)
        held: dict[str, bool] = {}
        for decision in plan.decisions:
            for key, alone in claims(decision, decision.kind, self.host).items():
                held[key] = held.get(key, False) or alone
        return _Planned(plan, None, held, sum(_rung(d, profile) for d in plan.decisions))

    def cost(self, taken: Sequence[frozenset[str]]) -> tuple[tuple[int, ...], ...]:
        """Less is better: VMs without a plan, then rungs by priority, then VM by VM."""
        made = [self.planned(n, keys) for n, keys in enumerate(taken)]
        classes = sorted({wish.priority for wish in self.wishes}, reverse=True)
        missing = [sum(m.plan is None for m, w in self._of(made, c)) for c in classes]
        rungs = [sum(m.cost for m, w in self._of(made, c)) for c in classes]
        return (sum(missing), *missing), tuple(rungs), tuple(m.cost for m in made)

    def _of(self, made: Sequence[_Planned], priority: int) -> list[tuple[_Planned, Wish]]:
        return [(m, w) for m, w in zip(made, self.wishes, strict=True) if w.priority == priority]

    def conflict(self, taken: Sequence[frozenset[str]]) -> tuple[int, int, str] | None:
        """Two VMs that claim the same thing, of which one wants it alone; the earlier one first."""
        made = [self.planned(n, keys) for n, keys in enumerate(taken)]
        for (i, one), (j, other) in combinations(enumerate(made), 2):
            for key in sorted(one.claims.keys() & other.claims.keys()):
                if one.claims[key] or other.claims[key]:
                    return i, j, key
        return None

    def best(self) -> tuple[tuple[frozenset[str], ...], bool]:
        """What each VM must leave to others, and whether that is certain to be the best."""
        start: tuple[frozenset[str], ...] = tuple(frozenset() for _ in self.wishes)
        simple = self.one_by_one()
        most = self.cost(simple)
        numbers = count()
        states = [(self.cost(start), next(numbers), start)]
        seen = {start}
        while states and len(seen) <= MOST_STATES:
            cost, _, taken = heapq.heappop(states)
            if cost == most:  # no state that is left is better
                return simple, True
            found = self.conflict(taken)
            if found is None:
                return taken, True
            first, second, key = found
            for loser in (second, first):
                then = tuple(keys | {key} if n == loser else keys for n, keys in enumerate(taken))
                if then not in seen:
                    seen.add(then)
                    heapq.heappush(states, (self.cost(then), next(numbers), then))
        return simple, False

    def one_by_one(self) -> tuple[frozenset[str], ...]:
        """Each VM in its turn gets the best of what is left."""
        served: list[frozenset[str]] = []
        held: dict[str, bool] = {}
        for number in range(len(self.wishes)):
            keys = frozenset(key for key, alone in held.items() if alone)
            mine = self.planned(number, keys).claims
            while clash := {key for key, alone in mine.items() if alone and key in held}:
                keys |= clash  # shared by others, and wanted alone
                mine = self.planned(number, keys).claims
            held |= mine
            served.append(keys)
        return tuple(served)


def _rung(decision: Decision, profile: Profile) -> int:
    """How far below the top of its ladder a device ended; a USB device that is left out is one rung down."""
    if decision.kind is Kind.USB_DEVICE:
        return int(decision.device is None)
    return profile.ladder(decision.kind).index(decision.strategy)


def plan(host: Host, wishes: Sequence[Wish]) -> Plans:
    """One plan for each VM, which can all run together on a host. Pure: the same input gives the same plans.

    A VM that cannot be has a ``problem`` in the place of its plan.
    """
    order = sorted(range(len(wishes)), key=lambda n: -wishes[n].priority)
    search = _Search(host, [wishes[n] for n in order])
    taken, certain = search.best()
    made = [search.planned(n, keys) for n, keys in enumerate(taken)]
    members = {
        order[n]: Member(
            name=search.wishes[n].name,
            priority=search.wishes[n].priority,
            plan=_told(m.plan, n, search.wishes, made) if m.plan is not None else None,
            problem=m.problem,
            claims=tuple(sorted(m.claims)),
        )
        for n, m in enumerate(made)
    }
    return Plans(host=host.name, vms=tuple(members[n] for n in sorted(members)), warnings=tuple(_warnings(certain)))


def _told(plan: Plan, number: int, wishes: Sequence[Wish], made: Sequence[_Planned]) -> Plan:
    """A plan in which every device that went to another VM names that VM, and why it did."""
    mine = wishes[number].priority

    def told(rejected: Rejected) -> Rejected:
        if rejected.reason is not Reason.GIVEN_TO_OTHER_VM:
            return rejected
        key = rejected.detail
        holder = next((w for w, m in zip(wishes, made, strict=True) if key in m.claims), None)
        if holder is None:
            return replace(rejected, detail=f"{key}: left to the other VMs")
        why = (
            f"its priority is higher ({holder.priority} over {mine})"
            if holder.priority > mine
            else "so the VMs together get the most"
        )
        fix = f"give this VM a higher priority than {holder.name}, or run them at different times"
        return replace(rejected, detail=f"{key} goes to VM {holder.name}: {why}", fix=fix)

    return replace(plan, decisions=tuple(replace(d, rejected=tuple(map(told, d.rejected))) for d in plan.decisions))


def _warnings(certain: bool) -> Iterator[Warned]:
    if not certain:
        yield Warned(
            code="not-the-best",
            detail=f"{MOST_STATES} ways to share were looked at; the VMs were then served one after the other",
        )

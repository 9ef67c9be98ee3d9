"""Several VMs on one PC: one joint decision on who gets which device.

Every VM is first planned alone. Where their claims cannot stand together, the search branches: each time another of
the VMs concerned goes without what is claimed, or without having it alone, and is planned anew. The cheapest open
state is followed first, so the first one without a conflict is the best (docs/adr/0012; the method is conflict-based
search: Sharon et al., Artificial Intelligence 219, 2015). The best has the most VMs planned, then the fewest rungs
below the top, priority by priority; of equals the one in which VMs of higher priority have what they would have first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count
from typing import Final, NamedTuple

from msgspec.structs import replace

from clienthv import planner
from clienthv.errors import HostError, PlanError
from clienthv.model.host import Host
from clienthv.model.plan import Plan, Reason, Rejected, Warned
from clienthv.model.plans import Member, Plans
from clienthv.model.wish import Wish as Wish
from clienthv.planner import Settled
from clienthv.strategies import Question, size
from clienthv.strategies.claims import Claim
from clienthv.strategies.frame import again

MOST_STATES: Final = 2000
"""How many states are looked at before the VMs are simply served one after the other."""


class _Without(NamedTuple):
    """What a VM must do without: keys that are others' altogether, and keys that it may not have alone."""

    taken: frozenset[str] = frozenset()
    not_alone: frozenset[str] = frozenset()


class _Made(NamedTuple):
    """What one VM becomes under present conditions, or the problem why it cannot be."""

    settled: Settled | None
    problem: str | None
    stuck: planner.NoRungError | None = None

    @property
    def claims(self) -> Mapping[str, Claim]:
        return self.settled.claims if self.settled is not None else {}

    @property
    def rungs(self) -> int:
        return self.settled.rungs if self.settled is not None else 0

    @property
    def places(self) -> int:
        return self.settled.places if self.settled is not None else 0


_State = tuple[_Without, ...]
_Cost = tuple[tuple[int, ...], ...]


class _Search:
    """The VMs in the order they are served, and everything that was settled so far."""

    def __init__(self, host: Host, wishes: Sequence[Wish]) -> None:
        self.host = host
        self.wishes = wishes
        self.alive = set(range(len(wishes)))
        self._judged = planner.Judged()
        self.asked = [self._ask(wish) for wish in wishes]
        # What is decided does not depend on name and size: VMs that are alike but for those are settled once.
        kinds = [(wish.profile.devices, wish.profile.guest, wish.guest) for wish in wishes]
        self._alike = [n if isinstance(self.asked[n], str) else kinds.index(kind) for n, kind in enumerate(kinds)]
        self._made: dict[tuple[int, _Without], _Made] = {}
        classes = sorted({wish.priority for wish in wishes}, reverse=True)
        self._classes = [[n for n, wish in enumerate(wishes) if wish.priority == c] for c in classes]

    def _ask(self, wish: Wish) -> Question | str:
        try:
            size.vcpus(self.host, wish.profile)
            return planner.ask(self.host, wish.profile, guest=wish.guest)
        except (PlanError, HostError) as e:
            return e.message

    def made(self, number: int, without: _Without) -> _Made:
        """What a VM becomes when it must do without something."""
        if number not in self.alive:
            return _Made(None, f"no memory is left for it beside the others on {self.host.name}")
        asked, key = self.asked[number], (self._alike[number], without)
        if isinstance(asked, str):
            return _Made(None, asked)
        if key not in self._made:
            self._made[key] = self._settle(asked, without)
        return self._made[key]

    def _settle(self, asked: Question, without: _Without) -> _Made:
        try:
            question = again(asked, taken=without.taken, not_alone=without.not_alone)
            return _Made(planner.settle(question, self._judged), None)
        except planner.NoRungError as e:
            return _Made(None, e.message, e)
        except PlanError as e:
            return _Made(None, e.message)

    def cost(self, state: _State) -> _Cost:
        """Less is better: VMs that cannot be, rungs by priority, rungs VM by VM, and devices that are not the first."""
        made = [self.made(n, without) for n, without in enumerate(state)]
        missing = [sum(made[n].settled is None for n in members) for members in self._classes]
        rungs = [sum(made[n].rungs for n in members) for members in self._classes]
        alone = tuple(m.rungs for m in made)
        return (sum(missing), *missing), tuple(rungs), alone, tuple(m.places for m in made)

    def children(self, state: _State) -> tuple[_State, ...]:
        """The states in which the first conflict is gone, each at another VM's expense; none where there is none."""
        made = [self.made(n, without) for n, without in enumerate(state)]
        for (i, one), (j, other) in combinations(enumerate(made), 2):
            for key in sorted(one.claims.keys() & other.claims.keys()):
                a, b = one.claims[key], other.claims[key]
                if a.alone or b.alone:
                    # Whoever shares it may stay when the other one does not have it alone.
                    return (
                        _but(state, j, key, alone=b.alone and not a.alone),
                        _but(state, i, key, alone=a.alone and not b.alone),
                    )
        return self._over_capacity(state, made)

    def _over_capacity(self, state: _State, made: Sequence[_Made]) -> tuple[_State, ...]:
        """Children for a thing of which more is taken than may be: one of those who take it takes none."""
        for key in sorted({key for m in made for key, claim in m.claims.items() if claim.capacity is not None}):
            holders = [n for n, m in enumerate(made) if key in m.claims]
            caps = [c for n in holders if (c := made[n].claims[key].capacity) is not None]
            if len(holders) > 1 and sum(made[n].claims[key].amount for n in holders) > min(caps):
                return tuple(_but(state, n, key, alone=False) for n in reversed(holders))
        return ()

    def best(self) -> tuple[_State, bool]:
        """What each VM must do without, and whether that is certain to be the best."""
        start: _State = tuple(_Without() for _ in self.wishes)
        numbers = count()
        states = [(self.cost(start), next(numbers), start)]
        seen = {start}
        while states and len(seen) <= MOST_STATES:
            _, _, state = heapq.heappop(states)
            children = self.children(state)
            if not children:
                return state, True
            for child in children:
                if child not in seen:
                    seen.add(child)
                    heapq.heappush(states, (self.cost(child), next(numbers), child))
        return self.one_by_one(), False

    def one_by_one(self) -> _State:
        """Each VM in its turn gets the best of what is left."""
        served: list[_Without] = []
        for number in range(len(self.wishes)):
            without = _Without()
            while True:
                state = (*served, without, *(_Without() for _ in range(number + 1, len(self.wishes))))
                rest = self._first_refusal(state, number)
                if rest is None:
                    break
                without = rest
            served.append(without)
        return tuple(served)

    def _first_refusal(self, state: _State, number: int) -> _Without | None:
        """What a VM must do without beside those before it, when something it claims clashes with theirs."""
        mine, before = self.made(number, state[number]).claims, [self.made(n, state[n]).claims for n in range(number)]
        for key, claim in mine.items():
            others = [claims[key] for claims in before if key in claims]
            alone = any(other.alone for other in others)
            if alone or (claim.alone and others):
                return _but(state, number, key, alone=not alone)[number]
            caps = [c for c in (claim.capacity, *(other.capacity for other in others)) if c is not None]
            if others and caps and claim.amount + sum(other.amount for other in others) > min(caps):
                return _but(state, number, key, alone=False)[number]
        return None


def _but(state: _State, number: int, key: str, *, alone: bool) -> _State:
    """The state in which one VM does without something more, or does not have it ``alone`` any more."""
    had = state[number]
    more = had._replace(not_alone=had.not_alone | {key}) if alone else had._replace(taken=had.taken | {key})
    return (*state[:number], more, *state[number + 1 :])


def plan(host: Host, wishes: Sequence[Wish]) -> Plans:
    """One plan for each VM, which can all run together on a host. Pure: the same input gives the same plans.

    A VM that cannot be has a ``problem`` in the place of its plan, and holds nothing: no device, and no memory.
    """
    order = sorted(range(len(wishes)), key=lambda n: -wishes[n].priority)
    search = _Search(host, [wishes[n] for n in order])
    problems: dict[int, _Made] = {}
    while True:
        planned = [n for n in range(len(order)) if n not in problems]
        given = size.memories_mib(host, [search.wishes[n].profile for n in planned])
        memory = {n: mib for n, mib in zip(planned, given, strict=True) if mib is not None}
        search.alive = set(memory)
        state, certain = search.best()
        made = [search.made(n, without) for n, without in enumerate(state)]
        lost = {n: made[n] for n in memory if made[n].settled is None}
        if not lost:
            break
        problems |= lost  # they hold no memory: it is the others'
    made = [problems.get(n, m) for n, m in enumerate(made)]
    members, left = {}, host
    for n in range(len(order)):
        members[order[n]] = _member(search, n, memory.get(n), made, left)
        left = _without(left, members[order[n]].plan)
    return Plans(host=host.name, vms=tuple(members[n] for n in sorted(members)), warnings=tuple(_warnings(certain)))


def _member(search: _Search, number: int, mib: int | None, made: Sequence[_Made], left: Host) -> Member:
    """One VM, on what those before it have left of the host's huge pages and cores."""
    wish, mine, plan, problem = search.wishes[number], made[number], None, made[number].problem
    told = _Teller(search.wishes, made, number)
    if mine.settled is not None and mib is not None:
        own = search.asked[number]
        profile = own.profile if isinstance(own, Question) else wish.profile
        question = again(mine.settled.question, host=left, profile=profile)
        plan = planner.finish(mine.settled._replace(question=question), mib)
        decisions = tuple(replace(d, rejected=tuple(map(told.of, d.rejected))) for d in plan.decisions)
        plan = replace(plan, decisions=decisions)
    elif mine.stuck is not None:
        problem = planner.NoRungError(mine.stuck.words, map(told.of, mine.stuck.rejected), mine.stuck.lenient).message
    claims = tuple(sorted(mine.claims)) if plan is not None else ()
    return Member(name=wish.name, priority=wish.priority, plan=plan, problem=problem, claims=claims)


def _without(host: Host, plan: Plan | None) -> Host:
    """A host without the huge pages and the cores that a VM has to itself; the first core is the host's own."""
    extras = (plan.extras or None) if plan is not None else None
    if plan is None or extras is None or (extras.hugepages_kib is None and extras.pins is None):
        return host
    taken = set(extras.pins.vcpus) if extras.pins is not None else set()
    topology = host.cpu.topology
    if isinstance(topology, tuple):
        rest = tuple(core for core in topology[1:] if taken.isdisjoint(core.threads))
        host = replace(host, cpu=replace(host.cpu, topology=(*topology[:1], *rest)))
    pool = next((p for p in host.memory.hugepages or () if p.size_kib == extras.hugepages_kib), None)
    return size.without_pages(host, pool, plan.memory_mib) if pool is not None else host


class _Teller:
    """Names, in a reason of one VM, the other VM that has the device, and why."""

    def __init__(self, wishes: Sequence[Wish], made: Sequence[_Made], number: int) -> None:
        self._others = [(w, m) for n, (w, m) in enumerate(zip(wishes, made, strict=True)) if n != number]
        self._priority = wishes[number].priority

    def of(self, rejected: Rejected) -> Rejected:
        """The reason, with the VM's name where another one is the reason."""
        if rejected.reason is not Reason.GIVEN_TO_OTHER_VM:
            return rejected
        key = rejected.detail
        holder = next((w for w, m in self._others if key in m.claims), None)
        if holder is None:
            return replace(rejected, detail=f"{key}: left to the other VMs")
        why = (
            f"its priority is higher ({holder.priority} over {self._priority})"
            if holder.priority > self._priority
            else "so the VMs together get the most"
        )
        fix = f"give this VM a higher priority than {holder.name}, or run them at different times"
        return replace(rejected, detail=f"{key} goes to VM {holder.name}: {why}", fix=fix)


def _warnings(certain: bool) -> Iterator[Warned]:
    if not certain:
        yield Warned(
            code="not-the-best",
            detail=f"{MOST_STATES} ways to share were looked at; the VMs were then served one after the other",
        )

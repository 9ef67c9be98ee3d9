"""The ladder of a device as a story for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clienthv.model.advice import Evidence
from clienthv.model.explanation import Explanation, Ladder, Objection, Place, Possible, Refused, Rung
from clienthv.model.plan import Strategy


def lines(explanation: Explanation) -> Iterator[str]:
    """Each ladder: what was taken, the better rungs from the best one, what it falls to, what ties it to this PC."""
    whose = f"VM {explanation.vm}" if explanation.vm is not None else f"profile {explanation.profile}"
    for number, ladder in enumerate(explanation.ladders):
        if number:
            yield ""
        yield f"{_title(ladder)} of {whose} on {explanation.host}: {ladder.taken}"
        yield from _ladder(ladder)


def _title(ladder: Ladder) -> str:
    return ladder.name if ladder.name != f"{ladder.device}0" else ladder.device


def _ladder(ladder: Ladder) -> Iterator[str]:
    here = next(rung for rung in ladder.rungs if rung.place is Place.TAKEN)
    taken = here.possible[0]
    yield f"  {_way(taken, ladder.taken)}"
    yield from _because(taken)
    better = [rung for rung in ladder.rungs if rung.place is Place.BETTER]
    yield ""
    if better or here.refused:
        yield "Why not better, from the best rung down:"
        yield from (line for rung in (*better, *([here] if here.refused else [])) for line in _rung(rung))
    else:
        yield f"Nothing better is asked for: {ladder.taken} is the top of the profile's ladder."
    if ladder.unasked:
        yield f"  nearer to the hardware, and not on that ladder: {', '.join(ladder.unasked)}"
    yield ""
    yield from _falls(ladder)
    yield ""
    yield f"What ties it to this PC: {ladder.portable.detail}"
    if ladder.portable.change is not None:
        yield f"  to tie it less: {ladder.portable.change}"


def _because(taken: Possible) -> Iterator[str]:
    yield f"  {taken.why}"
    yield from _files(taken.evidence, "    ")


def _way(way: Possible, strategy: Strategy) -> str:
    with_it = [f for f in way.functions if f != way.device]
    along = f", with {', '.join(with_it)}" if with_it else ""
    if way.device is not None:
        return f"{way.device} {way.backing}{along}"
    return "left out" if strategy is Strategy.OMIT else f"{way.model} on {way.backing}"


def _rung(rung: Rung) -> Iterator[str]:
    """A rung with each thing it could rest on; those against which the very same speaks stand together."""
    otherwise = ", by another way" if rung.place is Place.TAKEN else ""
    yield f"  {rung.strategy}{otherwise}"
    for ways in _alike(rung.refused):
        named = [f"{way.device} {way.name or ''}".rstrip() for way in ways if way.device is not None]
        yield from (f"    {name}" for name in named)
        indent = "      " if named else "    "
        yield from (f"{indent}{line}" for objection in ways[0].objections for line in _objection(objection))


def _alike(refused: Iterable[Refused]) -> Iterator[list[Refused]]:
    groups: dict[tuple[Objection, ...], list[Refused]] = {}
    for way in refused:
        groups.setdefault(way.objections, []).append(way)
    yield from groups.values()


def _objection(objection: Objection) -> Iterator[str]:
    yield f"- {objection.detail} [{objection.reason}]"
    yield from _files(objection.evidence, "    ")
    yield f"    {f'to lift it: {objection.fix}' if objection.fix else 'nothing that clienthv knows lifts it'}"


def _files(evidence: tuple[Evidence, ...], indent: str) -> Iterator[str]:
    yield from (f"{indent}{e.file} → {e.value}" for e in evidence)


def _falls(ladder: Ladder) -> Iterator[str]:
    """What comes when what was taken does not start, and what of that is not possible either."""
    below = [rung for rung in ladder.rungs if rung.place is Place.BELOW]
    ways = [(rung.strategy, way) for rung in below for way in rung.possible]
    if ways:
        yield "If that does not start, it falls to:"
        yield from (f"  {n}. {s}: {_way(way, s)}: {way.why}" for n, (s, way) in enumerate(ways, start=1))
        yield "  and more" if ladder.cut_short else "  after that, nothing: up gives up and takes back what it changed"
    else:
        yield "If that does not start, nothing is left on the ladder: up gives up and takes back what it changed."
    gone = [rung for rung in below if rung.refused]
    if gone:
        yield "  of the rungs below, this is not possible:"
        yield from (line for rung in gone for line in _rung(rung))

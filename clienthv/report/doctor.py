"""A diagnosis as text: what the PC can do, then what holds it back, that which unlocks most first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clienthv.model.advice import Ability, Advice, After, Diagnosis, Unlocks

_MARK: Final = {True: "yes", False: "no", None: "unknown"}
_TITLE_WIDTH: Final = 44
_AFTER: Final = {After.NOTHING: "", After.LOGIN: "; shows after logging in again", After.REBOOT: "; needs a restart"}


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """All of it for a person."""
    yield f"What {diagnosis.host} can do:"
    yield ""
    width = min(max((len(a.title) for a in diagnosis.abilities), default=0), _TITLE_WIDTH)
    yield from (_ability(ability, width) for ability in diagnosis.abilities)
    yield ""
    if not diagnosis.advice:
        yield "Nothing that clienthv knows of holds it back."
        return
    yield "What holds it back, that which unlocks most first:"
    for number, advice in enumerate(diagnosis.advice, 1):
        yield ""
        yield from _advice(number, advice)
    fixable = [a.code for a in diagnosis.advice if a.fixable]
    yield ""
    yield f"Planned for: {', '.join(diagnosis.profiles) or 'no profile'}."
    if fixable:
        yield f"clienthv doctor --fix makes: {', '.join(fixable)}. It shows each change before and asks."


def _ability(ability: Ability, width: int) -> str:
    title = ability.title if len(ability.title) <= width else f"{ability.title[: width - 1]}…"
    return f"  {_MARK[ability.able]:<7}  {title:<{width}}  {ability.detail}"


def _advice(number: int, advice: Advice) -> Iterator[str]:
    yield f"  {number}. {advice.title} [{advice.code}]"
    for unlocks in _grouped(advice.unlocks):
        yield f"       -> {unlocks}"
    yield f"     why: {advice.detail}"
    yield from (f"          {e.file}: {e.value}" for e in advice.evidence)
    how = "clienthv doctor --fix" if advice.fixable else "by hand"
    yield f"     how ({how}{_AFTER[advice.after]}):"
    yield from (f"       - {step}" for step in advice.steps)


def _grouped(unlocks: tuple[Unlocks, ...]) -> Iterator[str]:
    """What is unlocked, the same for several profiles in one line."""
    profiles: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in unlocks:
        what = f"{one.kind} {one.strategy}" + (f" of {one.device}" if one.device else "")
        profiles.setdefault((what, one.also), []).append(one.profile)
    for (what, also), names in profiles.items():
        yield f"{what} for {', '.join(names)}" + (f" (together with {', '.join(also)})" if also else "")

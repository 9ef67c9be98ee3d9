"""What two plans for one VM do not have in common, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from clienthv.model.plan import HOST_DEVICES, Decision, Plan


def between(before: Plan, after: Plan, *, was: str = "was to be") -> Iterator[str]:
    """Every device that is given in another way, or another device, with the reason.

    Virtual functions of one card are as good as each other. ``was`` says of the earlier plan what became of it.
    """
    known = {decision.name: decision for decision in before.decisions}
    for decision in after.decisions:
        had = known.get(decision.name)
        if had is not None and _what(had) != _what(decision):
            yield f"{decision.name} {was} {_words(had)} and is {_words(decision)}{_why(had, decision)}"
    had_pages = before.extras and before.extras.hugepages_kib
    if had_pages and not (after.extras and after.extras.hugepages_kib):
        yield f"the VM's memory {was} huge pages and is ordinary memory"


def _what(decision: Decision) -> tuple[str, str | None, str]:
    of = decision.virtual_function
    device = of.physfn if of is not None else decision.device if decision.strategy in HOST_DEVICES else decision.model
    return decision.strategy.value, device, str(decision.network or "")


def _words(decision: Decision) -> str:
    names = [n for n in (decision.device or decision.model, str(decision.network or "")) if n and n != "none"]
    return f"{decision.strategy}" + (f" ({', '.join(names)})" if names else "")


def _why(had: Decision, now: Decision) -> str:
    """Why what a VM was to have is not possible any more."""
    known = set(had.rejected)
    new = [r for r in now.rejected if r not in known and r.strategy is had.strategy]
    same = [r for r in new if had.device is None or r.device == had.device]
    return f": {(same or new)[0].detail} [{(same or new)[0].reason}]" if new else ""

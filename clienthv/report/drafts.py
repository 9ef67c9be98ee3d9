"""What an answer means for a VM, in a line or two: what each device becomes, and whether that ties it to the PC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from clienthv.drafts import Gpu
from clienthv.model.devices import Reset
from clienthv.model.plan import HOST_DEVICES, Decision, Kind, Plan, Strategy
from clienthv.report import plans
from clienthv.report.style import Line, Part, Role, below, marked

_ARROW: Final = "  → "
_RESETS: Final = {
    Reset.RESTARTABLE: "",
    Reset.ONCE_PER_BOOT: "; works for one start of the VM, and then often not until this PC is restarted",
    Reset.UNKNOWN: "; whether it works for a second start of the VM is not known",
}
_TIES: Final = frozenset({*HOST_DEVICES, Strategy.MDEV})


def consequences(before: Plan | None, after: Plan, asked: tuple[str, ...] = ()) -> Iterator[Line]:
    """What changed between two plans, with the reasons against devices that were ``asked`` for and are not given."""
    if before is None:
        given = ", ".join(f"{d.kind} {d.strategy}" for d in after.decisions)
        yield _line(f"on {after.host}: {given}")
    else:
        changes = list(_changes(before, after))
        yield from changes or [_line("changes nothing on this PC")]
    for decision in after.decisions:
        for refused in decision.rejected:
            if refused.device in asked and decision.device != refused.device:
                for line in plans.why_not(refused):
                    yield below(Line(f"{decision.kind}: ", line, hang=4), len(_ARROW))
    if before is None or _tie(before) != _tie(after):
        yield _line(_tie(after))


def _changes(before: Plan, after: Plan) -> Iterator[Line]:
    known = {decision.name: decision for decision in before.decisions}
    for decision in after.decisions:
        if _shown(decision) != _shown(known.get(decision.name)):
            yield _line(f"{decision.kind}: {decision.strategy}: {plans.what(decision)}")
    if (size := plans.size(after)) != plans.size(before):
        yield _line(f"size: {size}")
    warned = {w.code for w in before.warnings}
    new = [w for w in after.warnings if w.code not in warned]
    if len(new) == 1:
        yield below(plans.warning(new[0]), 2)
    elif new:
        codes = ", ".join(dict.fromkeys(f"[{w.code}]" for w in new))
        yield Line("    ", Part("warnings:", Role.WARNING), " ", marked(f"{codes}; clienthv plan tells more"), hang=6)
    if after.host_changes and not before.host_changes:
        count = len(after.host_changes)
        yield _line(
            f"up changes {count} thing{'s' if count > 1 else ''} on the host while it runs; down sets them back"
        )


def _line(text: str) -> Line:
    return Line(_ARROW, marked(text), hang=len(_ARROW) + 2)


def _shown(decision: Decision | None) -> tuple[object, ...]:
    if decision is None:
        return ()
    return decision.strategy, decision.device, decision.model, decision.functions, decision.backing


def _tie(plan: Plan) -> str:
    """What binds a VM to the PC."""
    tied = [d.kind.value for d in plan.decisions if d.strategy in _TIES]
    if tied:
        return f"tied to this PC by its {' and '.join(dict.fromkeys(tied))}"
    processor = next((d.model for d in plan.decisions if d.kind is Kind.CPU), None)
    if processor == "host-passthrough":
        return "moves to another PC when it is off: its processor is this PC's"
    if processor == "host-model":
        return "moves to another PC; while it runs only to one whose processor has all that this one's has"
    return "nothing ties it to this PC"


def gpu_choices(gpus: tuple[Gpu, ...]) -> Iterator[Line]:
    """The graphics cards of a PC as numbered choices, with what each means; those that it needs without a number."""
    yield Line("  virtual: no card is handed over, and the VM still moves", hang=5)
    yield Line("  auto: whatever the profile's ladder finds free when the VM starts", hang=5)
    for number, gpu in enumerate(gpus, 1):
        along = f", with {', '.join(gpu.device.along)}" if gpu.device.along else ""
        lead = f"  {number if gpu.free else '-'}  "
        name = marked(f"{gpu.address} {gpu.device.name}{along}: ")
        if gpu.free:
            told = f": native speed, ties the VM to this PC{_RESETS[gpu.device.reset]}"
            yield Line(lead, name, Part("free", Role.GOOD), told, hang=5)
            continue
        refused = gpu.device.objections[0]
        told = marked(f"{refused.detail} [{refused.reason}]")
        yield Line(lead, name, Part("not as things are", Role.BAD), ": ", told, hang=5)
        if gpu.roles:
            yield Line("     ", Part("type its address", Role.WARNING), " if you mean it all the same", hang=5)


def danger(text: str) -> Line:
    """What the host loses."""
    return Line("  ", Part("danger:", Role.BAD), " ", marked(text), hang=10)


def portability_choices(about: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """The profiles that one can start from, and what each is."""
    width = max(len(name) for name, _ in about)
    for name, description in about:
        yield Line(f"  {name:<{width}}  {description}", hang=width + 4)


def usb_choices(devices: list[tuple[str, str]]) -> Iterator[Line]:
    """USB devices as numbered choices: how a profile names each, and what it is."""
    for number, (name, label) in enumerate(devices, 1):
        yield Line(f"  {number}  {name}  {label}", hang=5)

"""The ladder of one device as a story: what was taken, all that speaks against each better rung, what it would fall to.

What it would fall to is asked of the planner, as ``up`` does when a start fails: the plan without that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from clienthv import planner
from clienthv.errors import PlanError, UsageError
from clienthv.model.explanation import Explanation, Ladder, Objection, Place, Portable, Possible, Refused, Rung
from clienthv.model.guest import GuestOs
from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, STRATEGIES, Decision, Kind, Plan, Reason, Rejected, Strategy
from clienthv.model.profile import Profile
from clienthv.model.usb import UsbName
from clienthv.model.values import PciAddress
from clienthv.strategies import Failed, Kept
from clienthv.strategies.evidence import of_decision, of_rejected

MOST: Final = 7
"""How many ways are shown that a device would fall to: ``up`` starts a VM eight times at most."""

_TRIED: Final = "the way above did not start"
_USB_RUNGS: Final = (Strategy.PASSTHROUGH, Strategy.OMIT)
_TIED: Final = (*HOST_DEVICES, Strategy.MDEV)

_Ask = Callable[[tuple[Failed, ...]], Plan]


def explain(
    host: Host,
    profile: Profile,
    what: str,
    *,
    kept: Kept | None = None,
    guest: GuestOs | None = None,
    vm: str | None = None,
) -> Explanation:
    """The ladders that ``what`` means: a kind, a device's name in the plan, a PCI address or a USB device. Pure.

    ``kept`` is what the VM ``vm``, which is there, has had. Raises UsageError, and what the planner does.
    """

    def ask(failed: tuple[Failed, ...]) -> Plan:
        return planner.plan(host, profile, kept=kept, guest=guest, failed=failed)

    plan = ask(())
    ladders = tuple(_ladder(decision, host, profile, ask) for decision in meant(plan, what))
    return Explanation(vm=vm, profile=plan.profile, host=host.name, ladders=ladders)


def meant(plan: Plan, what: str) -> tuple[Decision, ...]:
    """The decisions that a kind, a name of the plan, a PCI address or a USB device means. Raises UsageError."""
    kinds = [kind.value for kind in Kind]
    found = tuple(d for d in plan.decisions if what in (d.kind, d.name))
    if found:
        return found
    if what == Kind.USB_DEVICE:
        msg = f"the profile {plan.profile} names no USB device"
        raise UsageError(msg, hint='name one in the profile: [devices.usb] devices = ["046d:c52b"]')
    device = _device(what)
    if device is None:
        msg = f"{what!r} is no kind of device, and no PCI address or USB device either"
        raise UsageError(msg, hint=f"give one of {', '.join(kinds)}, or an address such as 0000:01:00.0")
    touched = tuple(d for d in plan.decisions if device in (d.device, *d.functions, *(r.device for r in d.rejected)))
    if not touched:
        msg = f"no ladder of the profile {plan.profile} comes to {device}"
        raise UsageError(msg, hint="clienthv devices says of every PCI device whether a guest can get it")
    return touched


def _device(what: str) -> str | None:
    """A PCI address or a USB device as plans write it; None where it is neither."""
    for parse in (PciAddress.parse, UsbName.parse):
        try:
            return str(parse(what))
        except ValueError:
            continue
    return None


class _Climbed(NamedTuple):
    """A ladder from its top to its end: the ways that are possible in their order, and all that was refused."""

    ways: tuple[Decision, ...]
    rejected: tuple[Rejected, ...]
    cut_short: bool


def _climbed(decision: Decision, ask: _Ask) -> _Climbed:
    """Every way down the ladder, by taking away each that would be taken."""
    ways, rejected = [decision], dict.fromkeys(decision.rejected)
    while len(ways) <= MOST + 1:
        try:
            below = next(d for d in ask(tuple(Failed(decision=d, words=_TRIED) for d in ways)).decisions
                         if d.name == decision.name)  # fmt: skip
        except planner.NoRungError as e:
            # The end of this ladder; where another one ended, what it refused says nothing of this.
            if rejected.keys() <= set(e.rejected):
                rejected.update(dict.fromkeys(e.rejected))
            return _Climbed(tuple(ways), tuple(rejected), cut_short=False)
        except PlanError:
            return _Climbed(tuple(ways), tuple(rejected), cut_short=False)
        rejected.update(dict.fromkeys(below.rejected))
        if below.strategy is Strategy.OMIT and below.strategy is ways[-1].strategy:
            return _Climbed(tuple(ways), tuple(rejected), cut_short=False)
        ways.append(below)
    return _Climbed(tuple(ways[:-1]), tuple(rejected), cut_short=True)


def _ladder(decision: Decision, host: Host, profile: Profile, ask: _Ask) -> Ladder:
    climbed = _climbed(decision, ask)
    strategies = _USB_RUNGS if decision.kind is Kind.USB_DEVICE else profile.ladder(decision.kind)
    return Ladder(
        device=decision.kind,
        name=decision.name,
        taken=decision.strategy,
        rungs=tuple(_rungs(climbed, strategies, host)),
        cut_short=climbed.cut_short,
        unasked=tuple(_unasked(decision, strategies)),
        portable=_portable(climbed, strategies),
    )


def _unasked(decision: Decision, ladder: tuple[Strategy, ...]) -> Iterator[Strategy]:
    known = STRATEGIES.get(decision.kind, ladder)
    yield from (s for s in known[: known.index(decision.strategy)] if s not in ladder)


def _rungs(climbed: _Climbed, strategies: tuple[Strategy, ...], host: Host) -> Iterator[Rung]:
    """The rungs from the top; that which was taken a second time for what comes after the taken way on it."""
    taken = climbed.ways[0]
    here = strategies.index(taken.strategy)
    for number, strategy in enumerate(strategies):
        against = [r for r in climbed.rejected if r.strategy is strategy and r.reason is not Reason.START_FAILED]
        ways = [way for way in climbed.ways if way.strategy is strategy]
        if number < here:
            yield _rung(strategy, Place.BETTER, against, ways, taken.kind, host)
            continue
        if number == here:
            before = [r for r in against if r in taken.rejected]
            yield _rung(strategy, Place.TAKEN, before, ways[:1], taken.kind, host)
            against, ways = [r for r in against if r not in taken.rejected], ways[1:]
        if against or ways or number > here:
            yield _rung(strategy, Place.BELOW, against, ways, taken.kind, host)


def _rung(
    strategy: Strategy, place: Place, against: Iterable[Rejected], ways: Iterable[Decision], kind: Kind, host: Host
) -> Rung:
    by_device: dict[str | None, list[Rejected]] = {}
    for rejected in against:
        by_device.setdefault(rejected.device, []).append(rejected)
    return Rung(
        strategy=strategy,
        place=place,
        refused=tuple(_refused(device, found, kind, host) for device, found in by_device.items()),
        possible=tuple(_possible(way, host) for way in ways),
    )


def _refused(device: str | None, against: Iterable[Rejected], kind: Kind, host: Host) -> Refused:
    return Refused(
        device=device,
        name=_name(device, host),
        objections=tuple(
            Objection(reason=r.reason, detail=r.detail, fix=r.fix, evidence=of_rejected(r, host, kind)) for r in against
        ),
    )


def _name(device: str | None, host: Host) -> str | None:
    function = host.by_address.get(device or "")
    if function is not None:
        return function.label
    return next((u.label for u in host.usb or () if device in (u.ids, f"{u.ids}@{u.port}")), None)


def _possible(way: Decision, host: Host) -> Possible:
    return Possible(
        device=way.device,
        functions=way.functions,
        model=way.model,
        backing=way.backing,
        why=way.why,
        evidence=of_decision(way, host),
    )


def _portable(climbed: _Climbed, ladder: tuple[Strategy, ...]) -> Portable:
    """What ties the taken way to this PC, and what would untie it."""
    taken = climbed.ways[0]
    tied = _tied(taken)
    if tied is None:
        return Portable(detail=_LOOSE.get((taken.kind, taken.strategy), _EVERYWHERE), change=None)
    return Portable(detail=tied, change=_untied(taken, climbed.ways[1:], ladder, cut_short=climbed.cut_short))


_EVERYWHERE: Final = "nothing; it is the same on every PC with QEMU"
_IMAGE: Final = "nothing but its image, which has to go along"
_LOOSE: Final = {
    (Kind.CPU, Strategy.BINARY_TRANSLATION): "nothing; it is translated on every PC, many times slower",
    (Kind.FIRMWARE, Strategy.UEFI): "another PC needs UEFI firmware files too (OVMF)",
    (Kind.FIRMWARE, Strategy.UEFI_SECURE_BOOT): "another PC needs UEFI firmware files with Secure Boot too (OVMF)",
    (Kind.DISK, Strategy.PARAVIRTUAL): _IMAGE,
    (Kind.DISK, Strategy.EMULATED): _IMAGE,
    (Kind.TPM, Strategy.EMULATED): "another PC needs swtpm too; the state of the TPM goes along with the VM",
    (Kind.DISPLAY, Strategy.PARAVIRTUAL): "a QEMU with SPICE, which not every one has",
}


def _tied(taken: Decision) -> str | None:
    """What of this PC a decision needs on another one too; None where that is nothing to speak of."""
    if taken.kind is Kind.USB_DEVICE and taken.strategy is Strategy.PASSTHROUGH:
        return f"{taken.backing}: on another PC it has to be plugged in too, else the VM goes without it"
    if taken.kind is Kind.CPU and taken.strategy is Strategy.HARDWARE_VIRTUALIZATION:
        return _CPU.get(taken.model, f"a processor with all of {taken.model}, and KVM")
    if taken.strategy in _TIED:
        return f"the guest sees {taken.backing} itself, and another PC needs its like"
    if taken.strategy is Strategy.PARAVIRTUAL_3D:
        return "another PC needs a GPU with a render node too, and a QEMU with OpenGL"
    if taken.kind is Kind.NIC and taken.network is not None:
        return f"another PC needs {taken.backing} too"
    return None


_CPU: Final = {
    "host-passthrough": "the guest sees this very processor: while it runs it can only be moved to one alike",
    "host-model": "the guest sees what this processor has: while it runs it can only be moved to one with all of that",
}


def _untied(
    taken: Decision, below: tuple[Decision, ...], ladder: tuple[Strategy, ...], *, cut_short: bool
) -> str | None:
    """The change to the profile after which the device would be tied to less."""
    if taken.kind is Kind.USB_DEVICE:
        return None
    if taken.kind is Kind.CPU:
        if taken.model not in _CPU:
            return None
        return (
            'a level that the PCs share: [devices.cpu] model = "x86-64-v2" (clienthv fleet FILE... names the highest)'
        )
    if taken.kind is Kind.NIC and taken.network is not None and taken.strategy not in _TIED:
        return '[devices.nic] network = ["user"]: QEMU\'s own network, the same on every PC'
    free = next((way for way in below if _tied(way) is None and way.strategy is not Strategy.OMIT), None)
    if free is not None:
        return f'[devices.{taken.kind}] prefer = ["{free.strategy}"]: {free.why}'
    virtual = (Strategy.PARAVIRTUAL, Strategy.EMULATED)
    other = next((s for s in virtual if s in STRATEGIES[taken.kind] and (s not in ladder or cut_short)), None)
    return f'[devices.{taken.kind}] prefer = ["{other}"]' if other is not None else None

"""The choice: for every kind of device the first rung without an objection, and groups that move whole.

A pure function of a host document and a profile. Each kind's rules object on their own; one rule can only be seen
over all choices together: an IOMMU group moves whole or not at all. It is run to a fixpoint. Objections only
accumulate, so it ends (docs/adr/0002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec.structs import replace

from clienthv.errors import PlanError
from clienthv.model.guest import GuestOs
from clienthv.model.host import Host
from clienthv.model.plan import (
    HOST_DEVICES,
    STRATEGIES,
    Decision,
    Kind,
    Plan,
    Reason,
    Rejected,
    Strategy,
)
from clienthv.model.profile import Profile
from clienthv.model.usb import UsbWish
from clienthv.strategies import (
    RULES,
    Failed,
    Kept,
    Option,
    Question,
    consequences,
    extras,
    others,
    pci,
    selecting,
    size,
    system,
    usb_device,
)
from clienthv.strategies.claims import Claim, claims
from clienthv.strategies.frame import again, failed_before, reject


def plan(
    host: Host,
    profile: Profile,
    refused: Mapping[str, str] = MappingProxyType({}),
    kept: Kept | None = None,
    guest: GuestOs | None = None,
    failed: tuple[Failed, ...] = (),
) -> Plan:
    """Decide every device of a VM.

    ``refused`` is what the host refused when it was asked a moment ago, with what was said: physical functions by
    address, pools of huge pages by their size. ``kept`` is what a VM that is there had: a better rung is offered and
    not taken. ``guest`` is what is known of the operating system, ``failed`` what a start failed of. Raises HostError
    when the host is too small for the profile, PlanError when a ladder has no rung left.
    """
    question = again(ask(host, profile, refused, kept, guest), failed=failed)
    memory_mib = size.memory_mib(host, profile, refused)
    return finish(settle(question, Judged()), memory_mib)


def ask(
    host: Host,
    profile: Profile,
    refused: Mapping[str, str] = MappingProxyType({}),
    kept: Kept | None = None,
    guest: GuestOs | None = None,
) -> Question:
    """What is asked of the rules, with the profile's selectors found on the host. Raises PlanError."""
    exact = selecting.exact(profile, host)
    resolved = selecting.resolved(profile, host)
    return Question(host, resolved, refused=refused, kept=kept or Kept(), exact=exact, known_guest=guest)


class NoRungError(PlanError):
    """A ladder of which no rung is possible: all that was rejected, and what to do where nothing says so."""

    def __init__(self, words: str, rejected: Iterable[Rejected], lenient: str) -> None:
        self.words = words
        self.rejected = tuple(rejected)
        self.lenient = lenient
        reasons = [f"not {r.strategy}: {r.detail} [{r.reason}]" for r in self.rejected]
        fixes = [r.fix for r in self.rejected if r.fix]
        super().__init__("\n  ".join([words, *reasons]), hint=fixes[0] if fixes else lenient)


class Judgement(NamedTuple):
    """An option, what its kind's own rules say against it, what it claims, and its place on its rung."""

    option: Option
    objections: tuple[Rejected, ...]
    claims: Mapping[str, Claim]
    place: int


class Judged:
    """Every option of a host and what speaks against it; worked out when it is first asked for.

    What other VMs have changes neither, but for which of a card's virtual functions comes next; and of a profile the
    rules of a kind see its table and the guest alone: so several VMs can share what was worked out for one.
    """

    def __init__(self) -> None:
        self._rungs: dict[tuple[Any, ...], tuple[Judgement, ...]] = {}

    def rung(self, kind: Kind, strategy: Strategy, question: Question) -> tuple[Judgement, ...]:
        """The ways to carry out a strategy, judged."""
        taken = question.taken if strategy is Strategy.VF else frozenset[str]()
        key = kind, strategy, question.seen_by(kind), taken
        if key not in self._rungs:
            options = others.defined_last(RULES[kind].options(strategy, question), question.host)
            known = _as_before(options, question.kept.decisions.get(kind))
            self._rungs[key] = tuple(
                Judgement(o, tuple(RULES[kind].objections(o, question)), claims(o, kind, question), place)
                for place, o in enumerate(known)
            )
        return self._rungs[key]


class Settled(NamedTuple):
    """All decisions of a VM, what they claim, and how far each is below the top of its ladder: rung, then place."""

    question: Question
    decisions: Mapping[Kind, Decision]
    usb_devices: tuple[Decision, ...]
    claims: Mapping[str, Claim]
    rungs: int
    places: int


def settle(question: Question, judged: Judged) -> Settled:
    """Decide every device, without what follows from the decisions. Raises PlanError."""
    climbs: dict[Kind, _Climb] = {kind: _Climb(kind, question, judged) for kind in STRATEGIES if kind is not Kind.INPUT}
    _settle(list(climbs.values()), question.host)
    settled = {kind: climb.decision() for kind, climb in climbs.items()}
    moving = frozenset(address for decision in settled.values() for address in decision.functions)
    later = again(question, usb=settled[Kind.USB].strategy, moving=moving)
    climbs[Kind.INPUT] = _Climb(Kind.INPUT, later, Judged())
    settled[Kind.INPUT] = climbs[Kind.INPUT].decision()
    usb_devices = tuple(_usb_device(number, name, later) for number, name in enumerate(usb_device.named(later)))
    held: dict[str, Claim] = {}
    for got in (*(c.here.claims for c in climbs.values() if c.here), *_usb_claims(usb_devices, later)):
        for key, claim in got.items():
            had = held.get(key)
            held[key] = claim if had is None else had._replace(amount=had.amount + claim.amount)
    rungs = sum(question.profile.ladder(kind).index(d.strategy) for kind, d in settled.items())
    # What a card is plugged into is a ladder of its own within a rung.
    plugged = climbs[Kind.NIC].here
    rungs += plugged.place if plugged is not None and plugged.option.strategy not in HOST_DEVICES else 0
    places = sum(climb.here.place for climb in climbs.values() if climb.here)
    return Settled(later, settled, usb_devices, held, rungs + sum(d.device is None for d in usb_devices), places)


def _usb_claims(decisions: tuple[Decision, ...], question: Question) -> Iterator[Mapping[str, Claim]]:
    return (claims(decision, Kind.USB_DEVICE, question) for decision in decisions)


def finish(settled: Settled, memory_mib: int) -> Plan:
    """The plan of a VM of this many MiB. Raises HostError."""
    question = settled.question
    host, profile = question.host, question.profile
    vcpus, memory_mib = size.within(question.guest, size.vcpus(host, profile), memory_mib)
    usb = sum(d.device is not None and not d.functions for d in settled.usb_devices)
    extra = extras.given(question, settled.decisions, usb, vcpus, memory_mib)
    decisions = tuple(
        d for kind in Kind for d in (settled.usb_devices if kind is Kind.USB_DEVICE else (settled.decisions[kind],))
    )
    return Plan(
        profile=profile.name,
        host=host.name,
        vcpus=vcpus,
        memory_mib=memory_mib,
        decisions=decisions,
        host_changes=(
            *extra.changes,
            *consequences.host_changes(decisions, question),
            *consequences.usb_changes(decisions, host),
        ),
        warnings=(*consequences.warnings(decisions, question, vcpus, memory_mib), *extra.warnings),
        board=system.board(question.guest),
        extras=extra.extras,
    )


class _Climb:
    """One kind's way down its ladder: where it stands and what was rejected on the way. It only ever goes down."""

    def __init__(self, kind: Kind, question: Question, judged: Judged) -> None:
        self.kind = kind
        self._question = question
        self._judged = judged
        self.rejected: list[Rejected] = []
        self._below = self._candidates()
        self.here = next(self._below, None)

    def _candidates(self) -> Iterator[Judgement]:
        """Every option without an objection of its own, from the top; the others leave their objections behind."""
        ladder, had = self._question.profile.ladder(self.kind), self._question.kept.decisions.get(self.kind)
        place_kept = ladder.index(had.strategy) if had is not None and had.strategy in ladder else 0
        for place, strategy in enumerate(ladder):
            if strategy in self._question.profile.device(self.kind).forbid:
                self.rejected.append(_forbidden(self.kind, strategy))
                continue
            rung = self._judged.rung(self.kind, strategy, self._question)
            for judgement in rung:
                objections = judgement.objections
                if not objections and (failed := failed_before(judgement.option, self.kind, self._question)):
                    objections = (failed,)
                if not objections and had is not None and place < place_kept:
                    objections = (_kept(judgement.option, had),)
                if not objections:
                    objections = tuple(_given(judgement.option, judgement.claims, self._question))
                self.rejected.extend(objections)
                if not objections:
                    yield judgement
            if not rung:
                self.rejected.append(_nothing_there(self.kind, strategy, self._question))

    def step_down(self, objection: Rejected) -> None:
        """Give up the present option for good."""
        self.rejected.append(objection)
        self.here = next(self._below, None)

    def decision(self) -> Decision:
        """What this kind ends up with. Raises PlanError."""
        if self.here is None:
            ladder = ", ".join(self._question.profile.ladder(self.kind))
            msg = f"nothing on the {self.kind} ladder ({ladder}) is possible on {self._question.host.name}"
            lenient = f"put another strategy for {self.kind} at the end of its ladder"
            if self._question.profile.device(self.kind).require:
                lenient = f"take devices.{self.kind}.require out of the profile"
            raise NoRungError(msg, self.rejected, lenient)
        return _decision(self.kind, 0, self.here.option, self.rejected)


def _as_before(options: Iterable[Option], had: Decision | None) -> tuple[Option, ...]:
    """The options of a rung: first the device that the VM had, and virtual ones as the models that it had."""
    if had is None:
        return tuple(options)
    card = had.virtual_function.physfn if had.virtual_function is not None else None

    def is_other(option: Option) -> bool:
        of = option.virtual_function
        if option.strategy is Strategy.MDEV and option.model != had.model:
            return True
        return option.device != had.device and (of is None or of.physfn != card)

    def as_known(option: Option) -> Option:
        # What points and types follows from USB, which may be another now.
        virtual = option.device is None and had.device is None and had.kind is not Kind.INPUT
        return replace(option, model=had.model) if virtual and option.strategy is had.strategy else option

    return tuple(sorted(map(as_known, options), key=is_other))


def _kept(option: Option, had: Decision) -> Rejected:
    """The objection to what became possible after the VM's first start: its guest has set up something else."""
    return reject(
        option,
        Reason.KEPT,
        f"possible, but the VM has had {had.strategy} and its guest knows that device",
        f"clienthv up NAME --upgrade {had.kind}",
    )


def _decision(kind: Kind, number: int, taken: Option, rejected: Iterable[Rejected]) -> Decision:
    return Decision(
        kind=kind,
        name=f"{kind}{number}",
        strategy=taken.strategy,
        device=taken.device,
        functions=taken.functions,
        model=taken.model,
        backing=taken.backing,
        why=taken.why,
        rejected=tuple(rejected),
        virtual_function=taken.virtual_function,
        render_node=taken.render_node,
        network=taken.network,
        evdev=taken.evdev,
    )


def _usb_device(number: int, name: UsbWish, question: Question) -> Decision:
    """One USB device: handed over, or left out with all that speaks against it."""
    option = usb_device.handed_over(name, question)
    rejected = tuple(usb_device.objections(option, name, question))
    if not rejected and (failed := failed_before(option, Kind.USB_DEVICE, question)):
        rejected = (failed,)
    if not rejected and question.taken | question.not_alone:
        rejected = tuple(_given(option, claims(option, Kind.USB_DEVICE, question), question))
    return _decision(Kind.USB_DEVICE, number, usb_device.left_out(name) if rejected else option, rejected)


def _given(option: Option, wants: Mapping[str, Claim], question: Question) -> Iterator[Rejected]:
    """An objection to what another VM of a joint plan has. ``joint`` puts that VM's name into it."""
    for key, claim in wants.items():
        if key in question.taken or (claim.alone and key in question.not_alone):
            yield reject(option, Reason.GIVEN_TO_OTHER_VM, key)
            return


def _forbidden(kind: Kind, strategy: Strategy) -> Rejected:
    return Rejected(
        strategy=strategy,
        device=None,
        reason=Reason.FORBIDDEN,
        detail=f"the profile forbids {strategy} for {kind}",
        fix=f"take it out of devices.{kind}.forbid",
    )


def _nothing_there(kind: Kind, strategy: Strategy, question: Question) -> Rejected:
    what = "virtual function" if strategy is Strategy.VF else f"device for {kind}"
    return Rejected(
        strategy=strategy,
        device=None,
        reason=Reason.NO_SUCH_DEVICE,
        detail=f"{question.host.name} has no {what} that could be handed over",
    )


def _settle(climbs: list[_Climb], host: Host) -> None:
    """Let every choice step down that would tear an IOMMU group apart, until none does.

    All are judged against the same set of choices before any steps down, so their order does not matter.
    """
    while True:
        chosen = [(c, c.here.option) for c in climbs if c.here is not None and c.here.option.strategy in HOST_DEVICES]
        moving = {address for _, option in chosen for address in option.functions}
        torn = [
            (climb, objection)
            for climb, option in chosen
            if (objection := pci.torn_group(option, moving, host) or _card_moves(option, moving))
        ]
        if not torn:
            return
        for climb, objection in torn:
            climb.step_down(objection)


def _card_moves(option: Option, moving: set[str]) -> Rejected | None:
    """An objection to a virtual function that would be made on a card which goes to the guest itself."""
    of = option.virtual_function
    if of is None or of.physfn not in moving:
        return None
    return Rejected(
        strategy=option.strategy,
        device=of.physfn,
        reason=Reason.NO_VF_CREATED,
        detail=f"{of.physfn} itself goes to the guest, and its own driver alone creates virtual functions",
        fix=f"take {of.physfn} out of select",
    )

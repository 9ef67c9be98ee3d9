"""A verdict for every PCI function: what the planner would say if a profile named exactly that one.

The rules are those of ``pci``; here they are asked of each function on its own. A group mate that works counts as
going along where nothing speaks against that either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

import msgspec

from clienthv.model.devices import Device, Devices, Verdict
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import HOST_DEVICES, Kind, Rejected, Strategy, Warned
from clienthv.model.profile import Device as Wanted
from clienthv.model.profile import Devices as Tables
from clienthv.model.profile import Profile
from clienthv.strategies import RULES, Option, Question, cautions, pci, reset, screens

_KINDS: Final = (Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB)
# Which of a profile's tables names a function that no kind covers decides nothing: the rules for all are the same.
_ANY_KIND: Final = Kind.USB
_USES: Final = frozenset(reason for reason, _ in pci.ROLE_REASONS.values())
_UNREAD: Final = frozenset(reason for reason, _ in pci.UNREAD.values())
_INSPECT: Final = "run clienthv inspect --save on that PC"


def verdicts(host: Host) -> Devices:
    """Every PCI function that is no bridge, with its verdict. Pure: the same host gives the same document."""
    asked = _Asked(host)
    devices = tuple(_device(host.by_address[address], asked) for address in asked.alone)
    return Devices(host=host.name, devices=devices, warnings=tuple(_warnings(devices, host)))


class _Asked(msgspec.Struct, frozen=True, dict=True):
    """One host, and what speaks against each of its functions moving with no more than its own card."""

    host: Host

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """What kind of device the planner could make of a function, by address."""
        question = Question(self.host, Profile())
        ways = ((kind, o) for kind in _KINDS for s in HOST_DEVICES for o in RULES[kind].options(s, question))
        return {option.device: kind for kind, option in ways if option.device in option.functions}

    @cached_property
    def alone(self) -> Mapping[str, tuple[Rejected, ...]]:
        """The objections to each function that is no bridge, in address order, but for the unity of groups."""
        functions = (f for f in sorted(self.host.pci, key=lambda f: f.place) if f.address not in self.host.bridges)
        return {f.address: tuple(self.objections(f, _option(f, self.card(f)))) for f in functions}

    def card(self, function: PciFunction) -> tuple[str, ...]:
        """The functions that cannot be parted from this one: a graphics card's own, whichever of them is asked for."""
        gpus = [f for f in self.host.by_slot[function.place.slot] if screens.is_gpu(f)]
        whole = next((c for gpu in gpus if function in (c := pci.companions(self.host, gpu))), None)
        return tuple(f.address for f in whole or pci.companions(self.host, function))

    def serves_as(self, function: PciFunction) -> Kind | None:
        """The kind of device that a function can be for a guest: its own, or its graphics card's."""
        own = self.kinds.get(function.address)
        return own or next((Kind.GPU for a in self.card(function) if self.kinds.get(a) is Kind.GPU), None)

    def objections(self, function: PciFunction, option: Option) -> Iterator[Rejected]:
        """What speaks against an option when a profile names its device, this function, and allows nothing."""
        kind = self.serves_as(function)
        named = {(kind or _ANY_KIND).value: Wanted(select=(function.address,))}
        question = Question(self.host, Profile(devices=Tables(**named)))
        found = pci.passthrough(option, question, kind or _ANY_KIND)
        return found if kind is not None else map(_without_profile, found)


def _option(function: PciFunction, functions: Iterable[str]) -> Option:
    """Handing a function over with these."""
    strategy = Strategy.PASSTHROUGH if function.physfn is None else Strategy.VF
    return pci.option(strategy, function, tuple(sorted(functions)), "")


def _without_profile(objection: Rejected) -> Rejected:
    """An objection to what no profile can name: only the use itself can end, or be looked for."""
    if objection.reason in _UNREAD:
        return msgspec.structs.replace(objection, fix=_INSPECT)
    if objection.reason in _USES:
        return msgspec.structs.replace(objection, fix="end that use on the host")
    return objection


def _device(function: PciFunction, asked: _Asked) -> Device:
    along, objections = _with_group(function, asked)
    others = tuple(a for a in along if a != function.address)
    return Device(
        address=function.address,
        iommu_group=function.iommu_group,
        name=function.label,
        verdict=Verdict.NO if objections else Verdict.YES_WITH if others else Verdict.YES,
        along=() if objections else others,
        serves_as=asked.serves_as(function),
        objections=objections,
        reset=reset.judged(function, along or asked.card(function), asked.host).reset,
    )


def _with_group(function: PciFunction, asked: _Asked) -> tuple[tuple[str, ...], tuple[Rejected, ...]]:
    """All that goes when a function takes its card and its IOMMU groups along, and what speaks against that.

    What is said of the function already is not said again of those that would go along.
    """
    own = asked.alone[function.address]
    said = {(r.reason, r.detail) for r in own}

    def stays(address: str) -> bool:
        return address in asked.host.bridges or any((r.reason, r.detail) not in said for r in asked.alone[address])

    card = set(asked.card(function))
    option = _option(function, card | {mate for mate in _closed(card, asked) - card if not stays(mate)})
    if (torn := pci.torn_group(option, option.functions, asked.host)) is not None:
        return (), (*own, torn)
    together = [r for r in asked.objections(function, option) if (r.reason, r.detail) not in said]
    return option.functions, (*own, *together)


def _closed(functions: Iterable[str], asked: _Asked) -> set[str]:
    """These functions with every working mate of their IOMMU groups, its card, the groups of that, and so on."""
    everything = set(functions)
    while left := pci.staying(everything, everything, asked.host):
        for mate in left:
            everything.update({mate.address} if mate.address in asked.host.bridges else asked.card(mate))
    return everything


def _warnings(devices: tuple[Device, ...], host: Host) -> Iterator[Warned]:
    """What the planner would warn of for those that can be handed over."""
    yield from cautions.stack_unknown(host)
    free = [d for d in devices if d.verdict is not Verdict.NO]
    if not free:
        return
    yield from cautions.interrupts_unknown(host, "every yes")
    yield from cautions.unsafe_interrupts(host, "every yes")
    yield from cautions.acs_override(host, "every yes")
    for device in free:
        yield from cautions.usb_with_gpu(host, host.by_address[device.address], device.address)

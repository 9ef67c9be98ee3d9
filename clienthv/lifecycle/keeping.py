"""What stays the same for a VM that is there: its rungs, its devices by identity, and what its guest sees where.

A guest remembers its hardware: Windows sets devices up anew, and may ask to be activated again, when they change. So
a VM keeps the strategies it started with while they are possible, a better one is offered and never taken unasked
(docs/adr/0011), and an address in its profile means the device that was there when the VM last started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from clienthv.lifecycle.remembered import Remembered
from clienthv.model import identity
from clienthv.model import profile as profile_model
from clienthv.model.guest import GuestOs
from clienthv.model.host import Host, PciFunction
from clienthv.model.identity import Identity
from clienthv.model.mdev import uuid_of
from clienthv.model.plan import Decision, Extras, Kind, Plan, Reason, Strategy
from clienthv.model.profile import Profile
from clienthv.model.vm import Seen
from clienthv.strategies import Failed, Kept

KEPT_KINDS: Final = (Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB, Kind.INPUT, Kind.TPM)
"""The kinds whose devices a guest sets up. How its instructions run, and how a person looks at it, are none of them."""


class Asked(NamedTuple):
    """What to plan for: the profile with its devices found again, what the VM keeps, what its guest is.

    ``refused`` and ``failed`` are what the planner is told of a start that has just failed; ``beside`` is whether a
    device is added to what the VM has, which then is no more free than what others have;
    ``again`` whether the same was asked for already; ``keeps_firmware`` whether the guest has seen its firmware.
    """

    profile: Profile
    kept: Kept | None = None
    guest: GuestOs | None = None
    refused: Mapping[str, str] = MappingProxyType({})
    failed: tuple[Failed, ...] = ()
    beside: bool = False
    again: bool = False
    keeps_firmware: bool = False


def asked(profile: Profile, before: Remembered | None, host: Host, upgrade: Collection[Kind]) -> Asked:
    """The question for a VM that may be there already. The same input gives the same answer."""
    if before is None:
        return Asked(profile)
    found = {known.address: identity.find(known, host) for known in before.hardware}
    devices = profile.devices
    for kind in KEPT_KINDS:
        table = profile.device(kind)
        select = tuple(_now(address, found) for address in table.select)
        devices = msgspec.structs.replace(devices, **{kind.value: msgspec.structs.replace(table, select=select)})
    return Asked(
        msgspec.structs.replace(profile, devices=devices),
        Kept(
            decisions={kind: _found_again(d, found) for kind, d in _decisions(profile, before, upgrade)},
            strangers=dict(_strangers(before.hardware, found, host)),
            extras=None if frozenset(KEPT_KINDS) <= frozenset(upgrade) else before.plan.extras or Extras(),
            plugged=_was(before).device(Kind.NIC).network == profile.device(Kind.NIC).network,
        ),
    )


def with_mdev(wish: Asked, name: str) -> Asked:
    """The question with the mediated device that the VM would have, so that one left from before counts as its own."""
    return wish._replace(kept=msgspec.structs.replace(wish.kept or Kept(), mdev=uuid_of(name)))


def _decisions(profile: Profile, before: Remembered, upgrade: Iterable[Kind]) -> Iterator[tuple[Kind, Decision]]:
    """What the VM had, of the kinds for which the profile still asks for the same."""
    was = _was(before)
    for kind in KEPT_KINDS:
        if kind not in upgrade and was.ladder(kind) == profile.ladder(kind):
            yield kind, _before_it_failed(before.plan.of(kind))


def _before_it_failed(decision: Decision) -> Decision:
    """What a VM would have if its start had not failed of it: that, and no better, is tried again."""
    failed = next((r for r in decision.rejected if r.reason is Reason.START_FAILED), None)
    if failed is None:
        return decision
    return msgspec.structs.replace(
        decision, strategy=failed.strategy, device=failed.device, functions=(), virtual_function=None
    )


def seen_by(before: Remembered | None, upgrade: Collection[Kind]) -> Seen:
    """What the guest has seen and must see again: not how its disk hangs, where a better way shall be taken."""
    seen = before.seen if before is not None else Seen()
    return msgspec.structs.replace(seen, disk=None) if Kind.DISK in upgrade else seen


def pinned(profile: Profile, seen: Seen) -> Profile:
    """The profile with what the guest has already seen at the top of its ladders: firmware, and how the disk hangs."""
    devices = profile.devices
    for kind, strategy in ((Kind.FIRMWARE, seen.firmware), (Kind.DISK, seen.disk)):
        if strategy is not None:
            ladder = (strategy, *(s for s in profile.ladder(kind) if s is not strategy))
            device = msgspec.structs.replace(profile.device(kind), prefer=ladder)
            devices = msgspec.structs.replace(devices, **{kind.value: device})
    return msgspec.structs.replace(profile, devices=devices)


def offered(seen: Seen, host: Host) -> Seen:
    """What the guest has seen, without a machine type that this QEMU does not know: it sees the newest then."""
    capabilities = host.stack.capabilities if host.stack is not None else None
    machines = capabilities.machine_types if capabilities is not None else ()
    if seen.machine and machines and seen.machine not in machines:
        return msgspec.structs.replace(seen, machine=None)
    return seen


def _was(before: Remembered) -> Profile:
    return profile_model.parse(before.profile) if before.profile else Profile()


def _now(address: str, found: Mapping[str, PciFunction | None]) -> str:
    function = found.get(address)
    return function.address if function is not None else address


def _found_again(decision: Decision, found: Mapping[str, PciFunction | None]) -> Decision:
    if decision.device is None:
        return decision
    return msgspec.structs.replace(decision, device=_now(decision.device, found))


def _strangers(
    hardware: Iterable[Identity], found: Mapping[str, PciFunction | None], host: Host
) -> Iterator[tuple[str, str]]:
    """Addresses at which another device is now than the VM had, with what it had."""
    meant = {f.address for f in found.values() if f is not None}
    for known in hardware:
        function = found[known.address]
        here = host.by_address.get(known.address)
        if function is None and here is not None and here.address not in meant:
            yield known.address, f"{known.label} was at {known.address} when this VM last started, not {here.label}"


def hardware(plan: Plan, profile: Profile, before: Remembered | None, host: Host) -> tuple[Identity, ...]:
    """What a VM rests on and what its profile names, for finding it again: whole functions of the host.

    What the profile names stays under the address that stands there, wherever the device is now.
    """
    meant = {known.address: known for known in (before.hardware if before else ())}
    kept: dict[str, Identity] = {}
    for address in {a for kind in KEPT_KINDS for a in profile.device(kind).select}:
        function = identity.find(meant[address], host) if address in meant else host.by_address.get(address)
        if function is not None:
            kept[address] = msgspec.structs.replace(identity.identity_of(function, host), address=address)
        elif address in meant:
            kept[address] = meant[address]
    for decision in plan.decisions:
        physfn = decision.virtual_function.physfn if decision.virtual_function is not None else None
        passed = decision.functions if decision.strategy is Strategy.PASSTHROUGH else ()
        if decision.strategy is Strategy.MDEV and decision.device is not None:
            passed = (decision.device,)
        for address in (physfn,) if physfn is not None else passed:
            if address in host.by_address:
                kept.setdefault(address, identity.identity_of(host.by_address[address], host))
    return tuple(kept[address] for address in sorted(kept))


def changes(before: Remembered, plan: Plan, host: Host) -> Iterator[str]:
    """What moved or went since the VM last started, in sentences."""
    for known in before.hardware:
        function = identity.find(known, host)
        if function is None:
            now = ", ".join(f"{k} is {plan.of(k).strategy} now" for k in _resting_on(known.address, before.plan))
            yield f"{known.label} ({known.address}) is gone" + (f": {now}" if now else "")
        elif function.address != known.address:
            group = (
                f"; IOMMU group {known.iommu_group} → {function.iommu_group}"
                if known.iommu_group != function.iommu_group
                else ""
            )
            yield f"{known.label} is the same device, {known.address} → {function.address}{group}: harmless"


def _resting_on(address: str, plan: Plan) -> Iterator[Kind]:
    for decision in plan.decisions:
        physfn = decision.virtual_function.physfn if decision.virtual_function is not None else None
        if decision.kind in KEPT_KINDS and (address in decision.functions or address == physfn):
            yield decision.kind

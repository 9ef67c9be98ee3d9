"""Every recorded PC gets a plan, and what its owner did with it is possible, or the difference is explained."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import msgspec
import pytest

from clienthv import api, planner, profiles
from clienthv.errors import HostError
from clienthv.model import host as host_model
from clienthv.model import schemas
from clienthv.model.devices import Device, Verdict
from clienthv.model.host import Host, RoleName
from clienthv.model.plan import HOST_DEVICES, Kind, Plan, Reason, Strategy
from clienthv.model.profile import DRIVERS, Devices, Guest, Profile
from clienthv.model.profile import Device as Table

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "tests" / "hosts"
PAGE = REPOSITORY / "docs" / "reference" / "recorded-pcs.md"
HOSTS = sorted([*FOLDER.glob("*.json"), *FOLDER.glob("more/*.json")], key=lambda p: p.stem)
EXPECTED = tomllib.loads((FOLDER / "expected.toml").read_text())
NAMES = [p.stem for p in HOSTS]

Golden = Callable[[Path, bytes], None]


class Row(NamedTuple):
    """One device: what its owner did or what is plain, what clienthv says, and whether they agree."""

    host: str
    address: str
    want: str
    by: str
    says: str
    agreed: str
    so: str


def read(path: Path) -> Host:
    return host_model.decode(path.read_bytes(), path.name)


def planned(host: Host, profile: str) -> Plan | None:
    """The plan; None for a PC that is too small for the profile, which is an answer too."""
    try:
        return planner.plan(host, profiles.load(profile)[0])
    except HostError:
        return None


@pytest.mark.parametrize("path", HOSTS, ids=lambda p: p.stem)
def test_every_recorded_pc_has_a_plan_and_portable_takes_nothing_of_it(path: Path) -> None:
    host = read(path)
    jsonschema.validate(msgspec.json.decode(path.read_bytes()), schemas.schema("host"))
    assert host_model.encode(host) == path.read_bytes()
    performance, portable = planned(host, "performance"), planned(host, "portable")
    for plan in (performance, portable):
        assert plan is None or all(d.why for d in plan.decisions)
    if portable is not None:
        assert not [d for d in portable.decisions if d.strategy in HOST_DEVICES]
        assert not portable.host_changes


LIFTED = {Reason.BOOT_DISPLAY, Reason.HOST_INPUT_UNKNOWN, Reason.NETWORK_UNKNOWN, Reason.MOUNTED_DISK_UNKNOWN}
KINDS = (Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB)
GROUPS = {Reason.IOMMU_GROUP_STAYS, Reason.IOMMU_OFF, Reason.IOMMU_ABSENT, Reason.NO_IOMMU_GROUP}


class Handed(NamedTuple):
    """What goes with a device when a profile names it and gives up every use the host makes of it; or why not."""

    functions: tuple[str, ...]
    reasons: frozenset[Reason]


def handed(host: Host, address: str, *, alone: bool) -> Handed:
    """The answer to a profile that names a device, with its slot or alone, and lifts all that can be lifted."""
    strategy = Strategy.VF if host.by_address[address].physfn else Strategy.PASSTHROUGH
    reasons: set[Reason] = set()
    for kind in KINDS:
        for name in dict.fromkeys((address, address.rpartition(".")[0] + ".0")):
            slot = () if alone else host.by_slot[host.by_address[address].place.slot]
            mates = (m.address for m in slot if m.address != name)
            table = Table(prefer=(strategy, Strategy.OMIT), select=(name, *mates), allow=tuple(RoleName))
            profile = Profile(
                guest=Guest(drivers=DRIVERS), devices=msgspec.structs.replace(Devices(), **{kind.value: table})
            )
            decision = planner.plan(host, profile).of(kind)
            if address in decision.functions:
                return Handed(decision.functions, frozenset())
            reasons |= {r.reason for r in decision.rejected if r.device == name} - {Reason.NOT_SELECTED}
    if not reasons:  # nothing that a profile could name: it moves with its group, or not
        reasons = {o.reason for d in api.devices(host).devices if d.address == address for o in d.objections} - LIFTED
    return Handed((), frozenset(reasons))


def agreement(want: str, verdict: Verdict, to: Handed, *, taken: bool) -> str:
    """agreed, allowed (agreed once the profile allows it), unknown (the record does not say), or disagreed."""
    unknown = bool(to.reasons) and all(r.endswith("-unknown") for r in to.reasons)
    match want:
        case "guest":
            given = "agreed" if verdict is not Verdict.NO else "allowed" if to.functions else "disagreed"
            return "unknown" if given == "disagreed" and unknown else given
        case "host":
            return "disagreed" if taken else "agreed"
        case "not-alone":
            return "agreed" if len(to.functions) > 1 or Reason.IOMMU_GROUP_STAYS in to.reasons else "disagreed"
        case "not-possible":
            return "agreed" if to.reasons & GROUPS else "unknown" if unknown else "disagreed"
        case "group-fits":
            return "agreed" if to.functions else "disagreed"
        case "no-vf":
            return "agreed" if not taken else "disagreed"
        case _:
            raise AssertionError(want)


def bridge(address: str) -> Device:
    """A bridge, of which clienthv gives no verdict: it is never handed over."""
    return Device(
        address=address, iommu_group=None, name="", verdict=Verdict.NO, along=(), serves_as=None, objections=()
    )


def rows() -> Iterator[Row]:
    for path in HOSTS:
        host, wanted = read(path), EXPECTED.get(path.stem, {})
        verdicts = {d.address: d for d in api.devices(host).devices} if wanted else {}
        performance = planned(host, "performance") if wanted else None
        taken = frozenset(a for d in (performance.decisions if performance else ()) for a in d.functions)
        for address, said in wanted.items():
            device = verdicts.get(address) or bridge(address)
            says = f"{device.verdict.value}" + (f" {' '.join(device.along)}" if device.along else "")
            codes = ", ".join(dict.fromkeys(o.reason.value for o in device.objections))
            says += f" [{codes}]" if codes else "" if device.name else ": a bridge stays"
            if said["want"] == "host":
                says = ("taken" if address in taken else "not taken") + f" by performance; {says}"
            to = handed(host, address, alone=said["want"] == "not-possible")
            agreed = agreement(said["want"], device.verdict, to, taken=address in taken)
            if agreed == "allowed":
                says += " with allow: " + (" ".join(to.functions))
            yield Row(path.stem, address, said["want"], said["by"], says, agreed, said.get("so", ""))


def test_what_owners_did_is_possible_unknown_or_explained(golden: Golden) -> None:
    found = list(rows())
    assert {r.host for r in found} == EXPECTED.keys(), "every expectation is of a recorded PC"
    assert [r for r in found if r.agreed == "disagreed" and not r.so] == []
    assert [r for r in found if r.so and r.agreed != "disagreed"] == []
    golden(PAGE, page(found).encode())


def page(found: list[Row]) -> str:
    """The table for people."""
    counts = {word: sum(r.agreed == word for r in found) for word in ("agreed", "allowed", "unknown", "disagreed")}
    tell = "; ".join(f"{word}: {number}" for word, number in counts.items())
    few = [p.stem for p in HOSTS for profile in ("performance", "portable") if planned(read(p), profile) is None]
    small = f", but {', '.join(dict.fromkeys(few))}, which is too small for one of them" if few else ""
    head = f"""# Recorded PCs: what clienthv says, and what their owners did

{len(HOSTS)} recorded PCs are in `tests/hosts`. Each gets a plan under `performance` and under `portable`{small}.
Of {len(EXPECTED)} of them it is known what the owner did with devices, or it is plain from the groups. That is a
person's choice and not the only right one. The table compares it with `clienthv devices`, that is with what
clienthv says when a profile names that one device, and for what stays with the host with the plan of `performance`.

- *guest*: the owner gives it to a guest. *host*: it stays. *not-alone*: only together with others of its IOMMU group.
  *not-possible*: its group cannot move. *group-fits*: its group could move. *no-vf*: it makes no virtual functions.
- *allowed*: refused, since the host uses it or the record does not say that it does not, and handed over once the
  profile names it and allows that. *unknown*: the record does not hold what decides.

{tell}. The table is written by the golden test `tests/golden/test_recorded_pcs.py`.

| PC | device | owner or group | known by | clienthv | |
|---|---|---|---|---|---|
"""
    lines = [
        f"| {r.host} | `{r.address}` | {r.want} | {r.by} | {r.says} | {r.agreed}{': ' + r.so if r.so else ''} |"
        for r in found
    ]
    return head + "\n".join(lines) + "\n"

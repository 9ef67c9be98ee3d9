"""Every recorded PC gets a plan under every kind of profile, and what its owner did with it is possible or explained."""

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
from clienthv.model.host import Host
from clienthv.model.plan import HOST_DEVICES, Plan, Reason

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
    except HostError as e:
        assert "needs" in e.message, "only its size speaks against a VM"
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


def structural(reasons: set[Reason]) -> bool:
    return not reasons.isdisjoint(
        {Reason.IOMMU_GROUP_STAYS, Reason.IOMMU_OFF, Reason.IOMMU_ABSENT, Reason.NO_IOMMU_GROUP, Reason.IOMMU_UNKNOWN}
    )


def agreement(want: str, device: Device, host: Host, taken: frozenset[str]) -> str:
    """agreed, unknown (the record does not say what decides), or disagreed."""
    reasons = {o.reason for o in device.objections}
    free = device.verdict is not Verdict.NO
    slot = device.address.rpartition(".")[0]
    match want:
        case "guest":
            open_ = bool(reasons) and all(r.endswith("-unknown") for r in reasons)
            return "agreed" if free else "unknown" if open_ else "disagreed"
        case "host":
            return "agreed" if device.address not in taken else "disagreed"
        case "not-alone":
            foreign = [a for a in device.along if a.rpartition(".")[0] != slot] or len(device.along) > 0
            return "agreed" if foreign or Reason.IOMMU_GROUP_STAYS in reasons else "disagreed"
        case "not-possible":
            return "agreed" if structural(reasons) else "disagreed"
        case "group-fits":
            return "agreed" if Reason.IOMMU_GROUP_STAYS not in reasons else "disagreed"
        case "no-vf":
            return "agreed" if not host.by_address[device.address].physfn and not device.along else "disagreed"
        case _:
            raise AssertionError(want)


def rows() -> Iterator[Row]:
    for path in HOSTS:
        host, wanted = read(path), EXPECTED.get(path.stem, {})
        verdicts = {d.address: d for d in api.devices(host).devices} if wanted else {}
        performance = planned(host, "performance") if wanted else None
        taken = frozenset(a for d in (performance.decisions if performance else ()) for a in d.functions)
        for address, said in wanted.items():
            device = verdicts[address]
            says = f"{device.verdict.value}" + (f" {' '.join(device.along)}" if device.along else "")
            codes = ", ".join(dict.fromkeys(o.reason.value for o in device.objections))
            says += f" [{codes}]" if codes else ""
            if said["want"] == "host":
                says = ("taken" if address in taken else "not taken") + f" by performance; {says}"
            agreed = agreement(said["want"], device, host, taken)
            yield Row(path.stem, address, said["want"], said["by"], says, agreed, said.get("so", ""))


def test_what_owners_did_is_possible_unknown_or_explained(golden: Golden) -> None:
    found = list(rows())
    assert {r.host for r in found} == EXPECTED.keys(), "every expectation is of a recorded PC"
    assert [r for r in found if r.agreed == "disagreed" and not r.so] == []
    assert [r for r in found if r.so and r.agreed != "disagreed"] == []
    golden(PAGE, page(found).encode())


def page(found: list[Row]) -> str:
    """The table for people."""
    counts = {word: sum(r.agreed == word for r in found) for word in ("agreed", "unknown", "disagreed")}
    tell = "; ".join(f"{word}: {number}" for word, number in counts.items())
    head = f"""# Recorded PCs: what clienthv says, and what their owners did

{len(HOSTS)} recorded PCs are in `tests/hosts`. Each gets a plan under `performance` and under `portable`, or the answer that it is
too small. Of {len(EXPECTED)} of them it is known what the owner did with devices, or it is plain from the groups. That is a
person's choice and not the only right one. The table compares it with `clienthv devices`, that is with what
clienthv says when a profile names that one device, and for what stays with the host with the plan of `performance`.

- *guest*: the owner gives it to a guest. *host*: it stays. *not-alone*: only together with others of its IOMMU group.
  *not-possible*: its group cannot move. *group-fits*: its group could move. *no-vf*: it makes no virtual functions.
- *unknown*: a listing does not say what the host uses; nothing else speaks against it.

{tell}. The table is written by the golden test `tests/golden/test_recorded_pcs.py`.

| PC | device | owner or group | known by | clienthv | |
|---|---|---|---|---|---|
"""
    lines = [
        f"| {r.host} | `{r.address}` | {r.want} | {r.by} | {r.says} | {r.agreed}{': ' + r.so if r.so else ''} |"
        for r in found
    ]
    return head + "\n".join(lines) + "\n"

"""What the page tells of one row of the tree when it is opened: facts, uses, verdict, and what shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.model.advice import Evidence
from clienthv.model.devices import Device, Reset, Verdict
from clienthv.model.host import Host, PciFunction
from clienthv.model.overview import Overview
from clienthv.model.plan import Decision, Rejected
from clienthv.report.rows import ROLE_WORDS, Badge, Form, Row, class_words

MOST_MEMBERS: Final = 128
"""Functions that the details of one folded row list."""

_RESETS: Final = {
    Reset.RESTARTABLE: "works again after its VM has stopped",
    Reset.ONCE_PER_BOOT: "works in one VM only until this PC is restarted",
    Reset.UNKNOWN: "not known to work again after its VM has stopped",
}


class Link(NamedTuple):
    """Another function: where its details are ("" for nowhere), and its words."""

    anchor: str
    address: str
    label: str


class Use(NamedTuple):
    """One use the host makes of a function, with what shows it."""

    words: str
    evidence: tuple[str, ...]


class Grant(NamedTuple):
    """What a VM has of a function: the VM's number and name, and the decision."""

    vm: int
    name: str
    decision: Decision


class Objection(NamedTuple):
    """One reason against a rung, and what shows it."""

    rejected: Rejected
    evidence: tuple[Evidence, ...]


class Detail(NamedTuple):
    """All that is told of one row. ``verdict`` is "" where there is none, as of bridges."""

    anchor: str
    name: str
    address: str
    badges: tuple[Badge, ...]
    facts: tuple[tuple[str, str], ...]
    mates: tuple[Link, ...]
    uses: tuple[Use, ...]
    grants: tuple[Grant, ...]
    verdict: str
    able: bool | None
    objections: tuple[Objection, ...]
    evidence: tuple[Evidence, ...]
    members: tuple[Link, ...]


def details(overview: Overview, tree: tuple[Row, ...]) -> Iterator[Detail]:
    """The details of every row but headings."""
    verdicts = {d.address: d for d in overview.devices.devices}
    where = places(tree)
    grants = _grants(overview)
    for row in tree:
        if row.form is not Form.ROOT:
            yield _detail(row, overview, verdicts, where, grants)


def places(tree: tuple[Row, ...]) -> dict[str, str]:
    """The row that each address is told in."""
    found = {row.address: row.anchor for row in tree if row.form is Form.PLANNED}
    return found | {f.address: row.anchor for row in tree for f in row.functions}


def against(rejected: tuple[Rejected, ...], overview: Overview) -> tuple[Objection, ...]:
    """The reasons against something, each with what shows it."""
    return tuple(Objection(r, overview.of_rejected.get(r, ())) for r in rejected)


def _grants(overview: Overview) -> dict[str, list[Grant]]:
    found: dict[str, list[Grant]] = {}
    nodes = {f.render_node: f.address for f in overview.host.pci if f.render_node}
    for number, member in enumerate(overview.plans.vms):
        for decision in member.plan.decisions if member.plan is not None else ():
            rests_on = [decision.device, *decision.functions, nodes.get(decision.render_node or "")]
            for address in dict.fromkeys(a for a in rests_on if a is not None):
                found.setdefault(address, []).append(Grant(number, member.name, decision))
    return found


def _detail(
    row: Row, overview: Overview, verdicts: dict[str, Device], where: dict[str, str], grants: dict[str, list[Grant]]
) -> Detail:
    host = overview.host
    function = row.functions[0] if len(row.functions) == 1 else None
    verdict = verdicts.get(function.address) if function is not None else None
    several = row.functions if function is None else ()
    members = tuple(_link(f, where, host) for f in several[:MOST_MEMBERS])
    return Detail(
        anchor=row.anchor,
        name=function.label if function is not None else row.name,
        address=row.address,
        badges=row.badges,
        facts=tuple(_facts(function, host) if function is not None else _others(row)),
        mates=tuple(_link(f, where, host) for f in _mates(function, host)[:MOST_MEMBERS]),
        uses=tuple(_uses(function, host)),
        grants=tuple(grants.get(row.address, ())),
        verdict=_verdict(verdict),
        able=None if verdict is None else verdict.verdict is not Verdict.NO,
        objections=against(verdict.objections, overview) if verdict is not None else (),
        evidence=row.evidence,
        members=members,
    )


def _link(function: PciFunction, where: dict[str, str], host: Host) -> Link:
    group = "" if function.iommu_group is None else f" (group {function.iommu_group})"
    label = function.device or function.label
    return Link(where.get(function.address, ""), function.address, f"{label}{group}")


def _mates(function: PciFunction | None, host: Host) -> tuple[PciFunction, ...]:
    if function is None or function.iommu_group is None:
        return ()
    return tuple(f for f in host.by_group[function.iommu_group] if f is not function)


def _facts(function: PciFunction, host: Host) -> Iterator[tuple[str, str]]:
    yield (
        "PCI ids",
        f"{function.vendor_id or '????'}:{function.device_id or '????'}"
        + (
            f" (board {function.subsystem_vendor_id}:{function.subsystem_device_id})"
            if function.subsystem_vendor_id and function.subsystem_device_id
            else ""
        ),
    )
    words = class_words(function)
    code = function.class_code or "unknown"
    yield "class", f"{words} ({code})" if words else code
    yield "driver", "unknown" if function.driver is None else function.driver or "none"
    yield "IOMMU group", _group(function, host)
    if function.reset_methods is not None:
        yield "reset methods", ", ".join(function.reset_methods) or "none"
    if function.numa_node is not None:
        yield "NUMA node", str(function.numa_node)
    if function.sriov is not None:
        total = "an unknown number" if function.sriov.totalvfs is None else function.sriov.totalvfs
        yield "virtual functions", f"{function.sriov.numvfs or 0} of {total}"
    if function.physfn is not None:
        yield "virtual function of", function.physfn
    yield from _names(function)


def _names(function: PciFunction) -> Iterator[tuple[str, str]]:
    """What the kernel calls it where programs meet it."""
    if function.drm_card or function.render_node:
        yield "DRM", ", ".join(n for n in (function.drm_card, function.render_node) if n)
    plugged = [c.name for c in function.connectors or () if c.connected]
    if plugged:
        yield "screens at", ", ".join(plugged)
    if function.interfaces:
        yield "interfaces", ", ".join(function.interfaces)
    if function.block_devices:
        yield "disks", ", ".join(function.block_devices)
    if function.known.holders:
        yield "open in", ", ".join(function.known.holders)


def _group(function: PciFunction, host: Host) -> str:
    if function.iommu_group is not None:
        return str(function.iommu_group)
    return "none" if host.iommu.groups == 0 or host.iommu.enabled is False else "unknown"


def _others(row: Row) -> Iterator[tuple[str, str]]:
    if row.form is Form.PLANNED and row.decision is not None:
        made = row.decision.virtual_function
        yield "made by", "clienthv up, when the VM starts; clienthv down removes it"
        if made is not None:
            yield "virtual function of", made.physfn
    elif row.functions:
        yield "IOMMU groups", row.in_words.partition(" ")[2] or "none or unknown"
        yield "addresses", row.address
    else:
        yield "place", row.address


def _uses(function: PciFunction | None, host: Host) -> Iterator[Use]:
    for role in host.roles_by_address.get(function.address, ()) if function is not None else ():
        yield Use(ROLE_WORDS[role.role], role.evidence)


def _verdict(device: Device | None) -> str:
    if device is None:
        return ""
    if device.verdict is Verdict.NO:
        return "No guest can get it as it is"
    along = f", together with {', '.join(device.along)}" if device.along else ""
    return (
        f"A guest can get it{along}; it is {_RESETS[device.reset]}"
        if device.reset is Reset.UNKNOWN
        else (f"A guest can get it{along}; it {_RESETS[device.reset]}")
    )

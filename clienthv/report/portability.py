"""Portability as text: a verdict for each target, every finding, and each device today and there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from clienthv.model import portability as documents
from clienthv.model.cpu import Baseline
from clienthv.model.portability import Check, Code, Severity, Verdict
from clienthv.report.style import Line, Part, Role, marked, table

_MEANS: Final = {
    Verdict.LIVE: "can move while it runs",
    Verdict.COLD: "runs there after a shutdown and a copy",
    Verdict.ADAPT: "runs there, changed",
    Verdict.BLOCKED: "does not run there",
}
_WORDS: Final = {
    Severity.BLOCKS: "blocks",
    Severity.CHANGES: "changes",
    Severity.STOPS_LIVE: "stops live",
    Severity.WARNS: "warns",
    Severity.UNKNOWN: "unknown",
    Severity.INFO: "info",
}
_VERDICTS: Final = {
    Verdict.LIVE: Role.GOOD,
    Verdict.COLD: Role.GOOD,
    Verdict.ADAPT: Role.WORSE,
    Verdict.BLOCKED: Role.BAD,
}
_SEVERITIES: Final = {
    Severity.BLOCKS: Role.BAD,
    Severity.CHANGES: Role.WORSE,
    Severity.STOPS_LIVE: Role.WORSE,
    Severity.WARNS: Role.WARNING,
    Severity.UNKNOWN: Role.UNKNOWN,
    Severity.INFO: Role.FAINT,
}


def lines(check: Check, subject: str) -> Iterator[str]:
    """One target: verdict, devices side by side, and findings, the gravest first."""
    verdict = Part(f"{check.verdict}", _VERDICTS[check.verdict])
    yield Line(Part(f"{subject} on {check.target}:", Role.HEADING), " ", verdict, f" - {_MEANS[check.verdict]}")
    if check.devices:
        yield ""
        yield from _table(check)
    if check.findings:
        yield ""
    width = max((len(_WORDS[f.severity]) for f in check.findings), default=0)
    for finding in check.findings:
        severity = Part(f"{_WORDS[finding.severity]:<{width}}", _SEVERITIES[finding.severity])
        told = marked(f"{finding.what}: {finding.why} [{finding.code}]")
        yield Line("  ", severity, "  ", told, hang=width + 4)
        if finding.fix:
            yield marked(f"  {'':<{width}}    → {finding.fix}", hang=width + 8)
    if check.unknown:
        yield ""
        yield f"  {len(check.unknown)} of these could not be told; the verdict holds for what is known"


def _table(check: Check) -> Iterator[str]:
    rows: list[tuple[str, str, str]] = [("device", "today", "there (* another than today)")]
    for d in check.devices:
        there = Line(marked(d.there or "nothing"), Part(" *", Role.WORSE) if d.changes else "")
        rows.append((d.kind.value, d.today or "-", there))
    yield from table(rows, labels=("", "today", "there"))


def summary_line(check: Check, width: int) -> str:
    """One target in a line: its name, the verdict, and what stands in the way most."""
    grave = [f for f in check.findings if f.severity in (Severity.BLOCKS, Severity.CHANGES, Severity.STOPS_LIVE)]
    worst = [f for f in grave if f.severity is grave[0].severity] if grave else []
    codes = ", ".join(dict.fromkeys(f.code.value for f in worst))
    unknown = len(check.unknown)
    told = f"  ({unknown} unknown)" if unknown else ""
    verdict = Part(f"{check.verdict:<7}" if codes or told else check.verdict.value, _VERDICTS[check.verdict])
    return Line(f"{check.target:<{width}}  ", verdict, f"  {codes}{told}" if codes or told else "", hang=width + 11)


def summary_json(check: Check) -> bytes:
    """One target as a line of JSON: verdict and codes, without the plan."""
    by_severity: dict[Severity, tuple[Code, ...]] = {}
    for finding in check.findings:
        codes = by_severity.get(finding.severity, ())
        if finding.code not in codes:
            by_severity[finding.severity] = (*codes, finding.code)
    devices = {d.kind: d.there for d in check.devices}
    line = documents.Line(target=check.target, verdict=check.verdict, findings=by_severity, devices=devices)
    return msgspec.json.encode(line)


def totals(verdicts: Counter[Verdict], unread: int) -> Iterator[str]:
    """How many targets got which verdict."""
    told = ", ".join(f"{verdicts[v]} {v}" for v in Verdict if verdicts[v])
    failed = f"; {unread} could not be read" if unread else ""
    yield f"{sum(verdicts.values())} targets: {told or 'none'}{failed}"


def unread_line(target: str, problem: str, width: int) -> str:
    """A target that could not be read."""
    return Line(f"{target:<{width}}  ", Part("-", Role.UNKNOWN), f"{'':<6}  ", marked(problem), hang=width + 11)


def unread_json(target: str, problem: str) -> bytes:
    """The same as a line of JSON."""
    return msgspec.json.encode(documents.Line(target=target, verdict=None, problem=problem))


def many(checks: Iterable[Check], subject: str) -> Iterator[str]:
    """Several targets, one below the other."""
    for number, check in enumerate(checks):
        if number:
            yield ""
        yield from lines(check, subject)


def baseline(found: Baseline, xml: str | None) -> Iterator[str]:
    """The processor that several PCs have in common, and how to have a guest see it. ``xml`` is for libvirt."""
    yield from found.evidence
    if found.left_out:
        yield f"left out, since no features of x86_64 are known of them: {', '.join(found.left_out)}"
    yield ""
    if found.level is not None:
        yield f'level of x86-64: {found.level} (in a profile: model = "{found.level}" in [devices.cpu])'
    if found.cpu is None or xml is None:
        yield "no model of libvirt's table runs on all of them"
        return
    extra = ", ".join(feature.name for feature in found.cpu.features) or "nothing"
    yield f"model: {found.cpu.model} and {extra}"
    yield Line("for libvirt: ", Part(xml, Role.COMMAND))

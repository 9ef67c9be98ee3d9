"""Portability as text: a verdict for each target, every finding, and each device today and there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from clienthv.model.cpu import Baseline
from clienthv.model.portability import Check, Code, Line, Severity, Verdict

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


def lines(check: Check, subject: str) -> Iterator[str]:
    """One target: verdict, devices side by side, and findings, the gravest first."""
    yield f"{subject} on {check.target}: {check.verdict} - {_MEANS[check.verdict]}"
    if check.devices:
        yield ""
        yield from _table(check)
    if check.findings:
        yield ""
    width = max((len(_WORDS[f.severity]) for f in check.findings), default=0)
    for finding in check.findings:
        yield f"  {_WORDS[finding.severity]:<{width}}  {finding.what}: {finding.why} [{finding.code}]"
        if finding.fix:
            yield f"  {'':<{width}}    → {finding.fix}"
    if check.unknown:
        yield ""
        yield f"  {len(check.unknown)} of these could not be told; the verdict holds for what is known"


def _table(check: Check) -> Iterator[str]:
    rows = [("device", "today", "there (* another than today)")]
    for d in check.devices:
        rows.append((d.kind.value, d.today or "-", (d.there or "nothing") + (" *" if d.changes else "")))
    kind, today = (max(len(row[i]) for row in rows) for i in (0, 1))
    for row in rows:
        yield f"  {row[0]:<{kind}}  {row[1]:<{today}}  {row[2]}".rstrip()


def summary_line(check: Check, width: int) -> str:
    """One target in a line: its name, the verdict, and what stands in the way most."""
    grave = [f for f in check.findings if f.severity in (Severity.BLOCKS, Severity.CHANGES, Severity.STOPS_LIVE)]
    worst = [f for f in grave if f.severity is grave[0].severity] if grave else []
    codes = ", ".join(dict.fromkeys(f.code.value for f in worst))
    unknown = len(check.unknown)
    told = f"  ({unknown} unknown)" if unknown else ""
    return f"{check.target:<{width}}  {check.verdict:<7}  {codes}{told}".rstrip()


def summary_json(check: Check) -> bytes:
    """One target as a line of JSON: verdict and codes, without the plan."""
    by_severity: dict[Severity, tuple[Code, ...]] = {}
    for finding in check.findings:
        codes = by_severity.get(finding.severity, ())
        if finding.code not in codes:
            by_severity[finding.severity] = (*codes, finding.code)
    devices = {d.kind: d.there for d in check.devices}
    line = Line(target=check.target, verdict=check.verdict, findings=by_severity, devices=devices)
    return msgspec.json.encode(line)


def totals(verdicts: Counter[Verdict], unread: int) -> Iterator[str]:
    """How many targets got which verdict."""
    told = ", ".join(f"{verdicts[v]} {v}" for v in Verdict if verdicts[v])
    failed = f"; {unread} could not be read" if unread else ""
    yield f"{sum(verdicts.values())} targets: {told or 'none'}{failed}"


def unread_line(target: str, problem: str, width: int) -> str:
    """A target that could not be read."""
    return f"{target:<{width}}  {'-':<7}  {problem}"


def unread_json(target: str, problem: str) -> bytes:
    """The same as a line of JSON."""
    return msgspec.json.encode(Line(target=target, verdict=None, problem=problem))


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
        yield f"left out, since nothing is known of them: {', '.join(found.left_out)}"
    yield ""
    if found.level is not None:
        yield f'level of x86-64: {found.level} (in a profile: model = "{found.level}" in [devices.cpu])'
    if found.cpu is None or xml is None:
        yield "no model of libvirt's table runs on all of them"
        return
    extra = ", ".join(feature.name for feature in found.cpu.features) or "nothing"
    yield f"model: {found.cpu.model} and {extra}"
    yield f"for libvirt: {xml}"

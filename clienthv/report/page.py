"""The report: one page that needs nothing else, of one PC and the VMs planned for it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv import __version__
from clienthv.model.advice import Advice
from clienthv.model.host import Host, RoleName
from clienthv.model.overview import Overview
from clienthv.model.plan import HOST_DEVICES, Kind, Plan, Strategy
from clienthv.model.plans import Member
from clienthv.report import layout, plans, svg
from clienthv.report.details import Link, Objection, Use, against, details, places
from clienthv.report.rows import ROLE_WORDS, rows

MOST_GAPS: Final = 200
"""Sentences on what is unknown that a page lists."""

_SHORT: Final = (Kind.GPU, Kind.NIC, Kind.DISK, Kind.AUDIO, Kind.USB, Kind.USB_DEVICE)


class Fact(NamedTuple):
    """One tile: what it is about, what is so, and more of it. ``mark`` is yes, no, unknown, or "" for no mark."""

    name: str
    value: str
    more: str = ""
    mark: str = ""


class Line(NamedTuple):
    """One device of a plan as the table shows it. ``taken`` is whether it is one of the host's."""

    kind: str
    name: str
    strategy: str
    on: str
    link: Link | None
    along: tuple[Link, ...]
    why: str
    against: tuple[Objection, ...]
    codes: tuple[str, ...]
    taken: bool


class Vm(NamedTuple):
    """One VM with its plan; ``plan`` is None where ``problem`` says why there is none."""

    number: int
    name: str
    priority: int
    plan: Plan | None
    size: str
    problem: str
    lines: tuple[Line, ...]
    short: tuple[tuple[str, str, bool], ...]


class Unlocked(NamedTuple):
    """What one advice unlocks, with the profiles that gain it, and the other advice that it takes."""

    kind: Kind
    strategy: Strategy
    device: str | None
    also: tuple[str, ...]
    profiles: tuple[str, ...]


class Needed(NamedTuple):
    """One thing the host uses its devices for. ``state`` says why there is no device, "" where there are some."""

    words: str
    state: str
    devices: tuple[tuple[Link | None, str, Use], ...]


def page(overview: Overview) -> str:
    """The whole page as HTML. Every text of the host, the profiles and the plans is escaped and made visible."""
    from markupsafe import Markup

    jinja = svg.environment()
    tree = rows(overview)
    where = places(tree)
    label = svg.label_of(overview)
    css = jinja.get_template("page.css.j2").render(light=svg.LIGHT, dark=svg.DARK) + svg.style(jinja)
    script = jinja.get_template("page.js").render()
    text = jinja.get_template(
        "page.html.j2"
    ).render(
        version=__version__,
        host=overview.host,
        machine=_machine(overview.host),
        facts=tuple(_facts(overview.host)),
        vms=tuple(_vm(n, member, overview, where) for n, member in enumerate(overview.plans.vms)),
        colours=len(svg.LIGHT.vms),
        joint_warnings=overview.plans.warnings,
        summary=_summary(overview),
        pictures=[Markup(svg.drawing(jinja, tree, label, p)) for p in (layout.WIDE, layout.NARROW)],  # noqa: S704
        grouped=_grouped(overview.host),
        details=tuple(details(overview, tree)),
        diagnosis=overview.diagnosis,
        advice=[(a, tuple(_unlocked(a))) for a in overview.diagnosis.advice],
        nothing_holds=_nothing_holds(overview),
        needs=tuple(_needs(overview.host, where)),
        gaps=overview.host.unknown[:MOST_GAPS],
        more_gaps=max(len(overview.host.unknown) - MOST_GAPS, 0),
        style=Markup(css),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(css),
        script_hash=_hash(script),
    )
    return text + "\n"


def _hash(text: str) -> str:
    """A source of a Content Security Policy (W3C CSP Level 3, 2.3.1) for one style sheet or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _machine(host: Host) -> str:
    name = " ".join(n for n in (host.machine.vendor, host.machine.product) if n)
    chassis = f" ({host.machine.chassis})" if host.machine.chassis else ""
    return f"{name or 'a PC whose maker is unknown'}{chassis}"


def _mark(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[value]


def _facts(host: Host) -> Iterator[Fact]:
    cpu = host.cpu
    counts = ((cpu.sockets, "socket"), (cpu.cores, "core"), (cpu.threads, "thread"))
    shape = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts if n is not None)
    yield Fact("Processor", cpu.model or cpu.vendor or "unknown", shape or cpu.architecture)
    total, free = host.memory.total_mib, host.memory.available_mib
    yield Fact(
        "Memory",
        "unknown" if total is None else _gib(total),
        "" if free is None else f"{_gib(free)} available",
    )
    usable = {True: "usable", False: "not usable", None: "unknown"}[host.kvm.usable]
    yield Fact("KVM", usable, "; ".join(host.kvm.evidence), _mark(host.kvm.usable))
    iommu = host.iommu
    state = {True: "active", False: "not active", None: "unknown"}[iommu.enabled]
    kind = {None: "of unknown kind", "none": "none in this PC"}.get(iommu.kind, iommu.kind)
    groups = "groups unknown" if iommu.groups is None else f"{iommu.groups} groups"
    remapping = {True: "yes", False: "no", None: "unknown"}[iommu.interrupt_remapping]
    yield Fact("IOMMU", state, f"{kind}, {groups}, interrupt remapping: {remapping}", _mark(iommu.enabled))
    yield Fact("Kernel", host.kernel.release or "unknown")
    stack = host.stack
    if stack is None:
        yield Fact("libvirt and QEMU", "unknown")
    elif stack.uri is None:
        yield Fact("libvirt and QEMU", "cannot be used", stack.problem or "", "no")
    else:
        yield Fact("libvirt and QEMU", f"{stack.libvirt_version}, {stack.qemu_version}", stack.uri, "yes")


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"


def _summary(overview: Overview) -> str:
    vms = overview.plans.vms
    planned = [m.plan for m in vms if m.plan is not None]
    taken = {f for plan in planned for d in plan.decisions if d.strategy in HOST_DEVICES for f in d.functions}
    changes = sum(len(plan.host_changes) for plan in planned)
    them = "one VM" if len(vms) == 1 else f"{len(vms)} VMs that run at the same time"
    none = f", {len(vms) - len(planned)} of them without a plan" if len(planned) < len(vms) else ""
    moved = (
        "one function of this PC goes to a guest"
        if len(taken) == 1
        else f"{len(taken)} functions of this PC go to guests"
    )
    made = f"clienthv up makes {changes} change{'' if changes == 1 else 's'} on the host while they run"
    return f"Planned for {them}{none}: {moved if taken else 'nothing of this PC is handed over'}; " + (
        made if changes else "clienthv up changes nothing on the host"
    )


def _grouped(host: Host) -> str:
    if host.by_group:
        shared = sum(len(members) > 1 for members in host.by_group.values())
        several = f"{shared} of them with several functions, which move together or not at all"
        return f"{len(host.by_group)} IOMMU groups, {several if shared else 'each with one function'}"
    if host.iommu.enabled is False:
        return "No IOMMU groups: the IOMMU is not active, and no PCI device can be handed to a guest"
    if host.iommu.groups == 0:
        return "No IOMMU groups: no PCI device can be handed to a guest"
    return "The IOMMU groups are unknown"


def _vm(number: int, member: Member, overview: Overview, where: dict[str, str]) -> Vm:
    plan = member.plan
    if plan is None:
        return Vm(number, member.name, member.priority, None, "", member.problem or "no plan", (), ())
    size = plans.size(plan)
    lines = tuple(_lines(plan, overview, where))
    kinds = {k.value for k in _SHORT}
    short = tuple((line.kind, line.strategy, line.taken) for line in lines if line.kind in kinds)
    return Vm(number, member.name, member.priority, plan, size, "", lines, short)


def _lines(plan: Plan, overview: Overview, where: dict[str, str]) -> Iterator[Line]:
    for d in plan.decisions:
        host_device = d.strategy in (*HOST_DEVICES, Strategy.MDEV)
        link = Link(where.get(d.device, ""), d.device, d.backing) if d.device is not None else None
        on = d.backing if link or d.model == "none" else f"{d.model} on {d.backing}"
        along = tuple(Link(where.get(f, ""), f, "") for f in d.functions if f != d.device)
        codes = tuple(dict.fromkeys(r.reason.value for r in d.rejected))
        yield Line(d.kind.value, d.name, d.strategy.value, on, link, along, d.why, against(d.rejected, overview), codes,
                   host_device)  # fmt: skip


def _needs(host: Host, where: dict[str, str]) -> Iterator[Needed]:
    for name in RoleName:
        found = [(Link(where.get(r.address, ""), r.address, ""), host.by_address[r.address].label, Use("", r.evidence))
                 for r in host.roles if r.role is name]  # fmt: skip
        usb = [(None, f"USB {d.port} {d.label}", Use("", r.evidence))
               for d in host.usb or () for r in d.roles if r.role is name]  # fmt: skip
        state = "" if found or usb else "nothing found" if host.read(name) else "unknown"
        yield Needed(ROLE_WORDS[name], state, (*found, *usb))


def _unlocked(advice: Advice) -> Iterator[Unlocked]:
    found: dict[tuple[Kind, Strategy, str | None, tuple[str, ...]], list[str]] = {}
    for u in advice.unlocks:
        found.setdefault((u.kind, u.strategy, u.device, u.also), []).append(u.profile)
    for (kind, strategy, device, also), names in found.items():
        yield Unlocked(kind, strategy, device, also, tuple(names))


def _nothing_holds(overview: Overview) -> bool:
    """Whether the doctor looked, could tell all, and advises nothing."""
    told = overview.diagnosis
    return bool(told.abilities) and not told.advice and all(a.able is not None for a in told.abilities)

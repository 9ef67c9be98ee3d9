"""What a definition has beyond what clienthv plans: more of a kind than one, and what it has no kind for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from clienthv.model.domain import DomainFacts
from clienthv.model.host import PciFunction
from clienthv.model.plan import Kind, Plan
from clienthv.model.portability import Code, Finding, Severity
from clienthv.portability import today
from clienthv.portability.devices import functions_of
from clienthv.portability.subject import Findings, Subject, Target, warns

_SHOWN: Final = 8


def more(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> dict[Kind, tuple[str, ...]]:
    """The devices of each kind beyond the first, which is the one that is planned. A passed one comes first."""
    passed = _passed(domain, functions)
    screens = [] if passed.get(Kind.GPU) else [f"video {video.model}".strip() for video in domain.video]
    all_of = {
        Kind.GPU: [*passed.get(Kind.GPU, []), *screens],
        Kind.NIC: [
            *passed.get(Kind.NIC, []),
            *(f"network card on {n.type} {n.source or ''}".strip() for n in domain.nics),
        ],
        Kind.DISK: [
            *passed.get(Kind.DISK, []),
            *(f"disk {d.source or d.target or ''}".strip() for d in domain.writable),
        ],
        Kind.AUDIO: [*passed.get(Kind.AUDIO, []), *(f"sound {model}" for model in domain.sounds)],
        Kind.USB: passed.get(Kind.USB, []),
    }
    return {kind: tuple(names[1:]) for kind, names in all_of.items() if len(names) > 1}


def _passed(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> dict[Kind | None, list[str]]:
    """The first function of each card that is handed over, by what it is to the guest."""
    found: dict[Kind | None, list[str]] = {}
    for devices in domain.by_slot.values():
        seen: set[Kind | None] = set()
        for device in devices:
            kind = today.kind_of(functions.get(device.address or ""), device, domain)
            if kind not in seen and not today.goes_with_a_card(device, domain, functions):
                seen.add(kind)
                found.setdefault(kind, []).append(device.address or "")
    return found


def findings(subject: Subject, target: Target, plan: Plan | None, found: list[Finding]) -> Findings:
    """What is lost when the VM is planned anew; nothing while its definition can stay as it is."""
    domain = subject.domain
    if domain is None or subject.ours or plan is None or not any(f.severity is Severity.CHANGES for f in found):
        return
    functions = functions_of(subject.source)
    lost = [
        *(name for names in more(domain, functions).values() for name in names),
        *_without_a_kind(domain, functions),
    ]
    if lost:
        rest = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        yield warns(
            Code.NOT_PLANNED,
            ", ".join(lost[:_SHOWN]) + rest,
            f"clienthv plans one device of each kind: planned anew for {target.called} the guest is without these",
            "virsh attach-device --config adds them to the VM there",
        )


def _without_a_kind(domain: DomainFacts, functions: Mapping[str, PciFunction]) -> Iterator[str]:
    yield from (f"PCI device {address}" for address in _passed(domain, functions).get(None, []))
    for device in domain.host_devices:
        if device.address is None and device.type != "mdev":
            yield f"{device.type} device {device.ids or device.source or ''}".strip()
    yield from (f"folder {folder.source or folder.socket or ''}".strip() for folder in domain.filesystems)
    yield from (f"shared memory {name}".strip() for name in domain.shared_memory)
    yield from (words for words in domain.others if not words.startswith("serial"))

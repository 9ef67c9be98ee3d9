"""What a profile's selectors mean on a host: addresses, found once, before anything is decided."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from clienthv.errors import PlanError
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import STRATEGIES, Kind, Strategy
from clienthv.model.profile import Profile
from clienthv.model.selector import fits, is_address

_CLASSES: Final = {Kind.GPU: "03", Kind.NIC: "02", Kind.DISK: "01", Kind.AUDIO: "04", Kind.USB: "0c03"}
"""The PCI classes of each kind's devices (PCI Code and ID Assignment Specification)."""


_TO_BE_NAMED: Final = frozenset({Kind.DISK, Kind.AUDIO, Kind.USB})
"""Kinds whose devices hold what somebody may miss: see ``pci.named_passthrough``."""


def class_of(kind: Kind) -> str:
    """How the PCI class of a kind's devices begins; "" for kinds without any."""
    return _CLASSES.get(kind, "")


def resolved(profile: Profile, host: Host) -> Profile:
    """The profile with an address for each device that a selector means. Raises PlanError.

    A selector that means no device stays as it is: it narrows all the same. A refusal is lifted for an exact device
    alone, and a disk, sound or USB controller is handed over as one alone: there a selector may not mean several.
    """
    devices = profile.devices
    for kind in STRATEGIES:
        table = profile.device(kind)
        if all(is_address(s) for s in table.select):
            continue
        found: dict[str, None] = {}
        for selector in table.select:
            meant = (selector,) if is_address(selector) else _meant(selector, kind, host)
            cards = [a for a in meant if a not in host.by_address or host.by_address[a].physfn is None]
            if len(cards) > 1 and (table.allow or kind in _TO_BE_NAMED):
                why = f"devices.{kind}.allow needs" if table.allow else f"{kind} hardware of the host is handed over as"
                msg = f"{why} an exact device: {selector!r} means {', '.join(cards)}"
                raise PlanError(msg, hint=f'name one of them: select = ["{cards[0]}"]')
            found |= dict.fromkeys(meant or (selector,))
        devices = replace(devices, **{kind.value: replace(table, select=tuple(found))})
    return replace(profile, devices=devices)


def exact(profile: Profile, host: Host) -> frozenset[tuple[Kind, str]]:
    """The devices of each kind that a selector means alone, by address or otherwise; ``profile`` as it was written."""
    named: set[tuple[Kind, str]] = set()
    for kind in STRATEGIES:
        for selector in profile.device(kind).select:
            meant = (selector,) if is_address(selector) else _meant(selector, kind, host)
            named.update((kind, address) for address in meant if len(meant) == 1)
    return frozenset(named)


def _meant(selector: str, kind: Kind, host: Host) -> tuple[str, ...]:
    return tuple(f.address for f in host.pci if _is(f, kind) and fits(selector, f))


def _is(function: PciFunction, kind: Kind) -> bool:
    return Strategy.PASSTHROUGH in STRATEGIES[kind] and function.base_class.startswith(_CLASSES.get(kind, "none"))

"""What the rules for evidence are written in: a file with its value, and what an objection is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from clienthv.model.advice import Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.plan import Kind, Reason, Strategy
from clienthv.strategies import pci, screens, sriov

ABSENT: Final = "absent"
UNKNOWN: Final = "unknown"
CAPABILITIES: Final = "virsh domcapabilities"
LIVE: Final = "live"
"""The ``source`` of a host that was read from its own sysfs: what such a document does not have is not there."""

_PCI: Final = "/sys/bus/pci/devices"
_STATED: Final = re.compile(r"(/[^\s:]+(?::[^\s:]+)*|udev): (.+)", re.DOTALL)
_NAMED: Final = 6

Facts: TypeAlias = Iterator[Evidence]


class About(NamedTuple):
    """A rung and its device as objections and decisions name them, the host, and the kind where that is known."""

    reason: Reason | None
    strategy: Strategy
    device: str | None
    host: Host
    kind: Kind | None

    @property
    def function(self) -> PciFunction | None:
        """The PCI function that the rung would rest on, if any; the card where it would be made."""
        known = self.host.by_address.get(self.device or "")
        return known if known is not None else next((c for c in self.host.pci if self._would_be_of(c)), None)

    def _would_be_of(self, card: PciFunction) -> bool:
        of = card.sriov
        return of is not None and self.device in {sriov.place_of(card, n) for n in range(sriov.number(of))} - {None}

    @property
    def card(self) -> tuple[PciFunction, ...]:
        """That function with those that cannot be parted from it; for a virtual function the physical one too."""
        function, host = self.function, self.host
        if function is None:
            return ()
        graphics = (pci.companions(host, f) for f in host.by_slot[function.place.slot] if screens.is_gpu(f))
        whole = next((card for card in graphics if function in card), None) or pci.companions(host, function)
        physical = host.by_address.get(function.physfn or "")
        return (*whole, *((physical,) if physical is not None else ()))

    @property
    def groups(self) -> tuple[int, ...]:
        """The IOMMU groups of the card, in order."""
        return tuple(sorted({f.iommu_group for f in self.card if f.iommu_group is not None}))

    @property
    def lost(self) -> tuple[PciFunction, ...]:
        """What the host loses with it: the card, and what is behind that."""
        behind = (f for function in self.card for f in pci.behind(function, self.host))
        return tuple(dict.fromkeys((*self.card, *behind)))

    def first(self, told: Callable[[PciFunction], Facts]) -> Facts:
        """What is told of all that the host loses with it; where that is nothing, of its mates in the IOMMU groups."""
        found = [e for function in self.lost for e in told(function)]
        mates = (f for group in self.groups for f in self.host.by_group[group])
        yield from found or (e for mate in mates for e in told(mate))


def fact(file: str, value: str | int | bool | None) -> Evidence:
    """A file and what it says: None is unknown, and nothing at all is a file that is not there."""
    if value is None:
        return Evidence(file=file, value=UNKNOWN)
    shown = str(int(value)) if isinstance(value, bool) else str(value)
    return Evidence(file=file, value=shown or ABSENT)


def of(address: str, name: str, value: str | int | bool | None) -> Evidence:
    """What a file of a PCI function says (kernel, Documentation/ABI/testing/sysfs-bus-pci)."""
    return fact(f"{_PCI}/{address}/{name}", value)


def all_of(name: str, value: str | int | bool | None) -> Evidence:
    """What a file of every PCI function says."""
    return of("*", name, value)


def group_of(function: PciFunction, host: Host) -> Evidence:
    """The link to a function's IOMMU group. Where groups were read, none is no link."""
    unread = None if host.iommu.groups is None else ""
    return of(function.address, "iommu_group", unread if function.iommu_group is None else function.iommu_group)


def stated(sentences: Iterable[str], otherwise: str) -> Facts:
    """Evidence that a host document has in sentences, ``FILE: VALUE``; other sentences are ``otherwise``'s."""
    for sentence in sentences:
        match = _STATED.fullmatch(sentence)
        yield Evidence(file=match[1], value=match[2]) if match else Evidence(file=otherwise, value=sentence)


def listed(names: Iterable[str]) -> str:
    """Some names, or that there are none."""
    known = list(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more or "none"

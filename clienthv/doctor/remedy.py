"""What every remedy is written in: the advice, and the PC as it would be once the change is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from clienthv.model.advice import Advice, Evidence
from clienthv.model.host import Host, PciFunction
from clienthv.model.installation import Account, BootLoader, Distribution, Installation
from clienthv.model.plan import Reason, Rejected
from clienthv.model.stack import DomainCapabilities


class Remedy(NamedTuple):
    """Advice without what it unlocks, and the change as far as a document can tell it; None where it cannot."""

    advice: Advice
    change: Callable[[Host], Host] | None = None


class Met(NamedTuple):
    """What the plans for the wanted VMs met on this PC: every rung not taken, and which profiles met it."""

    rejected: tuple[Rejected, ...]
    profiles: Mapping[Reason, tuple[str, ...]]

    def because(self, *reasons: Reason) -> tuple[Rejected, ...]:
        """The refusals for one of these reasons, each device once."""
        found = {r.device: r for r in self.rejected if r.reason in reasons}
        return tuple(found.values())

    def by(self, reason: Reason) -> str:
        """The profiles that met a reason, for a person."""
        names = self.profiles.get(reason, ())
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


Remedies = Iterator[Remedy]


def said(sentences: Iterable[str], about: str = "") -> tuple[Evidence, ...]:
    """Facts that were written as "FILE: value"; those with ``about`` in them alone."""
    pairs = (s.partition(": ") for s in sentences if about in s)
    return tuple(Evidence(file=file, value=value) for file, colon, value in pairs if colon and " " not in file)


def installation(host: Host) -> Installation:
    """How the Linux is set up; nothing is known of it in older documents."""
    return host.installation or Installation()


def distribution(host: Host) -> Distribution:
    """The distribution."""
    return installation(host).distribution


def boot_loader(host: Host) -> BootLoader | None:
    """The boot loader, where it is known."""
    return installation(host).boot_loader


def account(host: Host) -> Account | None:
    """The account that clienthv works for, where it is known."""
    return installation(host).account


def with_capabilities(host: Host, change: Callable[[DomainCapabilities], DomainCapabilities]) -> Host:
    """The host with other domain capabilities; as it is where they are unknown."""
    stack = host.stack
    if stack is None or stack.capabilities is None:
        return host
    return replace(host, stack=replace(stack, capabilities=change(stack.capabilities)))


def with_functions(host: Host, addresses: Iterable[str], change: Callable[[PciFunction], PciFunction]) -> Host:
    """The host with some of its PCI functions changed."""
    wanted = frozenset(addresses)
    return replace(host, pci=tuple(change(f) if f.address in wanted else f for f in host.pci))


def adding(values: tuple[Any, ...], *more: Any) -> tuple[Any, ...]:
    """A tuple with values that it lacks."""
    return (*values, *(value for value in more if value not in values))

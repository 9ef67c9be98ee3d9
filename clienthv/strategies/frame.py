"""What every kind's rules are written in: the question asked, an option, and objections to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from clienthv.model.guest import GuestOs, VirtioDevice, built_in
from clienthv.model.host import DomainCapabilities, Host
from clienthv.model.network import Plug
from clienthv.model.plan import Decision, Extras, Kind, Reason, Rejected, Strategy, VirtualFunction
from clienthv.model.profile import Profile
from clienthv.strategies.screens import BootDisplay, boot_displays


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a VM that is there had when it last started, and which addresses now hold another device than then."""

    decisions: Mapping[Kind, Decision] = MappingProxyType({})
    strangers: Mapping[str, str] = MappingProxyType({})
    mdev: str | None = None
    """The UUID that its mediated device has, whether or not there is one."""
    extras: Extras | None = None
    plugged: bool = True
    """Whether its network card stays plugged into what it was; not when the profile asks for something else now."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that a start failed of a moment ago, in what words, and what would lift that."""

    decision: Decision
    words: str
    fix: str | None = None

    def holds(self, option: Option, kind: Kind) -> bool:
        """Whether an option is what failed."""
        was = self.decision
        return (kind, option.strategy, option.device, option.network, option.render_node) == (
            was.kind, was.strategy, was.device, was.network, was.render_node,
        )  # fmt: skip


class Question(msgspec.Struct, frozen=True, dict=True):
    """One host and one profile: everything a rule may look at."""

    host: Host
    profile: Profile
    usb: Strategy | None = None
    """What the VM's USB became, for the kinds that are decided after it."""
    moving: frozenset[str] = frozenset()
    """The PCI functions that move into the guest, for the kinds that are decided after them."""
    refused: Mapping[str, str] = MappingProxyType({})
    """What the host refused when it was asked a moment ago, and why: physical functions, by address, that gave no
    virtual function, and pools of huge pages by the size of a page in KiB."""
    failed: tuple[Failed, ...] = ()
    """What the VM could not be started with a moment ago."""
    kept: Kept = Kept()
    """What the VM keeps; nothing for one that never started."""
    taken: frozenset[str] = frozenset()
    """What other VMs of a joint plan have: keys of ``claims``."""
    not_alone: frozenset[str] = frozenset()
    """What other VMs have a share of: keys of ``claims`` that may be taken beside them."""

    exact: frozenset[tuple[Kind, str]] | None = None
    """The devices that the profile's selectors mean each alone; None where all of them are addresses."""

    known_guest: GuestOs | None = None
    """What is known of the guest's operating system; None where nobody looked it up."""

    @cached_property
    def guest(self) -> GuestOs:
        """What is known of the guest's operating system, at least by its id."""
        return self.known_guest or built_in(self.profile.guest.os)

    def seen_by(self, kind: Kind) -> tuple[Any, ...]:
        """All that the rules of a kind see of the profile: its table without the ladder, and the guest."""
        known: dict[Kind, tuple[Any, ...]] = self.__dict__.setdefault("seen", {})
        if kind not in known:
            table = msgspec.structs.replace(self.profile.device(kind), prefer=None, require=(), forbid=())
            exact = frozenset(name for of, name in self.exact or () if of is kind)
            known[kind] = (table, self.profile.guest, self.known_guest, self.exact is None, exact)
        return known[kind]

    @cached_property
    def boot_displays(self) -> dict[str, BootDisplay]:
        """For every GPU whether it drives the host's boot display."""
        return boot_displays(self.host)

    @property
    def capabilities(self) -> DomainCapabilities | None:
        """What this host's libvirt and QEMU offer; None when the host document does not say."""
        return self.host.stack.capabilities if self.host.stack is not None else None

    def guest_has(self, driver: str) -> bool:
        """Whether the guest carries a driver, by the profile's word."""
        return driver in self.profile.guest.drivers


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One way to carry out a strategy: what the guest sees, what stands behind it, and why it is good."""

    strategy: Strategy
    model: str
    backing: str
    why: str
    device: str | None = None
    functions: tuple[str, ...] = ()
    virtual_function: VirtualFunction | None = None
    render_node: str | None = None
    network: Plug | None = None
    evdev: tuple[str, ...] = ()


def again(question: Question, **changes: Any) -> Question:
    """The same question with changes that leave host and profile as they are, and what was worked out of those."""
    made = msgspec.structs.replace(question, **changes)
    for name in ("guest", "boot_displays", "seen"):
        if name in question.__dict__:
            made.__dict__[name] = question.__dict__[name]
    return made


Options: TypeAlias = Iterator[Option]
Objections: TypeAlias = Iterator[Rejected]


def reject(option: Option, reason: Reason, detail: str, fix: str | None = None) -> Rejected:
    """An objection to an option."""
    return Rejected(strategy=option.strategy, device=option.device, reason=reason, detail=detail, fix=fix)


def needs_virtio(option: Option, question: Question, device: VirtioDevice) -> Objections:
    """A paravirtual device is a box of stones to a guest without the driver (virtio specification, section 1).

    The driver is there when osinfo-db lists it for the guest, or when the profile says that it was installed.
    """
    if question.guest_has("virtio") or device in question.guest.virtio:
        return
    known = question.guest.found and question.guest.family == "windows"
    yield reject(
        option,
        Reason.NO_GUEST_DRIVER,
        f"{question.guest.id} comes without a virtio driver for its {device} device (osinfo-db)"
        if known
        else f"the profile's guest ({question.profile.guest.os}) is not said to carry virtio drivers",
        'install them in the guest, then set guest.drivers = ["virtio"] in the profile',
    )


def failed_before(option: Option, kind: Kind, question: Question) -> Rejected | None:
    """An objection to what the VM could not be started with."""
    failed = next((f for f in question.failed if f.holds(option, kind)), None)
    return reject(option, Reason.START_FAILED, failed.words, failed.fix) if failed is not None else None


def omitted(what: str) -> Option:
    """The option of leaving a device out."""
    return Option(
        strategy=Strategy.OMIT, model="none", backing="nothing", why=f"the profile allows a VM without {what}"
    )

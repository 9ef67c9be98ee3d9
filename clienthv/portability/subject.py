"""What is to be moved, and where to: the facts that the rules see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from clienthv.model import values
from clienthv.model.contents import ImageContents
from clienthv.model.cpu import CpuMap, GuestCpu
from clienthv.model.domain import DomainFacts, State
from clienthv.model.guest import GuestOs
from clienthv.model.host import DomainCapabilities, Host
from clienthv.model.image import ImageFacts
from clienthv.model.plan import Decision, Kind
from clienthv.model.portability import Code, Finding, Severity
from clienthv.model.profile import Profile
from clienthv.strategies import Kept

SubjectKind = Literal["image", "vm", "domain", "bundle"]
Findings = Iterator[Finding]


class Wish(NamedTuple):
    """What to plan for on a target: the profile, and what the VM keeps of what it had."""

    profile: Profile
    kept: Kept | None = None


class Subject(NamedTuple):
    """One image, VM, definition or bundle.

    ``ask`` is what to plan for on a host; ``today`` what each device is now. ``images`` are the facts of its images by
    path, ``shared`` whether a path lies on storage that other PCs reach too. ``source`` is the PC that it is on, where
    that is known, ``running_cpu`` the processor that a running guest sees, ``gone`` are files that its definition names
    and that are not there where it is. ``ours`` is whether clienthv made it.
    """

    name: str
    kind: SubjectKind
    ask: Callable[[Host], Wish]
    domain: DomainFacts | None = None
    today: Mapping[Kind, Decision] = MappingProxyType({})
    guest: GuestOs | None = None
    images: Mapping[str, ImageFacts] = MappingProxyType({})
    shared: Mapping[str, bool | None] = MappingProxyType({})
    contents: ImageContents | None = None
    state: State = State()
    source: Host | None = None
    running_cpu: GuestCpu | None = None
    gone: frozenset[str] = frozenset()
    ours: bool = False


class Target(NamedTuple):
    """One PC. ``here`` is whether it is this one, whose files can be looked at, ``live`` whether it was read just now.

    ``exists`` tells of a path whether it is there, None where nobody can tell; ``free`` is the room for images in
    bytes. ``cpu_refusal`` is what its libvirt says against the guest's processor: missing features or a sentence, ""
    when it takes it, None where it was not asked. ``cpu_map`` are the processor models that are known of.
    """

    name: str
    host: Host
    here: bool = False
    live: bool = False
    exists: Callable[[str], bool | None] = lambda _: None
    free: int | None = None
    cpu_refusal: tuple[str, ...] | None = None
    cpu_map: CpuMap | None = None

    @property
    def called(self) -> str:
        """What a person calls it: its document's name, where it has one."""
        return self.name if self.host.name == Host().name else self.host.name

    @property
    def capabilities(self) -> DomainCapabilities | None:
        """What its libvirt and QEMU offer; None where nobody asked."""
        return self.host.stack.capabilities if self.host.stack is not None else None

    @property
    def qemu(self) -> tuple[int, ...] | None:
        """Its QEMU's version in numbers."""
        version = self.host.stack.qemu_version if self.host.stack is not None else None
        return values.version(version) if version else None


def blocks(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """A finding that leaves nothing."""
    return Finding(severity=Severity.BLOCKS, code=code, what=what, why=why, fix=fix, device=device)


def changes(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """A finding by which the definition cannot stay as it is."""
    return Finding(severity=Severity.CHANGES, code=code, what=what, why=why, fix=fix, device=device)


def stops_live(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """A finding by which the VM cannot move while it runs."""
    return Finding(severity=Severity.STOPS_LIVE, code=code, what=what, why=why, fix=fix, device=device)


def warns(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """Something that a person must see to; the verdict is the same."""
    return Finding(severity=Severity.WARNS, code=code, what=what, why=why, fix=fix, device=device)


def unknown(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """What nobody could tell."""
    return Finding(severity=Severity.UNKNOWN, code=code, what=what, why=why, fix=fix, device=device)


def info(code: Code, what: str, why: str, fix: str | None = None, device: Kind | None = None) -> Finding:
    """Something good to know."""
    return Finding(severity=Severity.INFO, code=code, what=what, why=why, fix=fix, device=device)

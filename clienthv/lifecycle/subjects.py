"""What is to be moved, found and looked at: an image, a VM, a definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from clienthv import bundles, guests, places, profiles
from clienthv import inspect as inspect_pc
from clienthv.errors import ClienthvError
from clienthv.hypervisor import Connection, Domain, domain_facts
from clienthv.images import contents as image_contents
from clienthv.images import formats, locks
from clienthv.lifecycle import importing, keeping, live, remembered
from clienthv.lifecycle.remembered import Remembered
from clienthv.model import profile as profile_model
from clienthv.model.bundle import Role
from clienthv.model.contents import ImageContents
from clienthv.model.domain import DomainFacts, State
from clienthv.model.host import Host
from clienthv.model.image import ImageFacts, run_format
from clienthv.model.plan import Decision, Kind
from clienthv.model.profile import Profile
from clienthv.portability import Subject, Wish, devices, today
from clienthv.strategies import Kept

# What libvirt takes for shared (src/util/virfile.c, virFileIsSharedFSType), by the names of /proc/self/mountinfo.
_SHARED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "gfs2", "ocfs2", "afs", "ceph", "gpfs", "fuse.glusterfs", "fuse.quobyte", "acfs"}
)


def of_vm(connection: Connection, name: str, host: Host, say: live.Say, *, inspect: bool) -> Subject:
    """A VM of this PC as it is. Raises GuestError, DocumentError."""
    domain = connection.domain(name)
    xml = domain.xml(inactive=True)
    facts = domain_facts.read(xml, f"the definition of VM {name}")
    before = remembered.read(xml, name)
    running = domain_facts.read(domain.xml(), f"VM {name}") if domain.is_active() else None
    subject = _of_domain(facts, host, before)
    images = dict(_images(facts))
    return subject._replace(
        kind="vm",
        images=images,
        shared={path: is_shared(path) for path in images},
        state=_state(domain, facts, running),
        running_cpu=running.cpu if running is not None else None,
        gone=frozenset(_gone(facts, images)),
        contents=_contents(images, facts, say) if inspect and running is None else None,
    )


def of_definition(data: bytes, origin: str, source: Host | None) -> Subject:
    """A definition from a file. Raises DocumentError."""
    facts = domain_facts.read(data, origin)
    before = remembered.read(data.decode(errors="replace"), facts.name) if _may_be_ours(data) else None
    subject = _of_domain(facts, source, before, Path(origin).name)
    images = dict(_images(facts))
    return subject._replace(images=images, shared={path: is_shared(path) for path in images})


def of_bundle(path: Path) -> Subject:
    """A bundle, by what it says of itself; its disk is looked at when it is imported. Raises RefusedError."""
    with path.open("rb") as stream:
        reader = bundles.open_bundle(stream)
    brought = importing.read(reader)
    facts = domain_facts.read(reader.definition, str(path))
    before = msgspec.structs.replace(brought.before, profile=brought.chain)
    sources = [d.source for d in facts.writable if d.source]
    images = {
        source: ImageFacts(path=m.name, format=m.disk.format, virtual_size=m.disk.virtual_size, allocated=m.size)
        for source, m in zip(sources, reader.manifest.of(Role.DISK), strict=False)
        if m.disk is not None
    }
    return _ours(facts, before, None)._replace(kind="bundle", images=images, shared=dict.fromkeys(images, False))


def of_image(path: Path, profile_name: str, say: live.Say, *, inspect: bool) -> Subject:
    """A bare image, as a VM of a profile would have it. Raises RefusedError, DiskError, ProfileError."""
    image = msgspec.structs.replace(formats.look(path), written=locks.is_written(path))
    profile, _ = profiles.load(profile_name)
    inside = _inside(path, image, say) if inspect else ImageContents(problem="--no-inspect was given")
    profile = for_contents(profile, inside)
    return Subject(
        name=str(path),
        kind="image",
        ask=lambda _: Wish(profile),
        guest=guests.read(profile.guest.os),
        images={str(path): image},
        contents=inside,
    )


def for_contents(profile: Profile, contents: ImageContents) -> Profile:
    """A profile for what is in an image: its operating system, and the drivers that it starts with."""
    guest = profile.guest
    if contents.os is not None and guest.os in ("unknown", "linux"):
        guest = msgspec.structs.replace(guest, os=contents.os)
    found = [d for d in contents.gpu_drivers or () if d in profile_model.DRIVERS]
    if contents.boots_from("virtio-blk"):
        found.append("virtio")
    drivers = tuple(d for d in profile_model.DRIVERS if d in (*guest.drivers, *found))
    return msgspec.structs.replace(profile, guest=msgspec.structs.replace(guest, drivers=drivers))


def _may_be_ours(data: bytes) -> bool:
    return b"urn:clienthv:vm:1" in data


def _of_domain(facts: DomainFacts, source: Host | None, before: Remembered | None, called: str = "") -> Subject:
    """What is the same for a VM and a definition in a file."""
    functions = devices.functions_of(source)
    if before is not None and before.profile:
        return _ours(facts, before, source)
    now = today.decisions(facts, functions)
    os_id = guests.short_id(facts.os_id) if facts.os_id is not None else "unknown"
    profile = today.profile(facts, now, os_id, functions)
    kept = Kept(decisions={kind: now[kind] for kind in keeping.KEPT_KINDS if now[kind].model != today.UNNAMED})

    def ask(host: Host) -> Wish:
        return Wish(devices.selecting(profile, facts, source, host) if source is not None else profile, kept)

    return Subject(
        name=facts.name or called,
        kind="domain",
        ask=ask,
        domain=facts,
        today=now,
        guest=guests.read(os_id),
        source=source,
    )


def _ours(facts: DomainFacts, before: Remembered, source: Host | None) -> Subject:
    profile = keeping.pinned(profile_model.parse(before.profile), before.seen)

    def ask(host: Host) -> Wish:
        asked = keeping.asked(profile, before, host, ())
        return Wish(asked.profile, asked.kept)

    return Subject(
        name=before.name,
        kind="domain",
        ask=ask,
        domain=facts,
        today=_first(before.plan.decisions),
        guest=guests.read(profile.guest.os),
        source=source,
        ours=True,
    )


def _first(decisions: tuple[Decision, ...]) -> Mapping[Kind, Decision]:
    found: dict[Kind, Decision] = {}
    for decision in decisions:
        if decision.kind is not Kind.USB_DEVICE:
            found.setdefault(decision.kind, decision)
    return found


def _state(domain: Domain, facts: DomainFacts, running: DomainFacts | None) -> State:
    plugged = None
    if running is not None:
        here, defined = _named(running), _named(facts)
        plugged = tuple(name for name in here if name not in defined)
    with suppress(ClienthvError):
        return State(
            running=running is not None, snapshots=domain.snapshots(), managed_save=domain.is_saved(), plugged=plugged
        )
    return State(running=running is not None, plugged=plugged)


def _named(facts: DomainFacts) -> tuple[str, ...]:
    """What of a domain can be plugged in while it runs, in words."""
    return (
        *(f"disk {d.source}" for d in facts.disks if d.source and d.device == "disk"),
        *(f"{h.type} device {h.address or h.ids or h.source}" for h in facts.host_devices),
        *(f"network card on {n.type} {n.source or ''}".strip() for n in facts.nics),
    )


def _images(facts: DomainFacts) -> Iterator[tuple[str, ImageFacts]]:
    """The images of a definition that are here and can be looked at; they are their owner's, chains and all."""
    for disk in facts.writable:
        if disk.source is None or disk.type != "file" or not disk.source.startswith("/"):
            continue
        known = run_format(disk.format)
        with suppress(ClienthvError, OSError):
            path = Path(disk.source)
            image = formats.look(path, trusted_chain=True, known=known)
            yield disk.source, msgspec.structs.replace(image, written=locks.is_written(path))


def _gone(facts: DomainFacts, images: Mapping[str, ImageFacts]) -> Iterator[str]:
    """Files of a VM of this PC that are not here; one that may not be looked at is not among them."""
    named = [d.source for d in facts.disks if d.source and d.type == "file"]
    needed = [path for image in images.values() for path in image.others or ()]
    for path in (*named, *needed):
        try:
            Path(path).stat()
        except FileNotFoundError:
            yield path
        except (OSError, ValueError):
            continue


def _contents(images: Mapping[str, ImageFacts], facts: DomainFacts, say: live.Say) -> ImageContents | None:
    first = next((images[d.source] for d in facts.writable if d.source is not None and d.source in images), None)
    if first is None or first.others:
        return None
    return _inside(Path(first.path), first, say)


def _inside(path: Path, image: ImageFacts, say: live.Say) -> ImageContents:
    form = run_format(image.format)
    if form is None:
        return ImageContents(problem=f"{image.format} images are not looked into; convert it to qcow2")
    return image_contents.inspect(path, form, cache=places.cache() / "images", say=say, kvm=inspect_pc.kvm_is_usable())


def is_shared(path: str) -> bool | None:
    """Whether a file lies on a file system that other PCs have too; None where it is not there."""
    if not Path(path).exists():
        return None
    kind = inspect_pc.file_system_of(path)
    return None if kind is None else kind in _SHARED

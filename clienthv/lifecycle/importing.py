"""``import``: a bundle becomes a VM of this PC, planned anew. Or nothing of it stays."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from clienthv import bundles, guests, journal, places, planner, render
from clienthv.bundles import Progress, Reader
from clienthv.errors import ClienthvError, DiskError, DocumentError, GuestError, ProfileError, UsageError
from clienthv.hypervisor import Connection
from clienthv.images import formats
from clienthv.lifecycle import attempts, differences, files, keeping, live, making, remembered, returning
from clienthv.lifecycle.placing import Placing
from clienthv.lifecycle.remembered import Remembered
from clienthv.lifecycle.returning import Site
from clienthv.model import profile as profile_model
from clienthv.model import values
from clienthv.model.bundle import Manifest, Role
from clienthv.model.host import Host
from clienthv.model.plan import Plan
from clienthv.model.profile import Boot, Profile, ProfileText
from clienthv.model.refusals import Refusal, refuse
from clienthv.model.vm import Options, Seen, Vm

_WORKPLACE: Final = ".clienthv-import-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESERVE: Final = 64 << 20  # bytes that stay free below the images


class Request(NamedTuple):
    """What ``import`` was asked: another name than the bundle's, and another place for the disk image."""

    name: str | None = None
    disk: str | None = None


_BOOT_TABLE: Final = re.compile(r"^[ \t]*\[boot\][^\n]*\n(?:(?![ \t]*\[).*\n?)*", re.MULTILINE)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")
_MACHINE: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}\Z")
_AS_IT_IS: Final = Request()


class Brought(NamedTuple):
    """A bundle's VM as its definition tells, before anything is written; ``uuid`` is one, and may name a folder."""

    name: str
    uuid: str
    before: Remembered
    profile: Profile
    chain: tuple[ProfileText, ...]


class Imported(NamedTuple):
    """The VM that was made: its plan, what changed since it was exported, and what was kept beside it."""

    name: str
    plan: Plan
    changes: tuple[str, ...]
    kept: tuple[str, ...]


def take_in(connection: Connection, stream: BinaryIO, request: Request, say: live.Say, progress: Progress) -> Imported:
    """Make the VM of a bundle. It is not started. Raises every kind of ClienthvError, with nothing left behind."""
    reader = bundles.open_bundle(stream)
    brought = read(reader, request)
    site = Site(connection, brought.name)
    if returning.was_cut_short(site):
        for sentence in returning.settle(site, say):
            say(sentence)
    _refuse_taken(connection, brought)
    host = live.read_host(connection, site.root, brought.name)
    plan, wish = _planned(brought, host)
    disk = _place_of(request, brought, reader.manifest, plan)
    _refuse_no_room(reader.manifest, disk)
    with _unpacked(reader, disk, progress) as folder, journal.held(
        returning.where(), f"clienthv import {brought.name}", say
    ) as held:  # fmt: skip
        returning.settle_before(site, held, say)
        _refuse_taken(connection, brought)
        placed = Placing(folder, reader.manifest, disk, brought.uuid)
        try:
            placed.put(plan, connection, site.owner, held)
            vm = _vm(brought, plan, wish.profile, host, placed)
            domain_xml = render.render(vm, host)
            making.define(connection, site.owner, domain_xml, None, held)
            held.started(site.owner)
        except BaseException:
            with attempts.undoing(say):
                for sentence in returning.take_back(site, held):
                    say(sentence)
                placed.remove_folders()
            raise
    return Imported(brought.name, plan, tuple(_changes(brought, plan, host)), placed.kept)


def read(reader: Reader, request: Request = _AS_IT_IS) -> Brought:
    """The VM that a bundle says it holds. Raises RefusedError.

    Files that its owner named are files of another PC: a kernel or a medium of that name here is a stranger's choice.
    So is what the profile lets go of what a host needs.
    """
    name = request.name or reader.manifest.vm
    if not values.is_vm_name(name):
        msg = f"{name!r} cannot be a VM's name"
        raise UsageError(msg, hint="use letters, digits and _ . + -, at most 64, and begin with a letter or digit")
    try:
        before = remembered.read(reader.definition.decode(), name)
        if before is None or not before.profile:
            raise _bad("it has no profile of clienthv's in it")
        _check_seen(before.seen)
        if (uuid := before.seen.uuid) is None:
            raise _bad("it has no UUID")
        chain = _tamed(before.profile)
        profile = profile_model.parse(chain)
    except (DocumentError, ProfileError, ValueError, SyntaxError, RecursionError) as e:
        raise _bad(str(getattr(e, "message", e))) from e
    return Brought(name, uuid, before, profile, chain)


def _check_seen(seen: Seen) -> None:
    """Refuse what a guest cannot have seen: a UUID names a folder, and the rest goes into a definition."""
    told = (("UUID", seen.uuid, _UUID), ("MAC address", seen.mac, _MAC), ("machine type", seen.machine, _MACHINE))
    for what, value, form in told:
        if value is not None and not form.match(value):
            raise _bad(f"{value[:80]!r} is no {what}")


def _bad(why: str) -> ClienthvError:
    msg = f"the definition in the bundle is none that clienthv makes: {why[:300]}"
    return refuse(Refusal.BAD_DEFINITION, msg, "export the VM again, with this version of clienthv")


def _tamed(chain: tuple[ProfileText, ...]) -> tuple[ProfileText, ...]:
    """A stranger's profile without what only whoever owns this PC may say.

    That is what may be taken from a host that needs it, whose keyboards are shared, which virtual functions are
    trusted, and which files a guest is booted with: it can read them. Raises RefusedError where a text says that in a
    way that cannot be left out.
    """
    profile = profile_model.parse(chain)
    left_out = []
    for kind in profile_model.DEFAULT_LADDERS:
        table = profile.device(kind)
        said = {"allow = []": table.allow, "evdev = []": table.evdev, "trust = false": table.trust}
        if keys := [key for key, value in said.items() if value]:
            left_out.append("\n".join([f"[devices.{kind}]", *keys]))
    if profile.boot != Boot():
        chain = tuple(ProfileText(t.name, t.origin, _BOOT_TABLE.sub("", t.text)) for t in chain)
        if profile_model.parse(chain).boot != Boot():
            raise _bad("its profile boots files of its PC, and says so in a form that cannot be left out")
    if not left_out:
        return chain
    return (ProfileText(chain[0].name, "what clienthv import leaves out", "\n".join(left_out)), *chain)


def _refuse_taken(connection: Connection, brought: Brought) -> None:
    if connection.find(brought.name) is not None:
        msg = f"there is a VM {brought.name} on {connection.uri} already, and it is not overwritten"
        raise GuestError(msg, hint="give another name: clienthv import FILE --name NAME")
    twin = next((d.name for d in connection.domains() if d.uuid == brought.uuid), None)
    if twin is not None:
        msg = f"the bundle's VM is here already, as {twin}: two of one UUID cannot be"
        raise GuestError(msg, hint=f"clienthv down {twin} --undefine forgets it; its disk image stays")


def _planned(brought: Brought, host: Host) -> tuple[Plan, keeping.Asked]:
    seen = brought.before.seen
    wish = keeping.asked(keeping.pinned(brought.profile, seen), brought.before, host, ())
    wish = keeping.with_mdev(wish, brought.name)
    guest = guests.read(brought.profile.guest.os)
    return planner.plan(host, wish.profile, kept=wish.kept, guest=guest), wish


def _place_of(request: Request, brought: Brought, manifest: Manifest, plan: Plan) -> Path | None:
    """Where the disk image goes; None where the bundle has none. Raises DiskError where there is a file already."""
    disks = manifest.of(Role.DISK)
    if not disks:
        return None
    if len(disks) > 1:
        msg = f"the bundle has {len(disks)} disks; clienthv's VMs have one"
        raise refuse(Refusal.BAD_DEFINITION, msg)
    assert disks[0].disk is not None  # noqa: S101 - the manifest was checked
    suffix = "qcow2" if disks[0].disk.format == "qcow2" else "img"
    path = _named(request.disk) if request.disk else places.images() / f"{brought.name}.{suffix}"
    if os.path.lexists(path):
        msg = f"disk image {path} exists already and is not overwritten"
        raise DiskError(msg, hint="give another place: clienthv import FILE --disk PATH")
    return path


def _named(text: str) -> Path:
    if not values.is_plain_text(text):
        msg = f"the path {text!r} has control characters or is not UTF-8"
        raise UsageError(msg, hint="give --disk another path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as e:
        msg = f"the path {text!r} cannot be used: {e}"
        raise DiskError(msg, hint="give --disk another path") from e


def _refuse_no_room(manifest: Manifest, disk: Path | None) -> None:
    if disk is None:
        return
    free = shutil.disk_usage(next(p for p in disk.parents if p.exists())).free
    if manifest.size + _RESERVE > free:
        msg = f"the bundle needs {manifest.size >> 20} MiB below {disk.parent}, where {free >> 20} MiB are free"
        raise DiskError(msg, hint="make room, or give --disk with a path on another disk")


@contextmanager
def _unpacked(reader: Reader, disk: Path | None, progress: Progress) -> Iterator[Path]:
    """The bundle's files, verified, in a folder beside the disk's place; gone at the end, with what nobody took."""
    parent = disk.parent if disk is not None else places.state_root()
    made = [p for p in (parent, *parent.parents) if not p.exists()]
    try:
        with _workplace(parent) as place:
            reader.extract(place / "bundle", progress)
            if disk is not None:
                _check_image(place / "bundle", reader.manifest)
            yield place / "bundle"
    finally:
        for folder in made:
            with suppress(OSError):  # what is in use stays
                folder.rmdir()


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A folder of this import alone, locked while it lives: another tells by that what was left by one that is dead."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(parent)
        place, handle = _locked(parent)
    except OSError as e:
        msg = f"cannot make a folder in {parent}: {e.strerror}"
        raise DiskError(msg, hint="give --disk with a path you may write to") from e
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(handle)


def _locked(parent: Path) -> tuple[Path, int]:
    """A new folder and the handle that locks it. One that another import took for abandoned meanwhile is made again."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=_WORKPLACE, dir=parent))
        with suppress(FileNotFoundError):
            handle = os.open(place, _FOLDER)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if place.exists():
                return place, handle
            os.close(handle)


def remove_abandoned(parent: Path) -> tuple[str, ...]:
    """Remove what imports that were killed have left in a folder of images; what was removed, in sentences."""
    return tuple(f"{left}, left by an import, is gone" for left in parent.glob(f"{_WORKPLACE}*") if _removed(left))


def _removed(folder: Path) -> bool:
    """Whether a folder of an import was one of this user's that nobody has locked, and could be removed."""
    with suppress(OSError):
        handle = os.open(folder, _FOLDER)
        try:
            if os.fstat(handle).st_uid == os.geteuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                return True
        finally:
            os.close(handle)
    return False


def _check_image(folder: Path, manifest: Manifest) -> None:
    """Look at a stranger's image as at any other. Raises RefusedError, DiskError."""
    member = manifest.of(Role.DISK)[0]
    path = folder / member.name
    facts = formats.look(path, known="raw" if member.disk is not None and member.disk.format == "raw" else None)
    if member.disk is None or facts.format != member.disk.format or facts.virtual_size != member.disk.virtual_size:
        msg = f"the disk in the bundle is not what its manifest says: {facts.format}, {facts.virtual_size} bytes"
        raise refuse(Refusal.FORMAT_DISAGREES, msg, "do not use the bundle unless you know who made it")


def _vm(brought: Brought, plan: Plan, profile: Profile, host: Host, placed: Placing) -> Vm:
    """The VM to define: what its guest has seen stays, files of the other PC go."""
    before = brought.before
    disk = str(placed.disk) if placed.disk is not None else None
    # Its format is what was looked at. The definition's word could make a raw image one that leads to files of this PC.
    options = Options(disk=disk, disk_format=placed.disk_format)
    seen = msgspec.structs.replace(before.seen, nvram=str(placed.nvram) if placed.nvram is not None else None)
    return Vm(
        name=brought.name, plan=plan, profile=brought.chain, options=options, storage=files.storage_of(disk),
        seen=keeping.offered(seen, host), hardware=keeping.hardware(plan, profile, before, host),
    )  # fmt: skip


def _changes(brought: Brought, plan: Plan, host: Host) -> Iterator[str]:
    """What is another thing than where it was exported, in sentences."""
    before = brought.before
    yield from keeping.changes(before, plan, host)
    yield from differences.between(before.plan, plan, was="was")
    if before.seen.machine != keeping.offered(before.seen, host).machine:
        yield f"the guest had machine type {before.seen.machine}; this QEMU does not know it, so it sees the newest"
    if plan.memory_mib < before.plan.memory_mib:
        yield f"it gets {plan.memory_mib} MiB of memory; it had {before.plan.memory_mib}"
    options = before.options
    for what, path in (("medium", options.cdrom), ("kernel", options.kernel), ("initial RAM disk", options.initrd)):
        if path is not None:
            yield f"it had the {what} {path}, a file of the other PC: give it with clienthv up {brought.name}"
    if brought.chain != before.profile:
        yield (
            "what its profile allows of a host (devices that it needs, its keyboards, files to boot from) is left out: "
            "that was said of the other PC"
        )

"""``import``: a bundle becomes a VM of this PC, planned anew. Or nothing of it stays."""

from __future__ import annotations

import os
import pwd
import re
import shutil
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
from clienthv.lifecycle.remembered import Remembered
from clienthv.lifecycle.returning import Site
from clienthv.model import profile as profile_model
from clienthv.model import values
from clienthv.model.bundle import Manifest, Role
from clienthv.model.host import Host
from clienthv.model.plan import Kind, Plan, Strategy
from clienthv.model.profile import Boot, Profile, ProfileText
from clienthv.model.refusals import Refusal, refuse
from clienthv.model.vm import Options, Seen, Vm

_UEFI: Final = (Strategy.UEFI, Strategy.UEFI_SECURE_BOOT)
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
    """A bundle's VM as its definition tells, before anything is written."""

    name: str
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
    _refuse_taken(connection, brought)
    site = Site(connection, brought.name)
    host = live.read_host(connection, site.root, brought.name)
    plan, wish = _planned(brought, host)
    disk = _place_of(request, brought, reader.manifest, plan)
    _refuse_no_room(reader.manifest, disk)
    with _unpacked(reader, disk, progress) as folder, journal.held(
        returning.where(), f"clienthv import {brought.name}", say
    ) as held:  # fmt: skip
        returning.settle_before(site, held, say)
        _refuse_taken(connection, brought)
        placed = _Placed(connection, brought, reader.manifest, folder, disk)
        try:
            placed.put(plan)
            vm = _vm(brought, plan, wish.profile, host, placed)
            domain_xml = render.render(vm, host)
            making.define(connection, site.owner, domain_xml, None, held)
            held.started(site.owner)
        except BaseException:
            with attempts.undoing(say):
                placed.take_back()
                for sentence in returning.take_back(site, held):
                    say(sentence)
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
        chain = _tamed(before.profile)
        profile = profile_model.parse(chain)
    except (DocumentError, ProfileError, ValueError, SyntaxError) as e:
        raise _bad(str(getattr(e, "message", e))) from e
    return Brought(name, before, profile, chain)


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
    uuid = brought.before.seen.uuid
    twin = next((d.name for d in connection.domains() if d.uuid == uuid), None)
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
    path = Path(request.disk).expanduser().absolute() if request.disk else places.images() / f"{brought.name}.{suffix}"
    if path.exists() or path.is_symlink():
        msg = f"disk image {path} exists already and is not overwritten"
        raise DiskError(msg, hint="give another place: clienthv import FILE --disk PATH")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        msg = f"cannot make folder {path.parent}: {e.strerror}"
        raise DiskError(msg, hint="give --disk with a path you may write to") from e
    return path


def _refuse_no_room(manifest: Manifest, disk: Path | None) -> None:
    if disk is None:
        return
    free = shutil.disk_usage(disk.parent).free
    if manifest.size + _RESERVE > free:
        msg = f"the bundle needs {manifest.size >> 20} MiB below {disk.parent}, where {free >> 20} MiB are free"
        raise DiskError(msg, hint="make room, or give --disk with a path on another disk")


@contextmanager
def _unpacked(reader: Reader, disk: Path | None, progress: Progress) -> Iterator[Path]:
    """The bundle's files, verified, in a folder beside the disk's place; gone at the end, with what nobody took."""
    parent = disk.parent if disk is not None else places.state_root()
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(".clienthv-import-*"):
        _remove_abandoned(left)
    folder = parent / f".clienthv-import-{os.getpid()}"
    reader.extract(folder, progress)
    try:
        if disk is not None:
            _check_image(folder, reader.manifest)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what a clienthv that was killed left of an import."""
    pid = folder.name.rpartition("-")[2]
    if pid.isdecimal() and not Path("/proc", pid).exists() and folder.is_dir() and not folder.is_symlink():
        with suppress(OSError):
            if folder.stat().st_uid == os.geteuid():
                shutil.rmtree(folder)


def _check_image(folder: Path, manifest: Manifest) -> None:
    """Look at a stranger's image as at any other. Raises RefusedError, DiskError."""
    member = manifest.of(Role.DISK)[0]
    path = folder / member.name
    facts = formats.look(path, known="raw" if member.disk is not None and member.disk.format == "raw" else None)
    if member.disk is None or facts.format != member.disk.format or facts.virtual_size != member.disk.virtual_size:
        msg = f"the disk in the bundle is not what its manifest says: {facts.format}, {facts.virtual_size} bytes"
        raise refuse(Refusal.FORMAT_DISAGREES, msg, "do not use the bundle unless you know who made it")


class _Placed:
    """What was put in place of a bundle's files, for taking it away again."""

    def __init__(
        self, connection: Connection, brought: Brought, manifest: Manifest, folder: Path, disk: Path | None
    ) -> None:
        self._connection, self._brought, self._manifest = connection, brought, manifest
        self._folder, self.disk = folder, disk
        self.nvram: Path | None = None
        self._files: list[Path] = []
        self._folders: list[Path] = []
        self.kept: tuple[str, ...] = ()

    def put(self, plan: Plan) -> None:
        """Put each file where the plan has a use for it, and the rest beside the disk. Raises DiskError."""
        if self.disk is not None:
            self._move(self._folder / self._manifest.of(Role.DISK)[0].name, self.disk)
        kept = []
        if self._manifest.of(Role.NVRAM):
            if plan.of(Kind.FIRMWARE).strategy in _UEFI:
                self.nvram = self._connection.firmware_folder() / f"{self._brought.name}_VARS.fd"
                self._copy(self._folder / "nvram.fd", self.nvram)
            else:
                kept.append(self._keep("nvram.fd", "the UEFI variables, for which this VM has no firmware here"))
        state = [m.name for m in self._manifest.of(Role.TPM)]
        if state and plan.of(Kind.TPM).strategy is Strategy.EMULATED and self._brought.before.seen.uuid:
            folder = self._connection.tpm_folder(self._brought.before.seen.uuid)
            for name in state:
                self._copy(self._folder / name, folder / Path(name).name)
            self._hand_to_swtpm(folder)
        else:
            kept += [self._keep(name, "the TPM's state, for which this VM has no TPM here") for name in state]
        self.kept = tuple(kept)

    def _keep(self, name: str, what: str) -> str:
        beside = self.disk if self.disk is not None else places.images() / self._brought.name
        place = beside.with_name(f"{beside.name}.{Path(name).name}")
        self._move(self._folder / name, place)
        return f"{what}, is kept in {place}"

    def _move(self, source: Path, place: Path) -> None:
        """Give a file its place, unless there is one."""
        self._make(place.parent)
        try:
            os.link(source, place)
        except FileExistsError as e:
            raise _is_there(place) from e
        except OSError:
            self._copy(source, place)
            return
        self._files.append(place)
        place.chmod(0o600)

    def _copy(self, source: Path, place: Path) -> None:
        self._make(place.parent)
        try:
            with place.open("xb") as out, source.open("rb") as data:
                self._files.append(place)
                place.chmod(0o600)
                shutil.copyfileobj(data, out)
        except FileExistsError as e:
            raise _is_there(place) from e
        except OSError as e:
            msg = f"cannot write {place}: {e.strerror}"
            raise DiskError(msg, hint="import VMs for qemu:///system as root") from e

    def _make(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            msg = f"cannot make folder {folder}: {e.strerror}"
            raise DiskError(msg, hint="import VMs for qemu:///system as root") from e
        self._folders += missing

    def _hand_to_swtpm(self, folder: Path) -> None:
        """Libvirt makes these folders and files swtpm's own account's (src/qemu/qemu_tpm.c; qemu.conf, swtpm_user)."""
        if not places.is_root():
            return
        account = next((name for name in ("swtpm", "tss") if _has_account(name)), None)
        if account is not None:
            for path in (folder.parent, folder, *folder.iterdir()):
                shutil.chown(path, account, account)

    def take_back(self) -> None:
        """Remove all of it, and the folders that were made for it."""
        for path in self._files:
            path.unlink(missing_ok=True)
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_there(place: Path) -> DiskError:
    msg = f"{place} exists already and is not overwritten"
    return DiskError(msg, hint="move it away, or import under another name: --name NAME")


def _vm(brought: Brought, plan: Plan, profile: Profile, host: Host, placed: _Placed) -> Vm:
    """The VM to define: what its guest has seen stays, files of the other PC go."""
    before = brought.before
    disk = str(placed.disk) if placed.disk is not None else None
    options = Options(disk=disk, disk_format=before.options.disk_format if disk is not None else None)
    seen = msgspec.structs.replace(before.seen, nvram=str(placed.nvram) if placed.nvram is not None else None)
    return Vm(
        name=brought.name, plan=plan, profile=brought.chain, options=options, storage=files.storage_of(disk),
        seen=_offered(seen, host), hardware=keeping.hardware(plan, profile, before, host),
    )  # fmt: skip


def _offered(seen: Seen, host: Host) -> Seen:
    """What the guest has seen, with the newest machine type where this QEMU does not know the one it had."""
    capabilities = host.stack.capabilities if host.stack is not None else None
    offered = capabilities.machine_types if capabilities is not None else ()
    if seen.machine and offered and seen.machine not in offered:
        return msgspec.structs.replace(seen, machine=None)
    return seen


def _changes(brought: Brought, plan: Plan, host: Host) -> Iterator[str]:
    """What is another thing than where it was exported, in sentences."""
    before = brought.before
    yield from keeping.changes(before, plan, host)
    yield from differences.between(before.plan, plan, was="was")
    if before.seen.machine != _offered(before.seen, host).machine:
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

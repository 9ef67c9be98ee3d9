"""What ``up`` makes besides settings of the host, each written down first: a definition, and a disk image."""

from __future__ import annotations

import os
from pathlib import Path

from clienthv import inspect, process
from clienthv.errors import DiskError, GuestError
from clienthv.hostchanges import Fate, Outcome, name_of
from clienthv.hypervisor import Connection, Domain
from clienthv.journal import Journal, Owner
from clienthv.lifecycle import remembered, slots
from clienthv.model.change import NEW_IMAGE, Change, Setting, What, check

_OWN, _KEPT = "own", "kept"


def define(connection: Connection, owner: Owner, xml: str, before: str | None, held: Journal) -> Domain:
    """Define a VM and note what the definition consists of. Raises HypervisorError and its kin.

    ``before`` is the definition that there is. ``xml`` names the VM's UUID, by which whoever takes the definition back
    knows it for the one that was made. Firmware variables that the VM will have are its own, to go with a definition
    that is taken back, when there was no file of them before.
    """
    own = before is None and not connection.has_firmware_variables(owner.vm)
    uuid = remembered.parse(xml).findtext("uuid") or ""
    setting = Setting(what=What.DOMAIN, device=owner.vm)
    try:
        change = check(Change(setting=setting, before=before or "", after=f"{_OWN if own else _KEPT} {uuid}"))
    except ValueError as e:
        msg = f"VM {owner.vm} cannot be defined by clienthv: {e}"
        raise GuestError(msg, hint="its definition is too large, or its name or UUID is none of clienthv's") from e
    held.record(change, owner)
    domain = connection.define(xml, owner.vm)
    made = domain.xml(inactive=True)
    if (roomy := slots.with_spare_ports(made)) is not None:
        domain = connection.define(roomy, owner.vm)
    domain.note(remembered.INVENTORY, remembered.inventory_element(remembered.inventory(made)))
    return domain


def undefine(connection: Connection, change: Change) -> Outcome:
    """Make a VM's definition what it was, when it is the one that was made. Raises HypervisorError and its kin."""
    name, before, what = change.setting.device, change.before, name_of(change.setting)
    domain = connection.find(name)
    if domain is None:
        return Outcome(Fate.NOTHING_TO_UNDO, "")
    kind, _, uuid = change.after.partition(" ")
    xml = domain.xml(inactive=True)
    noted = remembered.noted_inventory(xml)
    if (uuid and domain.uuid != uuid) or (noted is not None and noted != remembered.inventory(xml)):
        return Outcome(Fate.CHANGED_BY_OTHERS, f"{what} was made or changed by somebody else since, and stays")
    if domain.is_active():
        return Outcome(Fate.STILL_NEEDED, f"{what} stays: the VM runs")
    if before:
        connection.define(before, name)
        return Outcome(Fate.UNDONE, f"{what} is what it was")
    domain.undefine(with_state=kind == _OWN)
    return Outcome(Fate.UNDONE, f"{what} is gone again")


def make_disk(disk: str, mib: int, owner: Owner, held: Journal) -> None:
    """Make an empty qcow2 image of ``mib`` MiB, where there is no file yet. Raises DiskError, HostError.

    It is made beside its place under a name of its own, and put there at once: whoever undoes it finds either that
    file, or the very one that was made.
    """
    path = Path(disk)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        msg = f"cannot make folder {path.parent}: {e.strerror}"
        raise DiskError(msg, hint="give --disk with a path you may write to") from e
    part = part_of(path, owner, held)
    process.create_image(part, mib)
    try:
        put(part, path, owner, held)
    except OSError as e:
        msg = f"cannot make disk image {path}: {e.strerror}"
        raise DiskError(msg, hint="give --disk with another path") from e
    held.forget(Setting(what=What.IMAGE, device=str(part)))


def part_of(path: Path, owner: Owner, held: Journal) -> Path:
    """A name beside a file's place under which it may be made, written down to be removed until it is forgotten."""
    stem = path.name.encode()[:100].decode(errors="ignore")
    part = path.with_name(f".{stem}.{os.getpid()}{NEW_IMAGE}")
    held.record(Change(setting=Setting(what=What.IMAGE, device=str(part)), before="absent", after="new"), owner)
    return part


def put(part: Path, path: Path, owner: Owner, held: Journal) -> None:
    """Give a file that is whole its place on the same file system, written down first. Raises OSError, HostError.

    FileExistsError is raised where there is one already.
    """
    _sync(part)
    setting = Setting(what=What.IMAGE, device=str(path))
    held.record(Change(setting=setting, before="absent", after=_identity(part)), owner)
    _put_in_place(part, path)


def _put_in_place(part: Path, path: Path) -> None:
    """Give a file its name, unless there is one of that name. Raises OSError."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network file systems know no second name
        if path.exists():
            raise
        part.rename(path)
    part.unlink(missing_ok=True)


def remove_disk(change: Change) -> Outcome:
    """Remove an image that was made for a start, unless a guest or somebody else has written to it since."""
    path, what = Path(change.setting.device), name_of(change.setting)
    if writers := inspect.writers_to(str(path)):
        who = ", ".join(map(str, writers))
        return Outcome(Fate.STILL_NEEDED, f"{what} is still being made, by process {who}")
    try:
        if not path.exists():
            return Outcome(Fate.NOTHING_TO_UNDO, "")
        if change.after != "new" and _identity(path) != change.after:
            return Outcome(Fate.CHANGED_BY_OTHERS, f"{what} is not as it was made, and stays")
        path.unlink()
    except OSError as e:
        return Outcome(Fate.STILL_NEEDED, f"{what} cannot be removed: {e.strerror}")
    return Outcome(Fate.UNDONE, f"{what} is gone again")


def is_written_to(change: Change) -> bool:
    """Whether the very image that was made for a start has been written to since."""
    path = Path(change.setting.device)
    if change.after == "new" or not path.exists():
        return False
    now = _identity(path)
    return now != change.after and now.split()[0] == change.after.split()[0]


def _identity(path: Path) -> str:
    """What tells a file from others of its folder, and from itself once it is written to."""
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _sync(path: Path) -> None:
    """Have a file and its name on the disk, so that a power cut leaves what is written down of it."""
    for place in (path, path.parent):
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

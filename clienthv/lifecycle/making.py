"""What ``up`` makes besides settings of the host, each written down first: a definition, and a disk image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clienthv import process
from clienthv.errors import DiskError
from clienthv.hostchanges import Fate, Outcome, name_of
from clienthv.hypervisor import Connection, Domain
from clienthv.journal import Journal, Owner
from clienthv.lifecycle import remembered, slots
from clienthv.model.change import NEW_IMAGE, Change, Setting, What

_OWN: Final = "own"


def define(connection: Connection, owner: Owner, xml: str, before: str | None, held: Journal) -> Domain:
    """Define a VM and note what the definition consists of. Raises HypervisorError and its kin.

    ``before`` is the definition that there is. Firmware variables that the VM will have are its own, to go with a
    definition that is taken back, when there was no file of them before.
    """
    own = before is None and not connection.has_firmware_variables(owner.vm)
    setting = Setting(what=What.DOMAIN, device=owner.vm)
    held.record(Change(setting=setting, before=before or "", after=_OWN if own else "kept"), owner)
    domain = connection.define(xml, owner.vm)
    made = domain.xml(inactive=True)
    if (roomy := slots.with_spare_ports(made)) is not None:
        domain = connection.define(roomy, owner.vm)
    domain.note(remembered.INVENTORY, remembered.inventory_element(remembered.inventory(made)))
    return domain


def undefine(connection: Connection, change: Change) -> Outcome:
    """Make a VM's definition what it was. Raises HypervisorError and its kin."""
    name, before = change.setting.device, change.before
    domain = connection.find(name)
    if before:
        connection.define(before, name)
        return Outcome(Fate.UNDONE, f"{name_of(change.setting)} is what it was")
    if domain is None:
        return Outcome(Fate.NOTHING_TO_UNDO, "")
    domain.undefine(with_state=change.after == _OWN)
    return Outcome(Fate.UNDONE, f"{name_of(change.setting)} is gone again")


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
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}{NEW_IMAGE}")
    of_part = Setting(what=What.IMAGE, device=str(part))
    held.record(Change(setting=of_part, before="absent", after="new"), owner)
    process.create_image(part, mib)
    of_image = Setting(what=What.IMAGE, device=str(path))
    held.record(Change(setting=of_image, before="absent", after=_identity(part)), owner)
    try:
        _put_in_place(part, path)
    except OSError as e:
        msg = f"cannot make disk image {path}: {e.strerror}"
        raise DiskError(msg, hint="give --disk with another path") from e
    held.forget(of_part)


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
    if not path.exists():
        return Outcome(Fate.NOTHING_TO_UNDO, "")
    if is_written_to(change):
        return Outcome(Fate.CHANGED_BY_OTHERS, f"{what} was written to since it was made, and stays")
    try:
        path.unlink()
    except OSError as e:
        return Outcome(Fate.STILL_NEEDED, f"{what} cannot be removed: {e.strerror}")
    return Outcome(Fate.UNDONE, f"{what} is gone again")


def is_written_to(change: Change) -> bool:
    """Whether an image is another than was made, or is not as it was made."""
    path = Path(change.setting.device)
    return change.after != "new" and path.exists() and _identity(path) != change.after


def _identity(path: Path) -> str:
    """What tells a file from others, and from itself once it is written to."""
    status = path.stat()
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"

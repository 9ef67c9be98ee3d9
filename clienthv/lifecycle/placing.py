"""Where the files of a bundle go: each place is written down first, so that whoever comes after a crash undoes it."""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from clienthv import places
from clienthv.errors import DiskError
from clienthv.hypervisor import Connection
from clienthv.journal import Journal, Owner
from clienthv.lifecycle import making
from clienthv.model.bundle import Manifest, Role
from clienthv.model.change import Setting, What
from clienthv.model.plan import Kind, Plan, Strategy

_UEFI: Final = (Strategy.UEFI, Strategy.UEFI_SECURE_BOOT)
_AS_ROOT: Final = "import VMs for qemu:///system as root"


class Placing:
    """What is put in place of a bundle's files; ``folder`` is where they lie, ``disk`` where the image goes.

    ``uuid`` is the VM's, checked: its TPM's folder is named by it.
    """

    def __init__(self, folder: Path, manifest: Manifest, disk: Path | None, uuid: str) -> None:
        self._folder, self._manifest, self.disk, self._uuid = folder, manifest, disk, uuid
        self.nvram: Path | None = None
        self.kept: tuple[str, ...] = ()
        self._folders: list[Path] = []

    @property
    def disk_format(self) -> str | None:
        """The format of the disk image, as it was looked at by the manifest's word; None where there is none."""
        disk = self._manifest.of(Role.DISK)[0].disk if self.disk is not None else None
        return disk.format if disk is not None else None

    def put(self, plan: Plan, connection: Connection, owner: Owner, held: Journal) -> None:
        """Put each file where the plan has a use for it, and the rest beside the disk. Raises DiskError, HostError."""
        if self.disk is not None:
            self._place(self._manifest.of(Role.DISK)[0].name, self.disk, owner, held)
        kept = []
        if self._manifest.of(Role.NVRAM):
            if plan.of(Kind.FIRMWARE).strategy in _UEFI:
                self.nvram = connection.firmware_folder() / f"{owner.vm}_VARS.fd"
                self._place("nvram.fd", self.nvram, owner, held)
            else:
                what = "the UEFI variables, for which this VM has no firmware here"
                kept.append(self._keep("nvram.fd", what, owner, held))
        state = [m.name for m in self._manifest.of(Role.TPM)]
        if plan.of(Kind.TPM).strategy is Strategy.EMULATED:
            self._put_tpm(state, connection.tpm_folder(self._uuid), owner, held)
        else:
            what = "the TPM's state, for which this VM has no TPM here"
            kept += [self._keep(name, what, owner, held) for name in state]
        self.kept = tuple(kept)

    def _put_tpm(self, state: list[str], folder: Path, owner: Owner, held: Journal) -> None:
        """The TPM's state; what a VM of this UUID has left here is another's secret, and not for this one."""
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            if there := next(folder.iterdir(), None):
                raise _is_there(there, "move it away, if no VM needs it")
        made = [self._place(name, folder / Path(name).name, owner, held) for name in state]
        if made:
            self._hand_to_swtpm(made)

    def _keep(self, name: str, what: str, owner: Owner, held: Journal) -> str:
        beside = self.disk if self.disk is not None else places.images() / owner.vm
        place = beside.with_name(f"{beside.name}.{Path(name).name}")
        self._place(name, place, owner, held)
        return f"{what}, is kept in {place}"

    def _place(self, name: str, place: Path, owner: Owner, held: Journal) -> Path:
        """Give a file its place, unless there is one. On another file system it is copied beside its place first."""
        source = self._folder / name
        try:
            self._make(place.parent)
            if _same_file_system(source, place.parent):
                making.put(source, place, owner, held)
            else:
                part = making.part_of(place, owner, held)
                _copy(source, part)
                making.put(part, place, owner, held)
                held.forget(Setting(what=What.IMAGE, device=str(part)))
        except FileExistsError as e:
            raise _is_there(place, "move it away, or import under another name: --name NAME") from e
        except OSError as e:
            msg = f"cannot write {place}: {e.strerror}"
            raise DiskError(msg, hint=_AS_ROOT) from e
        return place

    def _make(self, folder: Path) -> None:
        self._folders += [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)

    def _hand_to_swtpm(self, made: list[Path]) -> None:
        """Libvirt makes these folders and files swtpm's own account's (src/qemu/qemu_tpm.c; qemu.conf, swtpm_user)."""
        account = next((name for name in ("swtpm", "tss") if _has_account(name)), None)
        if account is None or not places.is_root():
            return
        user = pwd.getpwnam(account)
        folder = made[0].parent
        for path in (*(f for f in (folder.parent, folder) if f in self._folders), *made):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def remove_folders(self) -> None:
        """Remove the folders that were made, where nothing is in them any more."""
        for folder in sorted(self._folders, key=lambda f: len(f.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()


def _same_file_system(file: Path, folder: Path) -> bool:
    return file.stat().st_dev == folder.stat().st_dev


def _copy(source: Path, part: Path) -> None:
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out, source.open("rb") as data:
        shutil.copyfileobj(data, out)


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_there(place: Path, hint: str) -> DiskError:
    msg = f"{place} exists already and is not overwritten"
    return DiskError(msg, hint=hint)

"""The files a VM is started from: checked before anything is changed, and made when asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from clienthv import places
from clienthv.errors import DiskError, UsageError
from clienthv.hypervisor import Connection
from clienthv.images import formats
from clienthv.lifecycle import remembered
from clienthv.model import values
from clienthv.model.image import RUN_FROM, run_format
from clienthv.model.profile import Boot, Profile
from clienthv.model.vm import Options, Storage

_LINUX_AT: Final = 0x202  # kernel, Documentation/arch/x86/boot.rst: the header's magic
_HEAD: Final = 0x206
# cpio (newc, crc), gzip, xz, zstd, lz4 (legacy), bzip2, lzma: what a kernel takes as initial RAM disk
_ARCHIVES: Final = (
    b"070701", b"070702", b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"BZh",
    b"\x5d\x00\x00",
)  # fmt: skip


class Wanted(NamedTuple):
    """What the command line says of a VM's files. Sizes are text with a unit."""

    disk: str | None = None
    new_disk: str | None = None
    cdrom: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None


def resolve(name: str, wanted: Wanted, before: Options, profile: Profile) -> tuple[Options, int | None]:
    """The files to use, checked, and the size in MiB of the image still to be made, if any.

    What the command line says goes first, then what the VM remembers, then the profile. Raises DiskError, UsageError.
    """
    disk, new_mib = _disk(name, wanted, before)
    kernel, initrd, cmdline = _boot(wanted, before, profile.boot)
    if (wanted.initrd or wanted.cmdline) and not kernel:
        msg = "an initrd or a command line is of no use without a kernel"
        raise UsageError(msg, hint="give --kernel FILE too")
    options = Options(
        disk=str(disk) if disk else None,
        disk_format=_format(disk, before, new=new_mib is not None),
        cdrom=_cdrom(wanted, before),
        kernel=kernel,
        initrd=initrd,
        cmdline=cmdline,
    )
    return options, new_mib


def _format(disk: Path | None, before: Options, *, new: bool) -> str | None:
    """An image's format. It is looked at once: a guest could write a raw image so that it looks like another."""
    if disk is None or new:
        return None if disk is None else "qcow2"
    known = run_format(before.disk_format) if str(disk) == before.disk else None
    found = formats.look(disk, known=known, check=known is None).format
    if found not in RUN_FROM:
        msg = f"{disk} is a {found} image; VMs are run from qcow2 or raw images"
        raise DiskError(msg, hint=f"qemu-img convert -O qcow2 {disk} NEW.qcow2")
    return found


def _cdrom(wanted: Wanted, before: Options) -> str | None:
    path = before.cdrom if wanted.cdrom is None else wanted.cdrom
    if not path:
        return None
    try:
        return str(_regular(path, "ISO image"))
    except DiskError as e:
        if wanted.cdrom is None:
            raise DiskError(e.message, hint='give --cdrom with another path, or --cdrom "" to go on without') from e
        raise


def _disk(name: str, wanted: Wanted, before: Options) -> tuple[Path | None, int | None]:
    path = _plain(wanted.disk) if wanted.disk else Path(before.disk) if before.disk else None
    if wanted.new_disk is None:
        if path is None:
            return None, None
        if not path.exists():
            msg = f"disk image {path} does not exist"
            raise DiskError(msg, hint="give --new-disk SIZE too, to make it")
        return _regular(str(path), "disk image"), None
    try:
        mib = values.parse_mib(wanted.new_disk)
    except ValueError as e:
        raise UsageError(f"--new-disk: {e}", hint='for example --new-disk "40 GiB"') from e
    path = path or places.images() / f"{name}.qcow2"
    if path.is_dir():
        msg = f"disk image {path} is a folder"
        raise DiskError(msg, hint="give the path of a file")
    if path.exists():
        msg = f"disk image {path} exists already and is not overwritten"
        raise DiskError(msg, hint=f"leave out --new-disk to use it: --disk {path}")
    return path, mib


class BootFiles(NamedTuple):
    """A kernel with what belongs to it."""

    kernel: str | None
    initrd: str | None
    cmdline: str | None


def _boot(wanted: Wanted, before: Options, profile: Boot) -> BootFiles:
    """The kernel named now, else the one remembered while it is still there, else the profile's."""
    if wanted.kernel:
        initrd = str(_regular(wanted.initrd, "initrd")) if wanted.initrd else None
        return BootFiles(str(_regular(wanted.kernel, "kernel")), initrd, wanted.cmdline)
    if before.kernel and Path(before.kernel).is_file():
        found = BootFiles(before.kernel, before.initrd, before.cmdline)
    else:
        found = boot_files(profile)
    initrd = str(_regular(wanted.initrd, "initrd")) if wanted.initrd else found.initrd
    return BootFiles(found.kernel, initrd, wanted.cmdline or found.cmdline)


def boot_files(boot: Boot) -> BootFiles:
    """A profile's kernel and initrd as files of this PC; of a pattern's matches the last. Raises DiskError."""
    if boot.kernel is None:
        return BootFiles(None, None, None)
    kernel, initrd = _matching(boot.kernel, "kernel"), boot.initrd and _matching(boot.initrd, "initrd")
    return BootFiles(kernel, initrd, boot.cmdline)


def _matching(pattern: str, what: str) -> str:
    """The file a profile names, which must look like what it is given as.

    Profiles come from strangers, and a guest can read what it is booted with.
    """
    if "**" in pattern:
        msg = f"{what} {pattern}: ** would search whole trees"
        raise DiskError(msg, hint="name the folders, with a * for one of them")
    path = pattern
    if "*" in pattern:
        matches = sorted(Path("/").glob(pattern.lstrip("/")))
        if not matches:
            msg = f"no {what} at {pattern}"
            raise DiskError(msg, hint="install the package that carries it (make setup, for the demo)")
        path = str(matches[-1])
    found = _regular(path, what)
    with found.open("rb") as file:
        head = file.read(_HEAD)
    if not (head[_LINUX_AT:].startswith(b"HdrS") if what == "kernel" else head.startswith(_ARCHIVES)):
        msg = f"{found} does not look like {'a Linux kernel' if what == 'kernel' else 'an initial RAM disk'}"
        raise DiskError(msg, hint=f"correct boot.{what} in the profile, or give --{what}")
    return str(found)


def _plain(text: str) -> Path:
    if not values.is_plain_text(text):
        msg = f"the path {text!r} has control characters or is not UTF-8"
        raise UsageError(msg, hint="rename the file")
    try:
        path = Path(text).expanduser().absolute()
        path.exists()
    except (RuntimeError, ValueError, OSError) as e:
        msg = f"the path {text!r} cannot be used: {getattr(e, 'strerror', None) or e}"
        raise DiskError(msg, hint="check the path and its permissions") from e
    return path


def _regular(text: str, what: str) -> Path:
    path = _plain(text)
    try:
        if path.is_dir():
            msg = f"{what} {path} is a folder"
            raise DiskError(msg, hint="give the path of a file")
        if not path.exists():
            msg = f"{what} {path} does not exist"
            raise DiskError(msg, hint="check the path")
        if not path.is_file():
            msg = f"{what} {path} is a device or pipe; VMs are run from image files"
            raise DiskError(msg, hint="to hand over a whole disk, select its controller in the profile")
        with path.open("rb"):
            pass
    except OSError as e:
        msg = f"cannot read {what} {path}: {e.strerror}"
        raise DiskError(msg, hint="check the path and its permissions") from e
    return path


def storage_of(disk: str | None) -> Storage:
    """What lies below an image that is there (man 2 open, O_DIRECT).

    Some file systems refuse to be read past the page cache; QEMU then refuses cache='none'.
    """
    try:
        os.close(os.open(disk or "", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return Storage()
    return Storage(direct=True, block_device=Path(disk or "").is_block_device())


def refuse_shared(options: Options, name: str, connection: Connection) -> None:
    """Refuse an image that another VM of this connection has: two writers destroy it. Raises DiskError."""
    if options.disk is None:
        return
    mine = Path(options.disk).resolve()
    for domain in connection.domains():
        if domain.name != name and any(Path(p).resolve() == mine for p in remembered.image_paths(domain.xml())):
            running = " and runs" if domain.is_active() else ""
            msg = f"disk image {options.disk} belongs to VM {domain.name}, which is defined{running}"
            raise DiskError(msg, hint=f"copy the image, or clienthv down {domain.name} --undefine")

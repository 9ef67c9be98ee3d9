"""What is inside a disk image, without starting it: libguestfs looks, in a process of its own; this judges."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from clienthv import process
from clienthv.errors import DiskError, HostError
from clienthv.images import booting, kept, linux, ties, windows
from clienthv.images.seen import MOST, Root, Seen
from clienthv.model.contents import Answer, ImageContents
from clienthv.model.image import RunFormat

_log: Final = logging.getLogger(__name__)
SECONDS: Final = 180.0
"""How long looking inside may take: 15 to 20 s were measured without KVM, on two busy cores."""
_SCRIPT: Final = Path(__file__).with_name("appliance.py")
_CONFIGURED: Final = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/extlinux/extlinux.conf")
_AGENTS: Final = ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga")
_WORDS: Final = 500
_THERE: Final[dict[Answer, str]] = {True: "there", False: "not there", None: "nobody could tell"}
_NO_KERNEL: Final = (
    "libguestfs cannot make its small VM: it needs a kernel in /boot that you may read, and its modules in "
    "/lib/modules (Debian: apt install linux-image-cloud-amd64; Ubuntu: sudo chmod 0644 /boot/vmlinuz-*)"
)
_NO_GUESTFS: Final = (
    "libguestfs is not installed: install python3-guestfs (Fedora: python3-libguestfs, Arch: libguestfs), "
    "which looks inside images"
)


class _Look(NamedTuple):
    """What a look gave, and whether it stays true while the image stays as it is."""

    contents: ImageContents
    lasting: bool


def inspect(
    path: Path,
    image_format: RunFormat,
    *,
    cache: Path | None,
    say: Callable[[str], None],
    kvm: bool = True,
    within: float = SECONDS,
) -> ImageContents:
    """What is inside a disk image, which is opened read-only and not started.

    ``cache`` is a folder for what was found and for libguestfs's small VM, which takes 400 MB and 5 s to make; with
    None nothing is kept. ``say`` hears how far it is. ``kvm`` is whether KVM works here, ``within`` a time in seconds.
    What cannot be done is the result's ``problem``; nothing is raised for it.
    """
    try:
        name = kept.key(path, image_format)
        unfit = _unfit(path, image_format)
    except kept.NotAFileError:
        return ImageContents(problem=f"{path} is not an ordinary file")
    except OSError as e:
        return ImageContents(problem=f"{path} cannot be read: {e.strerror}")
    if unfit is not None:
        return ImageContents(problem=f"{path} {unfit}")
    known = kept.recall(cache, name) if cache is not None else None
    if known is not None:
        _log.info("what is in %s was kept in %s", path, cache)
        return known
    look = _look(path, image_format, cache, say, kvm=kvm, within=within)
    if cache is not None and look.lasting and _unchanged(path, image_format, name):
        kept.keep(cache, name, look.contents)
    return look.contents


def _unchanged(path: Path, image_format: str, name: str) -> bool:
    try:
        return kept.key(path, image_format) == name
    except (OSError, kept.NotAFileError):
        return False


def _unfit(path: Path, image_format: str) -> str | None:
    """Why libguestfs is not given a qcow2 image: QEMU would open the files it leads to (QEMU, docs/interop/qcow2.rst).

    Raises OSError.
    """
    if image_format != "qcow2":
        return None
    with path.open("rb") as file:
        header = file.read(104)
    if len(header) < 72 or header[:4] != b"QFI\xfb":
        return "is not a qcow2 image"
    (version, backing) = struct.unpack_from(">IQ", header, 4)
    (crypt,) = struct.unpack_from(">I", header, 32)
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 and len(header) >= 80 else 0
    if backing or features & 4:
        return "leads to another file, which is not opened: make it one file with qemu-img convert, if you trust it"
    return "is encrypted: nobody can look inside without its key" if crypt else None


def _look(
    path: Path, image_format: str, cache: Path | None, say: Callable[[str], None], *, kvm: bool, within: float
) -> _Look:
    """Have libguestfs look inside, and judge what it saw."""
    with tempfile.TemporaryDirectory(prefix="chv-", ignore_cleanup_errors=True) as private:
        folder = Path(private)
        try:
            appliance = _appliance(cache, folder)
            (folder / "image").symlink_to(path.resolve())  # a name that nobody has to quote
            process.create_overlay(folder / "overlay", folder / "image", image_format)
            told = process.guestfs(
                [str(_SCRIPT), str(folder / "overlay"), private],
                process.Appliance(folder, appliance, kvm), within, MOST, say,
            )  # fmt: skip
        except TimeoutError:
            problem = (
                f"libguestfs did not finish within {within:.0f} seconds: without KVM, or on a busy PC, it takes long"
            )
            return _Look(ImageContents(problem=problem), lasting=False)
        except DiskError as e:
            return _Look(ImageContents(problem=str(e)), lasting=False)
        except (HostError, OSError) as e:
            return _Look(ImageContents(problem=f"libguestfs cannot be run: {e}"), lasting=False)
        if told.code != 0:
            return _Look(ImageContents(problem=_failure(told)), lasting=False)
        try:
            seen = msgspec.json.decode(told.document, type=Seen)
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            problem = f"what libguestfs said of it cannot be understood: {e}"[:_WORDS]
            return _Look(ImageContents(problem=problem), lasting=False)
        say("judging what was seen")
        return _Look(contents_of(seen, folder), lasting=True)


def _appliance(cache: Path | None, folder: Path) -> Path:
    """The folder for libguestfs's small VM, without those that an interrupt left half made. Raises OSError."""
    if cache is None:
        return folder
    kept_at = cache / "appliance"
    kept_at.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = kept_at / f".guestfs-{os.geteuid()}"
    if (own / "lock").exists():
        with (own / "lock").open("r+b") as lock, suppress(BlockingIOError):  # it is held while one is made
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for half_made in own.glob("appliance.d.*"):
                shutil.rmtree(half_made, ignore_errors=True)
    return kept_at


def _failure(told: process.Looked) -> str:
    """A sentence on why libguestfs failed."""
    if told.code == process.NO_GUESTFS:
        return _NO_GUESTFS
    if "supermin" in told.words:
        return _NO_KERNEL
    lines = [line.strip() for line in told.words.splitlines() if line.startswith("RuntimeError: ")]
    why = lines[-1].removeprefix("RuntimeError: ") if lines else f"it ended with {told.code}"
    hint = "; is it in use by a VM that runs, or does KVM not work here?" if "launch" in why else ""
    return f"libguestfs could not open it: {why.rstrip('.')}{hint}"[:_WORDS]


def contents_of(seen: Seen, folder: Path) -> ImageContents:
    """What an image is, from what was seen in it; copies of initial RAM disks are in ``folder``."""
    locked = booting.encrypted(seen)
    boot = booting.boot_of(seen)
    if not seen.roots:
        closed = f"it is encrypted ({', '.join(locked)}): nobody can look inside without its key"
        problem = closed if locked else "no operating system was recognised in it"
        return ImageContents(problem=problem, evidence=_evidence([*boot.evidence, *seen.notes]))
    first = seen.roots[0]
    common = ImageContents(
        os=first.osinfo if first.osinfo != "unknown" else None,
        family="linux" if first.type == "linux" else "windows" if first.type == "windows" else "other",
        product=_product(first),
        version=_version(first),
        architecture=first.arch if first.arch != "unknown" else None,
        hibernated=booting.hibernated(seen),
        dirty=booting.dirty(seen),
        evidence=_evidence(
            [
                f"operating system on {first.device}",
                *(
                    f"another operating system, not looked at: {r.osinfo or r.type} on {r.device}"
                    for r in seen.roots[1:]
                ),
                *(f"encrypted, not looked at: {what}" for what in locked),
                *boot.evidence,
            ]
        ),
    )
    if first.type == "linux":
        return _linux(common, seen, boot, folder)
    return _windows(common, seen, boot) if first.type == "windows" else common


def _linux(common: ImageContents, seen: Seen, boot: booting.Boot, folder: Path) -> ImageContents:
    kernels = tuple(linux.early(k, folder) for k in seen.kernels)
    unified = [n for f in seen.file_systems for n in f.loaders or () if n.lower().startswith("efi/linux/")]
    configured = [p for p in seen.present if p in _CONFIGURED] + [p for p in seen.files if "/loader/entries/" in p]
    elsewhere = booting.unseen(seen)
    starts: Answer = False if elsewhere is None else None
    if kernels or unified:
        starts = _either(boot.bios, boot.uefi) and (True if configured or unified else None)
    said = [
        f"kernels: {', '.join(k.path for k in seen.kernels) or 'none in /boot'}",
        *([f"kernels elsewhere: {elsewhere}"] if elsewhere and not kernels else []),
        f"boot loader configuration: {', '.join(configured) or 'none that is known'}",
        *(f"unified kernel image: {n}" for n in unified[:4]),
        *(f"before the disk: {k.why}" for k in kernels),
    ]
    bound = ties.ties(seen)
    if boot.uefi and not boot.fallback:
        bound += ("UEFI starts it only by a boot entry in the firmware's variables, which stay behind",)
    return msgspec.structs.replace(
        common,
        bootable=starts,
        bios=boot.bios and (bool(kernels) or None),
        uefi=boot.uefi,
        boot_drivers=linux.boot_drivers(kernels),
        network_drivers=linux.network_drivers(seen.kernels),
        gpu_drivers=linux.gpu_drivers(seen),
        tied_to=bound,
        cloud_init=linux.has(seen, "/usr/bin/cloud-init"),
        guest_agent=linux.has(seen, *_AGENTS),
        evidence=_evidence([*common.evidence, *said]),
    )


def _windows(common: ImageContents, seen: Seen, boot: booting.Boot) -> ImageContents:
    old = _has(seen, "ntfs", {"bootmgr", "boot/bcd"})
    new = _has(seen, "vfat", {"efi/microsoft/boot/bootmgfw.efi", "efi/microsoft/boot/bcd"})
    bios = False if old is False or boot.bios is False else boot.bios and old
    starts = _either(bios, new)
    said = [
        f"Windows boot manager for BIOS (bootmgr, Boot\\BCD): {_THERE[old]}",
        f"Windows boot manager for UEFI (bootmgfw.efi, BCD): {_THERE[new]}",
    ]
    known = seen.windows
    if known is None:
        more = msgspec.structs.replace(common, evidence=_evidence([*common.evidence, *said, "no SYSTEM hive was read"]))
        return msgspec.structs.replace(more, bootable=starts, bios=bios, uefi=new)
    return msgspec.structs.replace(
        common,
        bootable=starts,
        bios=bios,
        uefi=new,
        boot_drivers=windows.boot_drivers(known),
        network_drivers=windows.network_drivers(known),
        gpu_drivers=windows.gpu_drivers(known),
        cloud_init=windows.runs(known, "cloudbase-init"),
        guest_agent=windows.runs(known, "qemu-ga"),
        evidence=_evidence([*common.evidence, *said]),
    )


def _has(seen: Seen, kind: str, names: set[str]) -> Answer:
    """Whether the file systems of a kind have these files; None where not all of them could be read."""
    found = [f.loaders for f in seen.of_type(kind)]
    if names <= {n.lower() for loaders in found for n in loaders or ()}:
        return True
    return None if None in found else False


def _either(one: Answer, other: Answer) -> Answer:
    """Whether one of two holds; None where that is not known."""
    return True if one or other else None if one is None or other is None else False


def _product(root: Root) -> str | None:
    name = root.product_name
    if not name or name == "unknown":
        return None
    return f"{root.distro.capitalize()} {name}" if name[0].isdigit() and root.distro else name


def _version(root: Root) -> str | None:
    if not root.major_version or root.major_version < 0:
        return None
    return f"{root.major_version}.{root.minor_version}" if root.minor_version is not None else str(root.major_version)


def _evidence(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:_WORDS] for line in lines[:60])

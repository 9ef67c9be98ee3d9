"""``export``: a VM that does not run, with all that it needs elsewhere, as one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from clienthv import __version__, bundles
from clienthv.bundles import DiskPart, Parts, Progress
from clienthv.errors import DiskError, GuestError, HostError
from clienthv.hypervisor import Connection, Domain
from clienthv.images import formats
from clienthv.lifecycle import remembered
from clienthv.lifecycle.remembered import Remembered
from clienthv.model.bundle import Manifest
from clienthv.model.image import run_format

_TPM_FILES: Final = ("tpm2-00.permall", "tpm2-00.savestate", "tpm2-00.volatilestate")
"""What swtpm keeps (swtpm, src/swtpm/swtpm_nvstore_dir.c), but for its lock."""
_EMULATED_TPM: Final = "devices/tpm/backend[@type='emulator']"
_MOST_STATE: Final = 64 << 20  # bytes: edk2's variables have less, and swtpm's state far less


class Exported(NamedTuple):
    """What was written, and what of the VM did not go along, in sentences."""

    manifest: Manifest
    left: tuple[str, ...]


def to_file(connection: Connection, name: str, path: Path, progress: Progress) -> Exported:
    """Write a VM's bundle to a new file. Raises GuestError, DiskError, RefusedError."""
    parts, left = gather(connection, name)
    return Exported(bundles.write_file(path, parts, progress), left)


def to_stream(connection: Connection, name: str, output: BinaryIO, progress: Progress) -> Exported:
    """Write a VM's bundle to a pipe. Raises GuestError, DiskError, RefusedError."""
    parts, left = gather(connection, name)
    return Exported(bundles.write(output, parts, progress), left)


def gather(connection: Connection, name: str) -> tuple[Parts, tuple[str, ...]]:
    """What a VM consists of; nothing is copied yet."""
    domain = connection.domain(name)
    xml = domain.xml(inactive=True)
    before = _exportable(domain, xml)
    disk = _disk(before)
    nvram, tpm = _nvram(before), _tpm(connection, domain, xml)
    parts = Parts(
        vm=name,
        definition=xml.encode(),
        created_by=f"clienthv {__version__}",
        disks=(disk,) if disk is not None else (),
        nvram=nvram,
        tpm=tpm,
    )
    left = _left(before, xml, disk)
    if not tpm and remembered.parse(xml).find(_EMULATED_TPM) is not None:
        left.append(f"no TPM state was found in {connection.tpm_folder(domain.uuid)}: the VM gets an empty TPM")
    return parts, tuple(left)


def _exportable(domain: Domain, xml: str) -> Remembered:
    name = domain.name
    before = remembered.read(xml, name)
    if before is None or not before.profile:
        msg = f"VM {name} was not made by clienthv, so there is no profile to plan it by on another PC"
        raise GuestError(
            msg, hint="clienthv migrate-check says what it would become; clienthv up --disk adopts its image"
        )
    if domain.is_active():
        msg = f"VM {name} runs: its disk changes while it would be copied"
        raise GuestError(msg, hint=f"clienthv down {name}, then export it")
    if domain.is_saved():
        msg = f"VM {name} sleeps (managed save), and what it has in memory cannot go along"
        raise GuestError(msg, hint=f"virsh start {name} wakes it; shut it down, then export it")
    noted = remembered.noted_inventory(xml)
    if noted is not None and noted != remembered.inventory(xml):
        msg = f"the definition of VM {name} was changed outside clienthv, and another PC would plan without that"
        raise GuestError(msg, hint=f"clienthv up {name} --redefine drops the change")
    return before


def _disk(before: Remembered) -> DiskPart | None:
    if before.options.disk is None:
        return None
    path = Path(before.options.disk)
    try:
        path.stat()
    except FileNotFoundError as e:
        msg = f"disk image {path} of VM {before.name} does not exist"
        raise DiskError(msg, hint="is the disk that it lies on mounted?") from e
    except OSError as e:
        raise _unreadable("disk image", before.name, e) from e
    facts = formats.look(path, known=run_format(before.options.disk_format))
    form = run_format(facts.format)
    if form is None or facts.virtual_size is None:
        msg = f"{path} is a {facts.format} image; a bundle holds qcow2 and raw images"
        raise DiskError(msg, hint=f"qemu-img convert -O qcow2 {path} NEW.qcow2")
    return DiskPart(path, form, facts.virtual_size)


def _nvram(before: Remembered) -> bytes | None:
    """The guest's UEFI variables; None for a VM that has none, or never started."""
    path = before.seen.nvram
    return _bytes(Path(path), "UEFI variables", before.name) if path is not None else None


def _tpm(connection: Connection, domain: Domain, xml: str) -> Mapping[str, bytes]:
    """The files of its TPM in software; none for a VM without, or that never started."""
    if remembered.parse(xml).find(_EMULATED_TPM) is None:
        return {}
    folder = connection.tpm_folder(domain.uuid)
    try:
        found = [path for path in folder.iterdir() if path.name in _TPM_FILES]
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise _unreadable("TPM state", domain.name, e) from e
    read = {path.name: _bytes(path, "TPM state", domain.name) for path in sorted(found)}
    return {name: data for name, data in read.items() if data is not None}


def _bytes(path: Path, what: str, name: str) -> bytes | None:
    """A file's bytes, None where there is none. Whose folder nobody may look into is not taken for missing."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_STATE + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _unreadable(what, name, e) from e
    if len(data) > _MOST_STATE:
        msg = f"the {what} of VM {name} in {path} are larger than any can be"
        raise DiskError(msg, hint="look at what that file is")
    return data


def _unreadable(what: str, name: str, error: OSError) -> HostError:
    msg = f"cannot read the {what} of VM {name}: {error.strerror}"
    return HostError(msg, hint="export VMs of qemu:///system as root")


def _left(before: Remembered, xml: str, disk: DiskPart | None) -> list[str]:
    """What stays behind."""
    options, said = before.options, []
    if options.cdrom is not None:
        said.append(f"the medium {options.cdrom} stays behind")
    if options.kernel is not None:
        said.append(f"the kernel {options.kernel} stays behind, and what belongs to it")
    if disk is None:
        said.append("it has no disk image: what it has on a disk of this PC stays there")
    if remembered.parse(xml).find("devices/tpm/backend[@type='passthrough']") is not None:
        said.append("the TPM is this PC's own: what is sealed in it stays")
    return said

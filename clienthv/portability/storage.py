"""Disks, media and shared folders: what must go along, and what must be there already."""

from __future__ import annotations

import shlex
from typing import Final

from clienthv.model import values
from clienthv.model.domain import DiskFacts, DomainFacts
from clienthv.model.image import RUN_FROM, ImageFacts
from clienthv.model.plan import Kind
from clienthv.model.portability import Code
from clienthv.portability.subject import Findings, Subject, Target, blocks, changes, info, stops_live, unknown, warns

_GIB: Final = 1 << 30
_OF_A_BOARD: Final = ("ide", "fdc", "sata")
"""Buses that boards bring along: the capabilities are those of one board, and the definition's has its own."""
_LOCAL: Final = ("file", "block", "volume")
_NOT_SENT: Final = ("vmdk", "vdi", "vpc", "vhdx", "qcow", "ploop")
"""Formats of which QEMU 10.0 says that they do not support live migration."""
_DIRECT: Final = ("none", "directsync")
_DROPS_CACHE: Final = (4, 0)


def findings(subject: Subject, target: Target) -> Findings:
    """What speaks against a subject's storage."""
    yield from _space(subject, target)
    if subject.domain is None:
        for image in subject.images.values():
            yield from _image(image, subject)
        return
    for disk in subject.domain.disks:
        if disk.source is None:
            continue
        if disk.device in ("cdrom", "floppy"):
            yield from _medium(disk, subject, target)
        else:
            yield from _disk(disk, subject, target)
    yield from _folders(subject.domain, target)
    for path in subject.domain.paths:
        yield from _host_file(path, target)
    if subject.domain.kernel is not None:
        yield from _host_file(subject.domain.kernel, target)


def _disk(disk: DiskFacts, subject: Subject, target: Target) -> Findings:
    source = disk.source or ""
    yield from _while_it_runs(disk)
    if disk.type == "nvme":
        return  # a PCI function, judged with the others
    if disk.type == "block" or (source.startswith("/dev/") and disk.type in _LOCAL):
        yield changes(
            Code.DISK_OF_THE_HOST,
            source,
            "a disk of the PC below it, not an image: it stays there",
            f"copy it into one: qemu-img convert -O qcow2 {shlex.quote(source)} IMAGE",
            Kind.DISK,
        )
        return
    yield from _bus(disk, target)
    yield from _cache(disk, subject)
    if disk.encrypted:
        yield warns(
            Code.DISK_ENCRYPTED,
            source,
            "its key is a secret of libvirt's, which does not go along",
            f"virsh secret-define and secret-set-value on {target.called}",
        )
    if disk.type not in _LOCAL:
        yield from _served(disk, target)
        return
    if source in subject.gone:
        yield blocks(
            Code.DISK_MISSING, source, "the image is not there, where the VM is", "bring it back, or take the disk out"
        )
        return
    yield from _known(disk, subject)
    if disk.shareable:
        yield warns(
            Code.DISK_UNSHARED,
            source,
            "it is shared with other VMs (<shareable/>), which would stay behind",
            "keep it on storage that both PCs reach",
        )
    yield from _reach(disk, subject, target)


def _served(disk: DiskFacts, target: Target) -> Findings:
    """A disk that something else than a file holds (libvirt, formatdomain, "Hard drives, floppy disks, CDROMs")."""
    source = disk.source or ""
    if disk.type == "dir":
        yield from _folder(source, target)
    elif disk.type in ("vhostuser", "vhostvdpa"):
        yield warns(
            Code.DISK_UNSHARED,
            source,
            f"a program or device of the PC below serves it ({disk.type}): {target.called} must have it at that path",
            "start the same there; or put what is on it into an image",
        )
    else:
        yield warns(
            Code.DISK_UNSHARED,
            f"{source} at {', '.join(disk.servers)}" if disk.servers else source,
            f"storage on the network: {target.called} must reach it by that name",
            "look whether it does, and whether secrets that it asks for are there (virsh secret-list)",
        )


def _while_it_runs(disk: DiskFacts) -> Findings:
    """What of a disk holds a running guest back (libvirt, qemuMigrationSrcIsAllowed; QEMU, block drivers)."""
    what = f"{disk.target or 'a disk'}, {disk.source}"
    if disk.format in _NOT_SENT:
        yield stops_live(
            Code.DISK_FORMAT,
            what,
            f"QEMU moves no running guest that has a {disk.format} image open",
            "make it qcow2: qemu-img convert -O qcow2 OLD NEW.qcow2",
        )
    if disk.transient:
        yield stops_live(
            Code.NOT_MIGRATABLE,
            what,
            "a disk whose changes are thrown away (<transient/>): libvirt moves no running guest that has one",
            "shut the guest down first, which loses what was written",
        )
    if disk.mirrored:
        yield stops_live(
            Code.NOT_MIGRATABLE,
            what,
            "a block job copies it (<mirror>): libvirt moves no running guest until that has ended",
            "virsh blockjob NAME TARGET --pivot, or --abort",
        )


def _known(disk: DiskFacts, subject: Subject) -> Findings:
    """What is known of a disk's image: by looking, or by what the definition says of it."""
    source = disk.source or ""
    image = subject.images.get(source)
    if image is not None:
        yield from _image(image, subject)
        return
    if subject.kind == "bundle":
        return
    yield unknown(
        Code.IMAGE_UNKNOWN,
        source,
        "the image could not be looked at here: its size, what other files it needs and who uses it are not known",
        "run migrate-check where the image is",
    )
    told = ImageFacts(
        path=source,
        others=(*((disk.data_file,) if disk.data_file else ()), *disk.backing),
        data=(disk.data_file,) if disk.data_file else (),
    )
    yield from _image(told, subject)


def _cache(disk: DiskFacts, subject: Subject) -> Findings:
    """What QEMU's use of the page cache means for a move.

    libvirt takes any mode as safe once QEMU can drop its cache, which it can tell of from 4.0 on (libvirt,
    qemuMigrationSrcIsSafe; QEMU, qapi/block-core.json, drop-cache).
    """
    what, source = f"{disk.target or disk.source}, cache='{disk.cache or 'default'}'", subject.source
    version = source.stack.qemu_version if source is not None and source.stack is not None else None
    old = version is not None and (values.version(version) or _DROPS_CACHE) < _DROPS_CACHE
    if old and disk.cache not in _DIRECT and not disk.readonly and not disk.shareable:
        yield stops_live(
            Code.DISK_CACHE,
            what,
            f"QEMU {version} does not drop what it has cached, and libvirt moves a running VM with such disks no more",
            "cache='none'; or update QEMU",
        )
    elif disk.cache == "unsafe":
        yield warns(
            Code.DISK_CACHE,
            what,
            "QEMU ignores what the guest says must be on the disk: a power cut, or a move while it runs, may lose it",
            "cache='writeback' or 'none'",
        )
    if disk.cache in _DIRECT and disk.type == "file":
        yield info(
            Code.DISK_CACHE,
            what,
            "a start fails on a file system that cannot go round the page cache (O_DIRECT), as some of FUSE",
            "keep the image on ext4, XFS, Btrfs or NFS there; or cache='writeback'",
        )


def _image(image: ImageFacts, subject: Subject) -> Findings:
    if image.written and not subject.state.running:
        yield warns(
            Code.IMAGE_IN_USE,
            image.path,
            "a process has it open to write, most likely a VM that runs: a copy that is made now is not whole",
            f"shut that VM down first; lsof {shlex.quote(image.path)} names the process",
        )
    if image.format is not None and image.format not in RUN_FROM:
        yield warns(
            Code.DISK_FORMAT,
            image.path,
            f"a {image.format} image, from which clienthv runs no VMs",
            f"qemu-img convert -O qcow2 {shlex.quote(image.path)} NEW.qcow2",
        )
    one_file = f"make it one file: qemu-img convert -O qcow2 {shlex.quote(image.path)} NEW.qcow2"
    chain = [path for path in image.others or () if path not in (image.data or ())]
    travel = "which must be copied too, to the same path"
    if image.data:
        why = f"its content is in {', '.join(image.data)}, {travel}"
        yield warns(Code.DATA_FILE, image.path, why, one_file)
    if chain:
        why = f"it is a difference to {', '.join(chain)}, {travel}"
        yield warns(Code.BACKING_CHAIN, image.path, why, one_file)
    for path in image.others or ():
        if path in subject.gone:
            why = f"{image.path} needs it, and it is not there"
            yield blocks(Code.DISK_MISSING, path, why, "bring it back: without it the image holds nothing whole")
    if image.snapshots:
        yield info(
            Code.SNAPSHOTS,
            image.path,
            f"snapshots inside it go along: {', '.join(image.snapshots)}",
        )


def _reach(disk: DiskFacts, subject: Subject, target: Target) -> Findings:
    """A running VM's disk must be where it is for both (libvirt, "Migration": shared storage)."""
    source = disk.source or ""
    there = target.exists(source)
    if there:
        return
    shared = subject.shared.get(source)
    image = subject.images.get(source)
    size = f", {image.allocated / _GIB:.1f} GiB" if image is not None and image.allocated is not None else ""
    if shared and there is None:
        yield warns(
            Code.DISK_UNSHARED,
            source,
            f"it lies on storage that PCs share: {target.called} must see it at the same path",
        )
    elif there is False or shared is False:
        yield stops_live(
            Code.DISK_UNSHARED,
            source,
            f"{target.called} does not reach it: it must be copied{size}",
            "put it on storage that both reach, to move the VM while it runs",
        )
    else:
        yield unknown(
            Code.DISK_UNSHARED,
            source,
            f"whether {target.called} reaches it at that path, as a running VM must, or it is copied{size}",
        )


def _bus(disk: DiskFacts, target: Target) -> Findings:
    buses = target.capabilities.disk_buses if target.capabilities is not None else ()
    if disk.bus not in _OF_A_BOARD and disk.bus is not None and buses and disk.bus not in buses:
        yield changes(
            Code.DISK_BUS,
            f"{disk.target or disk.source} on {disk.bus}",
            f"QEMU there offers the buses {', '.join(buses)}",
            "put it on one of those; the guest needs its driver",
            Kind.DISK,
        )


def _medium(disk: DiskFacts, subject: Subject, target: Target) -> Findings:
    source = disk.source or ""
    there = target.exists(source)
    if there or disk.type == "network":
        return
    take_out = f"take it out: virsh change-media {shlex.quote(subject.name)} {disk.target or 'TARGET'} --eject --config"
    if disk.optional:
        yield info(Code.MEDIA, source, f"a medium in the {disk.device} drive: the VM starts without it", take_out)
        return
    if source in subject.gone:
        why = f"a medium in the {disk.device} drive that is not there any more: a start fails of that, here as there"
    elif there is False:
        why = f"a medium in the {disk.device} drive that {target.called} has not at that path"
    else:
        why = f"a medium in the {disk.device} drive must be there at that path"
    tell = changes if there is False or source in subject.gone else warns
    yield tell(Code.MEDIA, source, why, take_out)


def _folders(domain: DomainFacts, target: Target) -> Findings:
    capabilities = target.capabilities
    for folder in domain.filesystems:
        source = folder.source or "a shared folder"
        if folder.socket is not None:
            yield warns(
                Code.SHARED_FOLDER,
                folder.socket,
                f"the socket of a virtiofsd that libvirt does not start: {target.called} must have one there",
                "start it there first; or let libvirt start it: <source dir=.../>",
            )
            continue
        if folder.driver == "virtiofs":
            yield stops_live(
                Code.SHARED_FOLDER,
                source,
                "a running VM with virtiofs does not move: its daemon's state stays here",
                "shut the guest down first; or detach it while it moves",
            )
            drivers = getattr(capabilities, "filesystem_drivers", None)
            if isinstance(drivers, tuple) and drivers and "virtiofs" not in drivers:
                yield changes(Code.SHARED_FOLDER, source, "QEMU there offers no virtiofs", "update QEMU and libvirt")
        else:
            yield warns(
                Code.SHARED_FOLDER,
                source,
                "once the guest has mounted it (9p), QEMU does not let it move while it runs",
                "unmount it in the guest first",
            )
        yield from _folder(source, target)


def _folder(source: str, target: Target) -> Findings:
    there = target.exists(source)
    if not there:
        tell = changes if there is False else warns
        yield tell(
            Code.SHARED_FOLDER,
            source,
            f"a folder of the PC below it, which {target.called} has not"
            if there is False
            else f"a folder of the PC below it: {target.called} must have one at that path",
            "make it there, or leave it out of the definition",
        )


def _host_file(path: str, target: Target) -> Findings:
    there = target.exists(path)
    if there:
        return
    tell = changes if there is False else warns
    yield tell(
        Code.HOST_FILE,
        path,
        "a file of the PC below it"
        + (f", which {target.called} has not" if there is False else f": {target.called} must have it at that path"),
        "copy it, or take it out of the definition",
    )


def _space(subject: Subject, target: Target) -> Findings:
    """The room that copies of the images take, where it is known."""
    moved = [image for path, image in subject.images.items() if not target.exists(path)]
    need = sum(image.allocated or 0 for image in moved)
    if target.free is not None and need > target.free:
        yield blocks(
            Code.SPACE,
            f"{need / _GIB:.1f} GiB of images",
            f"{target.called} has {target.free / _GIB:.1f} GiB free for them",
            "make room there",
        )

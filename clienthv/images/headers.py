"""What an image's first bytes say, and whether they are those of an image that can be trusted. Starts no process."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args

from clienthv.errors import RefusedError
from clienthv.images import containers, qcow2
from clienthv.images.header import Header, ImageFile, opened, refuse_size
from clienthv.model.image import Format
from clienthv.model.refusals import Refusal, refuse

_CHUNK: Final = 64 << 10
_HEAD: Final = 4 << 20  # the metadata of VHDX lies at 2 MiB
_TAIL: Final = 4 << 10  # the footer of VMDK
_SMALLEST: Final = 512  # a sector
_AGAIN: Final = "get the image again from where it came from"

# Who begins like this claims to be one of these, whole or not (file signatures of QEMU's block drivers' probes).
_CLAIMS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, qcow2.MAGIC, "qcow2"), (0, b"QED\0", "qed"), (0, b"KDMV", "vmdk"), (0, containers.VMDK_TEXT, "vmdk"),
    (0, b"conectix", "vhd"), (0, b"vhdxfile", "vhdx"), (containers.VDI_AT, containers.VDI_SIGNATURE, "vdi"),
    (0, b"LUKS\xba\xbe", "luks"),
)  # fmt: skip
# What is no disk, or none that is known here; and what to do with it.
_FOREIGN: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"COWD", "a VMDK image of ESX 2 or 3", "qemu-img convert"),
    (0, b"WithoutFreeSpace", "a Parallels image", "qemu-img convert"),
    (0, b"WithouFreSpacExt", "a Parallels image", "qemu-img convert"),
    (0, b"Bochs Virtual HD Image", "a Bochs image", "qemu-img convert"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image", "qemu-img convert"),
    (0, b"\x1f\x8b\x08", "compressed", "unpack it with gunzip"),
    (0, b"\xfd7zXZ\0", "compressed", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed", "unpack it with unzstd"),
    (0, b"BZh", "compressed", "unpack it with bunzip2"),
    (0, b"PK\3\4", "a ZIP archive", "unpack it with unzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it with 7z"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it with unrar"),
    (0, b"\x04\x22\x4d\x18", "compressed", "unpack it with unlz4"),
    (0, b"\x5d\0\0\x80\0", "compressed", "unpack it with unlzma"),
    (0, b"VMA\0", "a backup of Proxmox VE", "take its disk out with vma extract, on a Proxmox VE"),
    (0, b"MSWIM\0\0\0", "a WIM archive of Windows", "install from it: it holds files, not a disk"),
    (0, b"\x3a\xff\x26\xed", "a sparse image of Android", "unpack it with simg2img"),
    (0, b"EVF\x09\x0d\x0a\xff\0", "an image of EnCase", "make a raw image of it with ewfexport"),
    (0, b"\x7fELF", "a program", "give the path of an image file"),
    (257, b"ustar", "an archive (an OVA is one)", "unpack it with tar; its disk can be converted with qemu-img"),
)
_PAGES: Final = (b"<!doctype", b"<html", b"<?xml", b"<domain")
_KOLY: Final = 512  # bytes of the trailer of an Apple disk image, which begins so (QEMU, block/dmg.c)
_LONGEST_CLAIM: Final = 512
# The names of oslo.utils for what is on a disk, not around it. A raw image with an MBR of its own making or one that
# is an ISO as well does no harm to a host that is told it is raw.
_ON_RAW: Final = frozenset({"raw", "gpt", "iso"})
# Which refusal a failed check of oslo.utils is; any other is FORMAT_UNSAFE.
_CHECKED: Final[Mapping[str, Refusal]] = MappingProxyType(
    {"backing_file": Refusal.BACKING_FILE, "data_file": Refusal.DATA_FILE, "passphrase": Refusal.ENCRYPTED}
)
# It is not asked about these: of qcow2 it reads features where version 2 has none and does not know extended L2
# entries, and it allows no QED image, for nobody uses it.
_UNASKED: Final = ("qcow2", "qed")
# What it may raise on bytes that are not of a format, beside its own error.
_ODD: Final = (struct.error, LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError)


def headers(path: Path, *, trusted_chain: bool = False, known: Format | None = None) -> tuple[Header, int]:
    """An image's header, and the bytes that the file takes of the disk below it.

    ``known`` is a format that was told once and stays: a raw image is not looked into then, since a guest writes what
    it likes there. Otherwise the content tells (oslo.utils, and file signatures), never the name. An ISO is a raw
    image: that is how QEMU reads it. What leads to other files is refused unless ``trusted_chain``.
    Raises DiskError, RefusedError.
    """
    with opened(path) as file:
        header = Header("raw", file.size) if known == "raw" else _read(file, known)
        refuse_size(path, header.virtual_size or 0)
        if not trusted_chain:
            _refuse_others(path, header)
        return header, file.allocated


def _read(file: ImageFile, known: Format | None) -> Header:
    claimed, inspectors = _claimed(file), dict(_matching(file))
    found = sorted((claimed | inspectors.keys()) - _ON_RAW)
    if len(found) > 1 or (found and inspectors.keys() & {"iso", "gpt"}):
        names = " and ".join(sorted({*found, *inspectors}))
        msg = f"{file.path} is several images in one: {names}; which of them is run depends on who looks"
        raise refuse(Refusal.FORMAT_DISAGREES, msg, "do without it: nobody makes such an image by accident")
    name = found[0] if found else "raw"
    if known is not None and name != known:
        msg = f"{file.path} is a {name} image by its content, and was {known}"
        raise refuse(
            Refusal.FORMAT_DISAGREES, msg, "put the image back that was there, or use this one by another name"
        )
    if name == "luks":
        raise refuse(Refusal.ENCRYPTED, f"{file.path} is encrypted (LUKS)", "decrypt it: qemu-img convert")
    if name == "raw":
        _refuse_foreign(file)
        return Header("raw", file.size)
    return _container(file, name, inspectors.get(name))


def _container(file: ImageFile, name: str, inspector: Any) -> Header:
    """A header that is more than raw, checked by us and by oslo.utils."""
    image_format = next(f for f in get_args(Format) if f == name)
    if image_format == "qcow2":
        return qcow2.read(file)
    try:
        header = containers.read(image_format, file, _size(inspector))
    except struct.error as e:
        raise _damaged(file, name) from e
    if not header.data:
        _check(file, name, inspector)
    return header


def _damaged(file: ImageFile, name: str) -> RefusedError:
    return refuse(Refusal.CORRUPT, f"{file.path} begins as a {name} image and does not go on as one", _AGAIN)


def _claimed(file: ImageFile) -> set[str]:
    head = file.at(0, _LONGEST_CLAIM)
    return {name for at, magic, name in _CLAIMS if head.startswith(magic, at)}


def _refuse_foreign(file: ImageFile) -> None:
    head = file.at(0, _LONGEST_CLAIM)
    for at, magic, what, then in _FOREIGN:
        if head.startswith(magic, at):
            raise refuse(Refusal.FORMAT_UNKNOWN, f"{file.path} is {what}; VMs are run from qcow2 or raw images", then)
    if head.lstrip().lower().startswith(_PAGES):
        msg = f"{file.path} is a page of text, not a disk: a server's answer, or the description of a VM"
        raise refuse(Refusal.FORMAT_UNKNOWN, msg, "look into it; get the image itself")
    if file.size >= _KOLY and file.at(file.size - _KOLY, 4) == b"koly":
        msg = f"{file.path} is an Apple disk image; VMs are run from qcow2 or raw images"
        raise refuse(Refusal.FORMAT_UNKNOWN, msg, "qemu-img convert -f dmg")
    if file.size < _SMALLEST:
        msg = f"{file.path} has {file.size} bytes, fewer than a disk has"
        raise refuse(Refusal.FORMAT_UNKNOWN, msg, _AGAIN)


def _refuse_others(path: Path, header: Header) -> None:
    """A stranger's image could name any file of this PC, whose content a guest would then read."""
    for refusal, other in (
        *((Refusal.BACKING_FILE, name) for name in (header.backing,) if name),
        *((Refusal.DATA_FILE, name) for name in header.data),
    ):
        msg = f"{path} leads to another file: {other!r}"
        hint = f"make it one file where it comes from: qemu-img convert -O qcow2 {path} NEW.qcow2, if you trust it"
        raise refuse(refusal, msg, hint)


@cache
def _oslo() -> Any:
    """The format inspector of oslo.utils, kept from logging to a terminal what we say ourselves.

    Loading it takes as long as all the rest of a look, so only who looks at an image pays for it.
    """
    from oslo_utils.imageutils import format_inspector

    format_inspector.LOG.addHandler(logging.NullHandler())
    return format_inspector


def _matching(file: ImageFile) -> Iterator[tuple[str, Any]]:
    """The inspectors of oslo.utils that know the content, by name; each is fed by hand, so that all are asked."""
    failures = (_oslo().ImageFormatError, *_ODD)
    for name, inspector in _oslo().ALL_FORMATS.items():
        if name == "raw":
            continue
        fed = inspector()
        with suppress(*failures):
            _feed(fed, file, name)
        with suppress(*failures):
            if fed.format_match:
                yield name, fed


def _feed(inspector: Any, file: ImageFile, name: str) -> None:
    most = _HEAD if name == "vhdx" and file.at(0, 8) == b"vhdxfile" else _CHUNK
    for at in range(0, min(most, file.size), _CHUNK):
        inspector.eat_chunk(file.at(at, _CHUNK))
        if inspector.complete:
            break
    if name == "vmdk" and file.size > _CHUNK:
        inspector.eat_chunk(file.at(file.size - _TAIL, _TAIL))
    getattr(inspector, "finish", bool)()


def _size(inspector: Any) -> int | None:
    """What an inspector says the guest sees; it says 0 where it cannot tell."""
    try:
        return int(inspector.virtual_size) or None
    except _ODD:
        return None


def _check(file: ImageFile, name: str, inspector: Any) -> None:
    """The safety checks of oslo.utils. Raises RefusedError."""
    if inspector is None:
        raise _damaged(file, name)
    if name in _UNASKED:
        return
    try:
        inspector.safety_check()
    except _oslo().SafetyCheckFailed as e:
        failed = sorted(e.failures)
        refusal = next((_CHECKED[f] for f in failed if f in _CHECKED), Refusal.FORMAT_UNSAFE)
        why = "; ".join(str(e.failures[f]) for f in failed)
        raise refuse(refusal, f"{file.path} is a {name} image that is not safe: {why}", _AGAIN) from e
    except (_oslo().ImageFormatError, *_ODD) as e:
        raise _damaged(file, name) from e

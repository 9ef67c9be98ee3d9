"""The header of a qcow2 image, read as strictly as QEMU does (QEMU, docs/interop/qcow2.rst and block/qcow2.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from clienthv.errors import RefusedError
from clienthv.images.header import Header, ImageFile, refuse_size
from clienthv.model.refusals import Refusal, refuse

MAGIC: Final = b"QFI\xfb"

_V2: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_V3: Final = struct.Struct(">QQQII")
_DIRTY: Final = 1 << 0
_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2
_EXTENDED_L2: Final = 1 << 4
_KNOWN: Final = (1 << 5) - 1  # the fourth is the compression type
_CLUSTER_BITS: Final = range(9, 22)
_MOST_L1_BYTES: Final = 32 << 20
_MOST_REFTABLE_BYTES: Final = 8 << 20
_MOST_SNAPSHOTS: Final = 65536
_MOST_NAME: Final = 1023
_MOST_REFCOUNT_ORDER: Final = 6
_AGAIN: Final = "get the image again from where it came from; qemu-img check FILE says more"

# header extensions
_END: Final = 0
_BACKING_FORMAT: Final = 0xE2792ACA
_DATA_NAME: Final = 0x44415441
_ENCRYPTION: Final = 0x0537BE77


class _Fields(NamedTuple):
    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    reftable_offset: int
    reftable_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    refcount_order: int = 4
    length: int = _V2.size

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits


def read(file: ImageFile) -> Header:
    """What the header says, once it can belong to an image that QEMU opens. Raises DiskError, RefusedError."""
    fields = _fields(file)
    _refuse_features(file, fields)
    _refuse_sizes(file, fields)
    _refuse_tables(file, fields)
    extensions = dict(_extensions(file, fields))
    if fields.crypt_method or _ENCRYPTION in extensions:
        raise refuse(Refusal.ENCRYPTED, f"{file.path} is encrypted", "decrypt it: qemu-img convert, with its secret")
    data = None
    if fields.incompatible & _DATA_FILE or _DATA_NAME in extensions:
        data = _text(extensions.get(_DATA_NAME, b"")) or "a file that it does not name"
    backing_format = extensions.get(_BACKING_FORMAT)
    return Header(
        format="qcow2",
        virtual_size=fields.size,
        backing=_backing(file, fields),
        backing_format=None if backing_format is None else _text(backing_format),
        data=(data,) if data else (),
        unclean=bool(fields.incompatible & _DIRTY),
    )


def _corrupt(file: ImageFile, why: str) -> RefusedError:
    return refuse(Refusal.CORRUPT, f"{file.path} is a damaged qcow2 image: {why}", _AGAIN)


def _fields(file: ImageFile) -> _Fields:
    head = file.at(0, _V2.size + _V3.size)
    if len(head) < _V2.size:
        raise _corrupt(file, f"its header ends after {len(head)} bytes")
    _, *words = _V2.unpack_from(head)
    fields = _Fields(*words)
    if fields.version not in (2, 3):
        msg = f"{file.path} is a qcow image of version {fields.version}; QEMU runs VMs from versions 2 and 3"
        raise refuse(Refusal.FORMAT_UNSAFE, msg, f"qemu-img convert -O qcow2 {file.path} NEW.qcow2, if you trust it")
    if fields.version == 2:
        return fields
    if len(head) < _V2.size + _V3.size:
        raise _corrupt(file, f"its header ends after {len(head)} bytes")
    incompatible, _, _, order, length = _V3.unpack_from(head, _V2.size)
    return fields._replace(incompatible=incompatible, refcount_order=order, length=length)


def _refuse_features(file: ImageFile, fields: _Fields) -> None:
    if unknown := fields.incompatible & ~_KNOWN:
        msg = f"{file.path} needs features of qcow2 that nobody knows (incompatible features {unknown:#x})"
        raise refuse(Refusal.FORMAT_UNSAFE, msg, "convert it with the program that made it")
    if fields.incompatible & _CORRUPT:
        raise _corrupt(file, "QEMU has marked it as corrupt")


def _refuse_sizes(file: ImageFile, fields: _Fields) -> None:
    if fields.cluster_bits not in _CLUSTER_BITS:
        msg = f"{file.path} has clusters of 2^{fields.cluster_bits} bytes; qcow2 has 2^9 to 2^21"
        raise refuse(Refusal.ABSURD_SIZE, msg, _AGAIN)
    refuse_size(file.path, fields.size)
    # One entry of L1 leads to a cluster full of entries of L2; those have 8 bytes, extended ones 16.
    per_l2 = fields.cluster_bits - (4 if fields.incompatible & _EXTENDED_L2 else 3)
    needed = -(-fields.size >> (fields.cluster_bits + per_l2))
    if not needed <= fields.l1_size <= _MOST_L1_BYTES // 8:
        msg = (
            f"{file.path} has an L1 table of {fields.l1_size} entries, which cannot belong to a disk of "
            f"{fields.size} bytes; that takes {needed}"
        )
        raise refuse(Refusal.ABSURD_SIZE, msg, _AGAIN)


def _refuse_tables(file: ImageFile, fields: _Fields) -> None:
    """Whether the header is whole and the tables it leads to lie in the file, at the beginning of a cluster."""
    if fields.version > 2 and not _V2.size + _V3.size <= fields.length <= fields.cluster:
        raise _corrupt(file, f"its header has {fields.length} bytes")
    if fields.refcount_order > _MOST_REFCOUNT_ORDER:
        raise _corrupt(file, f"its reference counts have 2^{fields.refcount_order} bits")
    if not 0 < fields.reftable_clusters << fields.cluster_bits <= max(_MOST_REFTABLE_BYTES, fields.cluster):
        raise _corrupt(file, f"its table of reference counts has {fields.reftable_clusters} clusters")
    if fields.snapshots > _MOST_SNAPSHOTS:
        raise _corrupt(file, f"it has {fields.snapshots} snapshots")
    tables = (
        ("L1 table", fields.l1_offset, fields.l1_size * 8, fields.l1_size),
        ("table of reference counts", fields.reftable_offset, 1, 1),
        ("table of snapshots", fields.snapshots_offset, 1, fields.snapshots),
    )
    for name, offset, length, entries in tables:
        if entries and (offset % fields.cluster or not 0 < offset <= file.size - length):
            raise _corrupt(file, f"its {name} is at byte {offset}, and the file has {file.size}")


def _extensions(file: ImageFile, fields: _Fields) -> Iterator[tuple[int, bytes]]:
    """The header extensions: a type, a length, and data that is filled up to a multiple of 8 bytes."""
    end = min(fields.backing_offset or fields.cluster, fields.cluster)
    area = file.at(0, end)
    at = fields.length
    while at + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, at)
        if kind == _END:
            return
        at += 8
        if length > len(area) - at:
            raise _corrupt(file, f"its header extension {kind:#x} has {length} bytes")
        yield kind, area[at : at + length]
        at += -(-length // 8) * 8


def _backing(file: ImageFile, fields: _Fields) -> str | None:
    if not fields.backing_offset:
        return None
    name = file.at(fields.backing_offset, min(fields.backing_size, _MOST_NAME))
    if not name or len(name) < fields.backing_size:
        raise _corrupt(file, f"the name of its backing file has {fields.backing_size} bytes, or lies past the end")
    return _text(name) or None  # to QEMU an empty name is none


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode(errors="replace")

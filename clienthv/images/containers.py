"""The headers of formats that VMs are not run from but that people have: VMDK, VHD, VHDX, VDI, QED.

Read for what leads to other files, which oslo.utils does not look for in all of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final
from uuid import UUID

from clienthv.errors import RefusedError
from clienthv.images.header import Header, ImageFile
from clienthv.model.image import Format
from clienthv.model.refusals import Refusal, refuse

VDI_AT: Final = 0x40
VDI_SIGNATURE: Final = struct.pack("<I", 0xBEDA107F)
VMDK_TEXT: Final = b"# Disk DescriptorFile"

_SECTOR: Final = 512
_MOST_DESCRIPTOR: Final = 1 << 20
# VMware, "Virtual Disk Format 5.0": access, sectors, type, and where it has one a file's name. QEMU takes a line's end
# for any other space, and finds a parent anywhere, in comments too (block/vmdk.c).
_ACCESS: Final = re.compile(r"^[^\S\n]*(?:RW|RDONLY|NOACCESS)\b", re.IGNORECASE | re.MULTILINE)
_NAME: Final = re.compile(r'[^"\r\n]*')
_PARENT: Final = re.compile(r'parentFileNameHint[\s=]*"?([^"\r\n]*)', re.IGNORECASE)
_TYPE: Final = re.compile(r'createType\s*=\s*"?([\w ]*)', re.IGNORECASE)
_ONE_FILE: Final = ("monolithicsparse", "streamoptimized")
_DEVICES: Final = ("fulldevice", "partitioneddevice", "vmfsraw", "vmfsrdm", "vmfsrawdevicemap",
                   "vmfspassthroughrawdevicemap")  # fmt: skip

_VHD_DIFFERENCING: Final = 4  # Microsoft, "Virtual Hard Disk Image Format Specification": Disk Type
_VHD_TYPES: Final = (2, 3, _VHD_DIFFERENCING)
_VDI_DIFFERENCING: Final = 4  # VirtualBox, VDICore.h: VDI_IMAGE_TYPE_DIFF
_VHDX_METADATA: Final = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le  # MS-VHDX, 2.2.3.2
_VHDX_PARENT: Final = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C").bytes_le  # MS-VHDX, 2.6.2: Parent Locator
_VHDX_TABLES: Final = (192 << 10, 256 << 10)
_VHDX_TABLE: Final = 64 << 10
_QED_FEATURES: Final = 0b111  # QEMU, docs/interop/qed_spec.rst: a backing file, needs a check, backing file is raw
_UNNAMED: Final = "another image"


def read(image_format: Format, file: ImageFile, size: int | None) -> Header:
    """What the header says of other files, with the size that somebody else has read. Raises DiskError, RefusedError.

    Raises struct.error where the header ends too soon.
    """
    header = _READERS[image_format](file)
    return header if header.virtual_size is not None else header._replace(virtual_size=size)


def _vmdk(file: ImageFile) -> Header:
    head, one_file = file.at(0, _SECTOR), False
    if head.startswith(b"KDMV"):
        _, _, _, sectors, _, at, length = struct.unpack_from("<4sIIQQQQ", head)
        text = file.at(at * _SECTOR, min(length * _SECTOR, _MOST_DESCRIPTOR)) if at else b""
        # Without sectors of its own it is no more than a descriptor (QEMU, block/vmdk.c: vmdk_open_vmdk4).
        one_file = sectors > 0
    else:
        text = file.at(0, _MOST_DESCRIPTOR)
    described = text.partition(b"\0")[0].decode("latin-1")
    if not described:
        raise struct.error("no descriptor")
    found = _TYPE.search(described)
    kind = found[1].strip().lower() if found else ""
    names = tuple(_extents(described))
    for name in names:
        if "/" in name or "\\" in name or name in ("", ".", "..") or kind in _DEVICES:
            raise _host_path(file, name)
    parent = _PARENT.search(described)
    own = one_file and kind in _ONE_FILE
    return Header("vmdk", backing=(parent[1].strip() or _UNNAMED) if parent else None, data=() if own else names)


def _extents(described: str) -> Iterator[str]:
    """The names of extents: what is in quotes after an access. No text makes this slow."""
    quote = 0
    for access in _ACCESS.finditer(described):
        if quote >= access.end():
            continue
        quote = described.find('"', access.end())
        if quote < 0:
            return
        if name := _NAME.match(described, quote + 1):
            yield name[0]


def _host_path(file: ImageFile, name: str) -> RefusedError:
    msg = f"{file.path} says that its content is at {name!r}, a path of whatever PC it is opened on"
    return refuse(Refusal.HOST_PATH, msg, "convert it on the PC it comes from: qemu-img convert -O qcow2")


def _vhd(file: ImageFile) -> Header:
    (kind,) = struct.unpack_from(">I", file.at(0, _SECTOR), 60)
    if kind not in _VHD_TYPES:
        msg = f"{file.path} is a VHD image of type {kind}, which Microsoft's specification does not have"
        raise refuse(Refusal.FORMAT_UNSAFE, msg, "convert it with the program that made it")
    return Header("vhd", backing=_UNNAMED if kind == _VHD_DIFFERENCING else None)


def _vhdx(file: ImageFile) -> Header:
    backing = None
    for table in _VHDX_TABLES:
        regions = file.at(table, _VHDX_TABLE)
        at = regions.find(_VHDX_METADATA)
        if at >= 0:
            (offset,) = struct.unpack_from("<Q", regions, at + 16)
            backing = _UNNAMED if _VHDX_PARENT in file.at(offset, _VHDX_TABLE) else backing
    return Header("vhdx", backing=backing)


def _vdi(file: ImageFile) -> Header:
    (kind,) = struct.unpack_from("<I", file.at(0, _SECTOR), VDI_AT + 12)
    return Header("vdi", backing=_UNNAMED if kind == _VDI_DIFFERENCING else None)


def _qed(file: ImageFile) -> Header:
    head = file.at(0, _SECTOR)
    (features,) = struct.unpack_from("<Q", head, 16)
    if unknown := features & ~_QED_FEATURES:
        msg = f"{file.path} needs features of QED that nobody knows ({unknown:#x})"
        raise refuse(Refusal.FORMAT_UNSAFE, msg, "convert it with the program that made it")
    size, at, length = struct.unpack_from("<QII", head, 48)
    name = file.at(at, min(length, 1023)).partition(b"\0")[0].decode(errors="replace")
    return Header("qed", virtual_size=size, backing=(name or _UNNAMED) if features & 1 else None)


_READERS: Final[Mapping[Format, Callable[[ImageFile], Header]]] = MappingProxyType(
    {"vmdk": _vmdk, "vhd": _vhd, "vhdx": _vhdx, "vdi": _vdi, "qed": _qed}
)

"""Look at a disk image that may come from a stranger: its header first, then with qemu-img under limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, get_args

import msgspec

from clienthv import process
from clienthv.errors import DiskError
from clienthv.images.header import Header, refuse_size
from clienthv.images.headers import headers
from clienthv.model.image import Format, ImageFacts
from clienthv.model.refusals import Refusal, refuse
from clienthv.model.values import Count

_DEEPEST: Final = 16
_QEMU_NAMES: Final[Mapping[Format, str]] = MappingProxyType({"vhd": "vpc"})
_OFF: Final = 512  # bytes by which sizes may differ: QEMU counts sectors


def look(path: Path, *, trusted_chain: bool = False, known: Format | None = None, check: bool = True) -> ImageFacts:
    """What an image is, told from its content; its name is never asked.

    An ISO is a raw image, as for QEMU. Images of other formats than qcow2 and raw are described and not refused: who
    runs a VM decides that. What leads to other files is refused, unless ``trusted_chain`` says that the user answers
    for it: then every file that is there is looked at too. ``known`` is a format that was told once: that of a VM's own
    image stays, whatever its guest writes. Without ``check`` a qcow2 image's tables are not gone through, which takes
    as long as reading them does (at most a minute; then whether it is corrupt is unknown, and it is not refused).
    Raises RefusedError, DiskError, HostError.
    """
    path = path.absolute()
    header, allocated = headers(path, trusted_chain=trusted_chain, known=known)
    others = tuple(_others(path, header)) if trusted_chain else ()
    info = _info(path, header)
    if header.format == "qcow2" and check and not header.unclean and process.image_is_corrupt(path):
        msg = f"{path} is a damaged qcow2 image: its tables contradict each other"
        raise refuse(Refusal.CORRUPT, msg, f"get the image again; qemu-img check {path} says more")
    return ImageFacts(
        path=str(path),
        format=header.format,
        virtual_size=info.virtual_size,
        allocated=allocated,
        others=others,
        data=tuple(str(_beside(path, name)) for name in header.data) if trusted_chain else (),
        snapshots=tuple(s.name for s in info.snapshots),
    )


def _others(path: Path, header: Header) -> Iterator[str]:
    """The files that an image leads to, nearest first; those that are there are looked at. Raises RefusedError."""
    seen = {_identity(path)}
    for _ in range(_DEEPEST):
        for name in header.data:
            yield str(_beside(path, name))
        if header.backing is None:
            return
        path = _beside(path, header.backing)
        yield str(path)
        found = _identity(path)
        if found is None:
            return
        if found in seen:
            raise refuse(Refusal.BACKING_FILE, f"the backing files of an image lead back to {path}", "do without it")
        seen.add(found)
        named = next((f for f in get_args(Format) if _QEMU_NAMES.get(f, f) == header.backing_format), None)
        header, _ = headers(path, trusted_chain=True, known=named)
    msg = f"an image has more than {_DEEPEST} backing files, down to {path}"
    raise refuse(Refusal.BACKING_FILE, msg, "make it one file: qemu-img convert -O qcow2, if you trust it")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever leads to it; None when it is not there or nobody can look."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _beside(path: Path, name: str) -> Path:
    """The file that an image names, from its own folder; QEMU takes a colon before any slash for a protocol's end."""
    name = name.removeprefix("file:")
    if ":" in name.partition("/")[0] or "\0" in name:
        msg = f"{path} leads to {name!r}, which is no file"
        raise refuse(Refusal.HOST_PATH, msg, "make it one file: qemu-img convert -O qcow2, if you trust it")
    return path.parent / name


class _Snapshot(msgspec.Struct):
    name: str


class _Data(msgspec.Struct, rename="kebab"):
    data_file: str | None = None


class _Specific(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


class _Info(msgspec.Struct, rename="kebab"):
    """What ``qemu-img info`` says (QEMU, qapi/block-core.json: ImageInfo)."""

    format: str
    virtual_size: Count
    snapshots: tuple[_Snapshot, ...] = ()
    backing_filename: str | None = None
    format_specific: _Specific = msgspec.field(default_factory=_Specific)


def _info(path: Path, header: Header) -> _Info:
    """What qemu-img says, once it agrees with the header. Raises RefusedError, DiskError, HostError."""
    name = _QEMU_NAMES.get(header.format, header.format)
    text = process.image_info(path, name)
    try:
        info = msgspec.json.decode(text, type=_Info)
    except msgspec.DecodeError as e:
        msg = f"qemu-img said nothing that can be understood about {path}"
        raise DiskError(msg, hint="is it a disk image?", detail=text) from e
    refuse_size(path, info.virtual_size)
    if why := _disagreement(info, header, name):
        msg = f"qemu-img does not agree with what {path} is by its content: {why}"
        raise refuse(Refusal.FORMAT_DISAGREES, msg, "do without it, or tell us: one of the two is wrong")
    return info


def _disagreement(info: _Info, header: Header, name: str) -> str | None:
    if info.format != name:
        return f"a {info.format} image, not {name}"
    if header.format in ("qcow2", "raw") and abs(info.virtual_size - (header.virtual_size or 0)) >= _OFF:
        return f"a disk of {info.virtual_size} bytes, not {header.virtual_size}"
    if info.backing_filename is not None and header.backing is None:
        return f"a backing file, {info.backing_filename!r}"
    if info.format_specific.data.data_file is not None and not header.data:
        return f"a data file, {info.format_specific.data.data_file!r}"
    return None

"""The manifest of a bundle: what a VM consists of, in which file of the bundle it is, and how large that is.

A bundle comes from a stranger. What a manifest says is bounded before anybody reserves memory or disk space for it.
"""

from __future__ import annotations

import re
from enum import StrEnum, unique
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from clienthv.errors import RefusedError
from clienthv.model.image import RunFormat
from clienthv.model.refusals import Refusal, refuse
from clienthv.model.values import Count, as_json, is_plain_text, is_vm_name

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
DEFINITION: Final = "domain.xml"
NVRAM: Final = "nvram.fd"
CHECKSUMS: Final = "checksums.json"
DOCUMENT_LIMIT: Final = 1 << 20
"""Bytes of a manifest, and of a list of checksums."""
LARGEST_DISK: Final = 64 << 40
"""Bytes: more than any disk of a desktop VM, and than all disks of one."""
MOST_EXTENTS: Final = 1 << 16
"""How many stretches of data a disk may have in a bundle; a writer takes short holes in between as data."""
MAP_LIMIT: Final = 1 << 21
"""Bytes of the list of a disk's stretches: two numbers of up to 14 digits, with line ends, for each."""
_MOST_DISKS: Final = 64
_BLOCK: Final = 512


@unique
class Role(StrEnum):
    """What a member is to the VM, in the order members have."""

    DEFINITION = "definition"
    NVRAM = "nvram"
    TPM = "tpm"
    DISK = "disk"


_ORDER: Final = tuple(Role)
# edk2's variable store is 64 MiB for AArch64, the largest (QEMU, pc-bios); swtpm's state is well below 1 MiB.
_LIMITS: Final = {Role.DEFINITION: 4 << 20, Role.NVRAM: 64 << 20, Role.TPM: 4 << 20}
# swtpm names its files so (swtpm, src/swtpm/swtpm_nvstore_dir.c); "tpm" alone is version 1.2
_TPM_FILE: Final = re.compile(r"tpm/tpm2?-00\.(permall|savestate|volatilestate)\Z")


class Disk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One disk image. Sizes are in bytes: ``virtual_size`` what the guest sees, ``length`` the file's own.

    ``allocated`` is what the file took of the disk below it where it was read; None means unknown.
    """

    format: RunFormat
    virtual_size: Count
    length: Count
    allocated: Count | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file of a bundle; ``size`` is its bytes in there, which for a disk are its map and its stretches of data."""

    role: Role
    name: Annotated[str, Meta(max_length=100)]
    size: Count
    disk: Disk | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a bundle holds. ``created`` is a UTC time as in 2026-02-03T04:05:06Z, ``source`` the PC it was made on."""

    schema: Annotated[int, Meta(ge=1)]
    kind: Literal["bundle"]
    vm: str
    created_by: Annotated[str, Meta(min_length=1, max_length=64)]
    members: tuple[Member, ...]
    created: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([0-9]{2}:){2}[0-9]{2}Z$(?!\n)")] | None = None
    source: Annotated[str, Meta(max_length=253)] | None = None

    @property
    def size(self) -> int:
        """Bytes of all members that it lists: what taking the bundle apart writes at most."""
        return sum(m.size for m in self.members)

    def of(self, role: Role) -> tuple[Member, ...]:
        """The members of a role, in their order."""
        return tuple(m for m in self.members if m.role is role)


class _Header(msgspec.Struct, frozen=True):
    schema: int
    kind: str


class _Checksums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: dict[str, Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]]


def encode(manifest: Manifest) -> bytes:
    """The manifest as indented JSON with a final newline; the same manifest gives the same bytes."""
    return as_json(manifest)


def decode(data: bytes) -> Manifest:
    """Read a manifest. Raises RefusedError: bad-manifest, newer-bundle, or as ``check`` does."""
    if len(data) > DOCUMENT_LIMIT:
        raise _bad(f"it has {len(data)} bytes")
    try:
        header = msgspec.json.decode(data, type=_Header)
        if header.kind != "bundle":
            raise _bad("it is a document of another kind")
        if header.schema > SCHEMA:
            msg = f"the bundle has schema {str(header.schema)[:20]}; this clienthv reads up to {SCHEMA}"
            raise refuse(Refusal.NEWER_BUNDLE, msg, hint="update clienthv, or export the VM with this version")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        raise _bad(str(e)) from e
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Refuse what types cannot: names that lead elsewhere, a wrong order, sizes that nothing can have.

    Raises RefusedError: bad-manifest, path-escape, duplicate-member, absurd-size.
    """
    _check_texts(manifest)
    names = [m.name for m in manifest.members]
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise refuse(Refusal.DUPLICATE_MEMBER, "the bundle's manifest lists a file twice", hint=AGAIN)
    _check_roles(manifest)
    for member in manifest.members:
        _check_size(member)
    if max(manifest.size, sum(m.disk.length for m in manifest.members if m.disk)) > LARGEST_DISK:
        raise _absurd("the files of the bundle together")


AGAIN: Final = "export the VM again, and compare what arrives with what was sent"


def check_name(name: str) -> None:
    """Refuse a name that could lead out of a folder, or that shells and terminals misread. Raises RefusedError."""
    odd = not name.isascii() or not name.isprintable() or "\\" in name
    if odd or any(part in ("", ".", "..") for part in name.split("/")):
        msg = f"the bundle has a file named {name[:120]!r}, which leads out of its folder or is not a plain name"
        raise refuse(Refusal.PATH_ESCAPE, msg, hint="do not use it: clienthv never writes such names")


def decode_checksums(data: bytes) -> dict[str, str]:
    """Read the list of checksums: SHA-256 in hexadecimal by name. Raises RefusedError (wrong-checksum)."""
    try:
        return msgspec.json.decode(data, type=_Checksums).sha256
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        msg = f"the bundle's list of checksums cannot be read: {str(e)[:200]}"
        raise refuse(Refusal.WRONG_CHECKSUM, msg, hint=AGAIN) from e


def encode_checksums(sha256: dict[str, str]) -> bytes:
    """The list of checksums as indented JSON with a final newline."""
    return as_json(_Checksums(sha256))


def _bad(why: str) -> RefusedError:
    msg = f"the bundle has no {MANIFEST} that can be read: {why[:200]}"
    return refuse(Refusal.BAD_MANIFEST, msg, hint=AGAIN)


def _absurd(what: str) -> RefusedError:
    msg = f"{what}: the manifest claims a size that is not to be believed"
    return refuse(Refusal.ABSURD_SIZE, msg, hint="do not use the bundle unless you know who made it and how")


def _check_texts(manifest: Manifest) -> None:
    if not is_vm_name(manifest.vm):
        raise _bad("vm is not the name of a VM")
    for text in (manifest.created_by, manifest.source or ""):
        if not is_plain_text(text):
            raise _bad("a text has control characters")


def _check_roles(manifest: Manifest) -> None:
    """Each role's members under the names that the format gives them, in its order."""
    order = [_ORDER.index(m.role) for m in manifest.members]
    counts = {role: len(manifest.of(role)) for role in Role}
    if order != sorted(order) or counts[Role.DEFINITION] != 1 or counts[Role.NVRAM] > 1:
        raise _bad("its members are not one definition, then nvram, tpm and disks")
    if counts[Role.DISK] > _MOST_DISKS:
        raise _bad(f"it lists {counts[Role.DISK]} disks")
    disks = manifest.of(Role.DISK)
    for member in manifest.members:
        if (member.disk is not None) != (member.role is Role.DISK) or not _is_named(member, disks):
            raise _bad(f"{member.name} is not what the format calls its {member.role.value}")


def _is_named(member: Member, disks: tuple[Member, ...]) -> bool:
    match member.role:
        case Role.DEFINITION:
            return member.name == DEFINITION
        case Role.NVRAM:
            return member.name == NVRAM
        case Role.TPM:
            return _TPM_FILE.match(member.name) is not None
        case Role.DISK:
            return member.disk is not None and member.name == disk_name(disks.index(member), member.disk.format)


def disk_name(number: int, form: str) -> str:
    """What a disk is called in a bundle; they are counted from 0, in the order of the definition."""
    return f"disks/{number}.{form}"


def _check_size(member: Member) -> None:
    disk = member.disk
    if disk is None:
        believable = member.size <= _LIMITS[member.role]
    else:
        largest = max(disk.virtual_size, disk.length, disk.allocated or 0)
        believable = largest <= LARGEST_DISK and _BLOCK <= member.size <= disk.length + MAP_LIMIT
    if not believable:
        raise _absurd(member.name)

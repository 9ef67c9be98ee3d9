"""``migrate-check``: find out what is to be moved, read the targets one after another, and compare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from clienthv import places, portability
from clienthv.errors import ClienthvError, DiskError, GuestError
from clienthv.hypervisor import Connection, cpu_map, domain_facts
from clienthv.lifecycle import live, subjects, targets
from clienthv.model import values
from clienthv.model.cpu import Baseline
from clienthv.model.host import Host, is_document
from clienthv.model.portability import Check
from clienthv.portability import Subject
from clienthv.strategies import cpu_baseline

_HEAD: Final = 4096
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, "Zstandard Frames"
Answer = Check | tuple[str, ClienthvError]
"""The check of one target, or its name and why it could not be read."""


class Looking(NamedTuple):
    """How a subject is looked at: the connection, the PC that a definition comes from, and a bare image's profile."""

    connect: str | None
    source: Host | None
    profile: str
    inspect: bool = True


def subject_of(name: str, how: Looking, say: live.Say) -> Subject:
    """What a name or path means: a file by its content, else a VM. Raises every kind of ClienthvError.

    ``-`` is a definition on standard input.
    """
    if name == "-":
        data = sys.stdin.buffer.read(domain_facts.MOST_BYTES + 1)
        return subjects.of_definition(data, "standard input", how.source)
    path = places.expanded(name)
    if path.is_dir():
        msg = f"{name} is a folder"
        raise DiskError(msg, hint="give an image, a bundle, a domain XML file, or the name of a VM")
    if path.exists():
        return _of_file(path, how, say)
    if "/" in name or path.suffix in (".xml", ".qcow2", ".img", ".raw", ".clienthv"):
        msg = f"{name} does not exist"
        raise DiskError(msg, hint="check the path; a VM is given by its name alone")
    return _of_vm(name, how, say)


def _of_file(path: Path, how: Looking, say: live.Say) -> Subject:
    head = _head(path)
    if head.startswith(_ZSTD):
        return subjects.of_bundle(path)
    if _is_xml(head):
        return subjects.of_definition(_read(path, domain_facts.MOST_BYTES + 1), str(path), how.source)
    if _is_text(head):
        msg = f"{path} is text, and no disk image"
        raise DiskError(msg, hint=_instead_of(head))
    return subjects.of_image(path, how.profile, say, inspect=how.inspect)


def _is_xml(head: bytes) -> bool:
    """Whether a file begins as XML does, in UTF-8 or with the mark of UTF-16 (XML 1.0, appendix F.1)."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return values.text_of(head[: len(head) & ~1]).lstrip().startswith("<")
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\0<\0"))


def _instead_of(head: bytes) -> str:
    """What to do about a text."""
    if is_document(head):
        return "a PC's document belongs behind --to or --from"
    if b"<domain" in head:
        return "it has a domain's XML in it: take out what stands before <domain and behind </domain>"
    return "give an image or a domain's XML"


def _is_text(head: bytes) -> bool:
    """Whether a file begins as no disk does: with nothing but printed characters."""
    try:
        return bool(head.strip()) and all(c.isprintable() or c.isspace() for c in head.decode()[:-4])
    except UnicodeDecodeError as e:
        return e.start >= _HEAD - 4 and _is_text(head[: e.start])


def _head(path: Path) -> bytes:
    return _read(path, _HEAD) if path.is_file() else b""


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as e:
        msg = f"cannot read {path}: {e.strerror}"
        raise DiskError(msg, hint="check its permissions") from e


def _of_vm(name: str, how: Looking, say: live.Say) -> Subject:
    with Connection(live.choose(how.connect), waiting=say) as connection:
        if connection.find(name) is None:
            there = ", ".join(sorted(d.name for d in connection.domains()))
            msg = f"there is neither a file nor a VM of the name {name}"
            raise GuestError(msg, hint=f"the VMs are: {there}" if there else "there are no VMs; give a path")
        host = how.source or live.read_host(connection)
        return subjects.of_vm(connection, name, host, say, inspect=how.inspect)


def baseline(
    subject: Subject, names: tuple[str, ...], load: Callable[[str], Host], connect: str | None, say: live.Say
) -> Baseline:
    """The processor that the subject's own PC and all targets have. Raises HostError, DocumentError.

    Of each PC no more is kept than what tells of its processor.
    """
    pcs = [subject.source] if subject.source is not None else []
    pcs += [targets.read(name, load, subject, connect, say).host for name in names]
    kind: Literal["kvm", "qemu"] = "kvm" if subject.domain is None or subject.domain.type == "kvm" else "qemu"
    return cpu_baseline.baseline([_processor(pc) for pc in pcs], cpu_map.read(), domain_type=kind)


def _processor(pc: Host) -> Host:
    return Host(name=pc.name, cpu=pc.cpu, kvm=pc.kvm, stack=pc.stack)


def answers(
    subject: Subject, names: tuple[str, ...], load: Callable[[str], Host], connect: str | None, say: live.Say
) -> Iterator[Answer]:
    """The check of each target, one after another: no more than one PC is held at a time."""
    for name in names:
        try:
            target = targets.read(name, load, subject, connect, say)
        except ClienthvError as e:
            yield name, e
        else:
            yield portability.check(subject, target)

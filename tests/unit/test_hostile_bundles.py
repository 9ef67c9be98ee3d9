"""Bundles that were made to do harm, and such that were damaged, are refused for the right reason and leave nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from clienthv import bundles
from clienthv.errors import RefusedError
from clienthv.model.refusals import Refusal

R = Refusal
DEFINITION = b"<domain type='kvm'/>\n"
END = bytes(1024)


def block(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def tail(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    return block(name, len(data), kind, link) + tail(data)


def pax(**records: str) -> bytes:
    """An extended header; names are written with _ for a dot."""
    lines = []
    for key, value in records.items():
        rest = f" {key.replace('_', '.')}={value}\n"
        length = len(rest) + 2 if len(rest) < 98 else len(rest) + 3
        lines.append(f"{length}{rest}")
    return member("pax", "".join(lines).encode(), tarfile.XHDTYPE)


def sparse(name: str, data: bytes, length: int, **more: str) -> bytes:
    records = {"GNU_sparse_major": "1", "GNU_sparse_minor": "0", "GNU_sparse_name": name,
               "GNU_sparse_realsize": str(length), **more}  # fmt: skip
    return pax(**records) + member(name, data)


def stretches(*numbers: int) -> bytes:
    return tail("".join(f"{n}\n" for n in numbers).encode())


def manifest(*members: dict[str, Any], **more: Any) -> bytes:
    first = {"role": "definition", "name": "domain.xml", "size": len(DEFINITION)}
    document = {"schema": 1, "kind": "bundle", "vm": "desk", "created_by": "somebody", "members": [first, *members]}
    return json.dumps(document | more).encode()


def disk(size: int, length: int, **more: Any) -> dict[str, Any]:
    facts = {"format": "raw", "virtual_size": length, "length": length}
    return {"role": "disk", "name": "disks/0.raw", "size": size, "disk": facts} | more


def sums(**contents: bytes) -> bytes:
    named = {name.replace("_", "."): hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return member("checksums.json", json.dumps({"sha256": named}).encode())


def frame(archive: bytes, **more: Any) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, **more).compress(archive)


HEAD = member("manifest.json", manifest()) + member("domain.xml", DEFINITION)
NVRAM = {"role": "nvram", "name": "nvram.fd", "size": 4}
WITH_NVRAM = member("manifest.json", manifest(NVRAM)) + member("domain.xml", DEFINITION)
WITH_TPM = {"role": "tpm", "name": "tpm/tpm2-00.permall", "size": 4}
SUMS = sums(manifest_json=manifest(), domain_xml=DEFINITION)
NVRAM_SUMS = sums(manifest_json=manifest(NVRAM), domain_xml=DEFINITION, nvram_fd=b"vars")
MEGABYTE = disk(512 + 4096, 1 << 20)
MAP = stretches(1, 0, 4096)


def with_disk(told: dict[str, Any], *archive: bytes) -> bytes:
    head = member("manifest.json", manifest(told)) + member("domain.xml", DEFINITION)
    return frame(head + b"".join(archive) + END)


def only(document: bytes) -> bytes:
    return frame(member("manifest.json", document) + member("domain.xml", DEFINITION) + SUMS + END)


def retold(archive: bytes, at: int, text: bytes) -> bytes:
    """An archive whose first header has something else at a place, and a checksum that fits."""
    data = bytearray(archive)
    data[at : at + len(text)] = text
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def large_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_checksum=True, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(HEAD + SUMS + END) + stream.flush()


GOOD = frame(HEAD + SUMS + END)
GOOD_NVRAM = frame(WITH_NVRAM + member("nvram.fd", b"vars") + NVRAM_SUMS + END)
GOOD_DISK = with_disk(
    MEGABYTE,
    sparse("disks/0.raw", MAP + b"d" * 4096, 1 << 20),
    member(
        "checksums.json",
        json.dumps({
            "sha256": {
                "manifest.json": hashlib.sha256(manifest(MEGABYTE)).hexdigest(),
                "domain.xml": hashlib.sha256(DEFINITION).hexdigest(),
                "disks/0.raw": hashlib.sha256(MAP + b"d" * 4096).hexdigest(),
            }
        }).encode(),
    ),
)  # fmt: skip

HOSTILE: dict[str, tuple[Refusal, bytes]] = {
    "nothing": (R.NOT_A_BUNDLE, b""),
    "text": (R.NOT_A_BUNDLE, b"hello\n" * 1000),
    "a-tar-that-is-not-compressed": (R.NOT_A_BUNDLE, HEAD + SUMS + END),
    "text-that-is-compressed": (R.NOT_A_BUNDLE, frame(b"hello\n" * 1000)),
    "a-skippable-frame": (R.NOT_A_BUNDLE, b"\x50\x2a\x4d\x18\x00\x00\x00\x00" + GOOD),
    "no-checksum-of-zstd": (R.NOT_A_BUNDLE, zstandard.ZstdCompressor().compress(HEAD + SUMS + END)),
    "a-header-whose-checksum-is-wrong": (R.NOT_A_BUNDLE, frame(HEAD + b"x" + SUMS[1:] + END)),
    "an-old-tar": (R.NOT_A_BUNDLE, frame(retold(HEAD, 257, bytes(8)) + SUMS + END)),
    "newer": (R.NEWER_BUNDLE, only(b'{"schema": 2, "kind": "bundle", "new": {}}')),
    "much-newer": (R.NEWER_BUNDLE, only(b'{"schema": 999999999999999999999999, "kind": "bundle"}')),
    "an-empty-archive": (R.BAD_MANIFEST, frame(END)),
    "another-file-first": (R.BAD_MANIFEST, frame(member("domain.xml", DEFINITION) + HEAD + SUMS + END)),
    "a-sparse-manifest": (R.BAD_MANIFEST, frame(sparse("manifest.json", MAP, 4096) + END)),
    "manifest-of-nothing": (R.BAD_MANIFEST, only(b"")),
    "manifest-not-json": (R.BAD_MANIFEST, only(b"{")),
    "manifest-not-utf-8": (R.BAD_MANIFEST, only(b'{"schema": 1, "kind": "bundle", "vm": "\xff"}')),
    "manifest-deep": (R.BAD_MANIFEST, only(b"[" * 200_000)),
    "manifest-deep-within": (R.BAD_MANIFEST, only(b'{"schema": 1, "kind": "bundle", "vm": ' + b"[" * 200_000)),
    "manifest-of-another-kind": (R.BAD_MANIFEST, only(b'{"schema": 1, "kind": "plan"}')),
    "manifest-with-wrong-types": (R.BAD_MANIFEST, only(manifest(members="all"))),
    "manifest-with-unknown-field": (R.BAD_MANIFEST, only(manifest(run="rm -rf /"))),
    "manifest-with-schema-0": (R.BAD_MANIFEST, only(manifest(schema=0))),
    "manifest-with-a-terminal-sequence": (R.BAD_MANIFEST, only(manifest(source="\x1b[2J"))),
    "manifest-with-no-name": (R.BAD_MANIFEST, only(manifest(vm="../desk"))),
    "manifest-with-a-line-break-in-a-name": (R.BAD_MANIFEST, only(manifest(vm="desk\n"))),
    "manifest-without-members": (R.BAD_MANIFEST, only(manifest(members=[]))),
    "manifest-with-two-definitions": (
        R.DUPLICATE_MEMBER,
        only(manifest({"role": "definition", "name": "domain.xml", "size": 1})),
    ),
    "manifest-out-of-order": (R.BAD_MANIFEST, only(manifest(MEGABYTE, NVRAM))),
    "manifest-with-another-name": (R.BAD_MANIFEST, only(manifest(NVRAM | {"name": "vars.fd"}))),
    "manifest-with-a-lock-of-swtpm": (R.BAD_MANIFEST, only(manifest(WITH_TPM | {"name": "tpm/.lock"}))),
    "manifest-with-a-disk-without-facts": (R.BAD_MANIFEST, only(manifest(NVRAM | {"role": "disk"}))),
    "manifest-with-a-vmdk": (R.BAD_MANIFEST, only(manifest(disk(512, 1, disk={"format": "vmdk"})))),
    "manifest-with-disks-misnumbered": (R.BAD_MANIFEST, only(manifest(disk(512, 1, name="disks/1.raw")))),
    "manifest-with-negative-size": (R.BAD_MANIFEST, only(manifest(NVRAM | {"size": -1}))),
    "manifest-too-large": (R.BAD_MANIFEST, only(manifest() + b" " * (1 << 20))),
    "manifest-said-to-be-huge": (R.BAD_MANIFEST, frame(block("manifest.json", 7 << 30) + END)),
    "no-definition": (R.CUT_SHORT, frame(member("manifest.json", manifest()) + SUMS + END)),
    "no-checksums": (R.CUT_SHORT, frame(HEAD + END)),
    "no-end": (R.CUT_SHORT, frame(HEAD + SUMS)),
    "half-an-end": (R.CUT_SHORT, frame(HEAD + SUMS + bytes(512))),
    "a-member-missing": (R.CUT_SHORT, frame(WITH_NVRAM + NVRAM_SUMS + END)),
    "the-frame-cut": (R.CUT_SHORT, GOOD[:-1]),
    "the-frame-cut-in-its-header": (R.CUT_SHORT, GOOD[:5]),
    "a-file-too-many": (R.UNEXPECTED_MEMBER, frame(HEAD + member("run-me", b"") + SUMS + END)),
    "a-file-behind": (R.UNEXPECTED_MEMBER, frame(HEAD + SUMS + member("run-me", b"") + END)),
    "a-folder": (R.UNEXPECTED_MEMBER, frame(HEAD + block("tpm", 0, tarfile.DIRTYPE) + SUMS + END)),
    "a-fifo": (R.UNEXPECTED_MEMBER, frame(WITH_NVRAM + block("nvram.fd", 0, tarfile.FIFOTYPE) + END)),
    "a-device": (R.UNEXPECTED_MEMBER, frame(WITH_NVRAM + block("nvram.fd", 0, tarfile.CHRTYPE) + END)),
    "an-old-sparse-file": (R.UNEXPECTED_MEMBER, frame(WITH_NVRAM + block("nvram.fd", 4, tarfile.GNUTYPE_SPARSE) + END)),
    "a-long-name": (R.UNEXPECTED_MEMBER, frame(HEAD + member("L", b"x" * 200, tarfile.GNUTYPE_LONGNAME) + END)),
    "a-global-header": (R.UNEXPECTED_MEMBER, frame(HEAD + member("g", b"9 path=a\n", tarfile.XGLTYPE) + END)),
    "a-path-in-a-header": (R.UNEXPECTED_MEMBER, frame(HEAD + pax(path="/etc/passwd") + SUMS + END)),
    "a-sparse-nvram": (R.UNEXPECTED_MEMBER, frame(WITH_NVRAM + sparse("nvram.fd", MAP, 4) + END)),
    "two-headers": (R.UNEXPECTED_MEMBER, with_disk(MEGABYTE, pax(path="a"), pax(path="b"))),
    "a-damaged-header": (R.UNEXPECTED_MEMBER, with_disk(MEGABYTE, member("x", b"99 a=b\n", tarfile.XHDTYPE))),
    "another-sparse-format": (
        R.UNEXPECTED_MEMBER,
        with_disk(MEGABYTE, sparse("disks/0.raw", MAP, 1 << 20, GNU_sparse_major="2")),
    ),
    "two-names": (
        R.UNEXPECTED_MEMBER,
        with_disk(MEGABYTE, sparse("disks/0.raw", MAP, 1 << 20, GNU_sparse_name="/etc/passwd")),
    ),
    "a-disk-that-is-not-sparse": (R.UNEXPECTED_MEMBER, with_disk(MEGABYTE, member("disks/0.raw", MAP + bytes(4096)))),
    "something-in-the-padding": (
        R.UNEXPECTED_MEMBER,
        frame(WITH_NVRAM + block("nvram.fd", 4) + b"vars" + b"x" * 508 + NVRAM_SUMS + END),
    ),
    "something-behind-the-end": (R.UNEXPECTED_MEMBER, frame(HEAD + SUMS + END + b"hidden")),
    "something-after-one-block-of-the-end": (R.UNEXPECTED_MEMBER, frame(HEAD + SUMS + bytes(512) + b"x" * 512)),
    "something-behind-the-frame": (R.UNEXPECTED_MEMBER, GOOD + b"x"),
    "another-frame": (R.UNEXPECTED_MEMBER, GOOD + GOOD),
    "a-skippable-frame-behind": (R.UNEXPECTED_MEMBER, GOOD + b"\x50\x2a\x4d\x18\x00\x00\x00\x00"),
    "a-symbolic-link": (R.LINK, frame(WITH_NVRAM + block("nvram.fd", 0, tarfile.SYMTYPE, "/etc/passwd") + END)),
    "a-hard-link": (R.LINK, frame(WITH_NVRAM + block("nvram.fd", 0, tarfile.LNKTYPE, "domain.xml") + END)),
    "a-link-as-the-manifest": (R.LINK, frame(block("manifest.json", 0, tarfile.SYMTYPE, "/etc/passwd") + END)),
    "a-link-that-leads-out": (R.LINK, frame(HEAD + block("../x", 0, tarfile.SYMTYPE, "/") + END)),
    "twice": (R.DUPLICATE_MEMBER, frame(HEAD + member("domain.xml", DEFINITION) + SUMS + END)),
    "twice-at-the-end": (R.DUPLICATE_MEMBER, frame(HEAD + SUMS + SUMS + END)),
    "the-manifest-again": (R.DUPLICATE_MEMBER, frame(HEAD + HEAD + SUMS + END)),
    "shorter": (R.WRONG_SIZE, frame(WITH_NVRAM + member("nvram.fd", b"var") + NVRAM_SUMS + END)),
    "longer": (R.WRONG_SIZE, frame(WITH_NVRAM + member("nvram.fd", b"varsvars") + NVRAM_SUMS + END)),
    "a-longer-definition": (R.WRONG_SIZE, frame(HEAD[:1024] + member("domain.xml", DEFINITION * 2) + END)),
    "a-longer-disk": (R.WRONG_SIZE, with_disk(MEGABYTE, sparse("disks/0.raw", MAP + bytes(4096), 2 << 20))),
    "more-data-in-a-disk": (R.WRONG_SIZE, with_disk(MEGABYTE, sparse("disks/0.raw", MAP + bytes(8192), 1 << 20))),
    "another-content": (R.WRONG_CHECKSUM, frame(WITH_NVRAM + member("nvram.fd", b"VARS") + NVRAM_SUMS + END)),
    "another-definition": (R.WRONG_CHECKSUM, frame(HEAD.replace(b"kvm", b"xen") + SUMS + END)),
    "another-manifest": (R.WRONG_CHECKSUM, frame(HEAD.replace(b"somebody", b"somebodY") + SUMS + END)),
    "checksums-without-one": (R.WRONG_CHECKSUM, frame(HEAD + sums(manifest_json=manifest()) + END)),
    "checksums-with-one-more": (
        R.WRONG_CHECKSUM,
        frame(HEAD + sums(manifest_json=manifest(), domain_xml=DEFINITION, more=b"") + END),
    ),
    "checksums-not-json": (R.WRONG_CHECKSUM, frame(HEAD + member("checksums.json", b"{") + END)),
    "checksums-deep": (R.WRONG_CHECKSUM, frame(HEAD + member("checksums.json", b"[" * 200_000) + END)),
    "the-checksum-of-zstd": (R.WRONG_CHECKSUM, GOOD[:-1] + bytes([GOOD[-1] ^ 1])),
    "a-huge-virtual-disk": (
        R.ABSURD_SIZE,
        only(manifest(disk(512, 1, disk={"format": "raw", "virtual_size": (64 << 40) + 1, "length": 1}))),
    ),
    "a-huge-file": (R.ABSURD_SIZE, only(manifest(disk(512, (64 << 40) + 1)))),
    "a-huge-nvram": (R.ABSURD_SIZE, only(manifest(NVRAM | {"size": 1 << 40}))),
    "more-data-than-file": (R.ABSURD_SIZE, only(manifest(disk(1 << 40, 1 << 20)))),
    "huge-disks-together": (
        R.ABSURD_SIZE,
        only(manifest(disk(512, 40 << 40), disk(512, 40 << 40, name="disks/1.raw"))),
    ),
    "huge-checksums": (R.ABSURD_SIZE, frame(HEAD + block("checksums.json", 7 << 30) + END)),
    "a-huge-extended-header": (R.ABSURD_SIZE, frame(HEAD + block("pax", 7 << 30, tarfile.XHDTYPE) + END)),
    "a-huge-global-header": (R.ABSURD_SIZE, frame(block("pax", 7 << 30, tarfile.XGLTYPE) + END)),
    "a-huge-long-name": (R.ABSURD_SIZE, frame(HEAD + block("L", 7 << 30, tarfile.GNUTYPE_LONGNAME) + END)),
    "a-size-in-base-256": (R.ABSURD_SIZE, frame(HEAD + block("nvram.fd", 1 << 60) + END)),
    "a-size-of-many-digits": (R.ABSURD_SIZE, with_disk(MEGABYTE, sparse("disks/0.raw", MAP, 1, size="9" * 100))),
    "a-map-of-many-stretches": (
        R.ABSURD_SIZE,
        with_disk(MEGABYTE, sparse("disks/0.raw", stretches(99_999_999) + bytes(4096), 1 << 20)),
    ),
    "a-window-of-128-mib": (R.ABSURD_SIZE, large_window()),
    "zeros-without-end": (R.ABSURD_SIZE, frame(HEAD + SUMS + END + bytes(64 << 20))),
}  # fmt: skip

NAMES = (
    "/etc/passwd", "../passwd", "disks/../../passwd", "..", ".", "./nvram.fd", "tpm//x", "tpm/", "\\windows", "a\nb",
    "a\x1b[2J", "\u202envram.fd", "", "nvram.fd/..",
)  # fmt: skip
for number, odd in enumerate(NAMES):
    HOSTILE[f"a-name-{number}"] = (R.PATH_ESCAPE, frame(WITH_NVRAM + member(odd, b"vars") + NVRAM_SUMS + END))
    if odd:
        HOSTILE[f"a-listed-name-{number}"] = (R.PATH_ESCAPE, only(manifest(NVRAM | {"name": odd})))
HOSTILE["a-name-with-a-prefix"] = (R.PATH_ESCAPE, frame(WITH_NVRAM + retold(member("nvram.fd", b"vars"), 345, b"/etc")))
HOSTILE["a-name-behind-its-end"] = (R.PATH_ESCAPE, frame(WITH_NVRAM + retold(member("nvram.fd", b"vars"), 20, b"x")))

MAPS = {
    "no-number": tail(b"x\n"),
    "no-line": bytes(512),
    "a-minus": tail(b"1\n-1\n4096\n"),
    "a-huge-number": tail(b"1\n" + b"9" * 400 + b"\n4096\n"),
    "not-to-the-end-of-a-number": b"9\n" + b"1\n" * 255,
    "beyond-the-end": stretches(1, 1 << 20, 4096),
    "far-beyond-the-end": stretches(1, 9 << 40, 4096),
    "not-on-a-block": stretches(1, 100, 4096),
    "backwards": stretches(2, 8192, 2048, 0, 2048),
    "over-each-other": stretches(2, 0, 2048, 1024, 2048),
    "less-than-there-is": stretches(1, 0, 2048),
    "more-than-there-is": stretches(1, 0, 8192),
    "a-number-too-many": stretches(1, 0, 4096, 7),
    "something-behind": stretches(1, 0, 4096)[:-1] + b"x",
}
for name, text in MAPS.items():
    HOSTILE[f"a-map-{name}"] = (R.WRONG_SIZE, with_disk(MEGABYTE, sparse("disks/0.raw", text + bytes(4096), 1 << 20)))


def tree(folder: Path) -> dict[str, Any]:
    """All there is in a folder, with contents, and times of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status, plain = path.lstat(), path.is_file()
        content = path.read_bytes() if plain else None
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, plain and status.st_mtime_ns, content)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with things in it that must stay as they are."""
    made = tmp_path / "images"
    made.mkdir()
    (made / "precious.qcow2").write_bytes(os.urandom(5000))
    (made / "nvram.fd").symlink_to("precious.qcow2")
    (tmp_path / "passwd").write_text("root\n")
    return made


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_for_what_it_is_and_leaves_nothing(name: str, home: Path) -> None:
    refusal, data = HOSTILE[name]
    before = tree(home.parent)
    with pytest.raises(RefusedError) as caught:
        bundles.open_bundle(io.BytesIO(data)).extract(home / "desk")
    assert (caught.value.refusal, caught.value.code) == (refusal, 11), caught.value.message
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert tree(home.parent) == before
    with pytest.raises(RefusedError) as again:
        bundles.verify(io.BytesIO(data))
    assert again.value.refusal == refusal


def test_every_refusal_of_bundles_has_a_hostile_one() -> None:
    of_bundles = list(Refusal)[list(Refusal).index(R.NOT_A_BUNDLE) :]
    assert {refusal for refusal, _ in HOSTILE.values()} - {R.ABSURD_SIZE} == set(of_bundles) - {R.BAD_DEFINITION}


@pytest.mark.parametrize("data", [GOOD, GOOD_NVRAM, GOOD_DISK])
def test_what_the_hostile_ones_are_made_from_is_good(data: bytes, home: Path) -> None:
    bundles.open_bundle(io.BytesIO(data)).extract(home / "desk")
    assert (home / "desk/domain.xml").read_bytes() == DEFINITION


def test_the_filling_that_tar_adds_is_no_offence(home: Path) -> None:
    bundles.open_bundle(io.BytesIO(frame(HEAD + SUMS + END + bytes(10_240 * 20)))).extract(home / "desk")
    assert (home / "desk/domain.xml").exists()


EARLY = (R.NOT_A_BUNDLE, R.NEWER_BUNDLE, R.BAD_MANIFEST)
BAD_HEADS = [n for n, (refusal, _) in HOSTILE.items() if refusal in EARLY and n != "a-header-whose-checksum-is-wrong"]


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a_bundle_with_a_bad_head_is_refused_before_a_folder_is_made(name: str) -> None:
    with pytest.raises(RefusedError):
        bundles.open_bundle(io.BytesIO(HOSTILE[name][1]))


def zero_disk(length: int) -> Iterable[bytes]:
    """A bundle, in pieces, whose disk claims that all of its length is data, all of it zeros."""
    told = disk(512 + length, length)
    yield member("manifest.json", manifest(told)) + member("domain.xml", DEFINITION)
    yield sparse("disks/0.raw", b"", length, size=str(512 + length))
    yield stretches(1, 0, length)
    for _ in range(length >> 20):
        yield bytes(1 << 20)


def test_a_bomb_takes_little_memory_and_no_space(home: Path) -> None:
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    data = b"".join(map(stream.compress, zero_disk(512 << 20))) + stream.flush()
    assert len(data) < 100_000
    largest = 0

    def look(done: int, _: int) -> None:
        nonlocal largest
        largest = max(largest, sum(p.stat().st_blocks * 512 for p in (home / "desk").rglob("*")))

    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as caught:
            bundles.open_bundle(io.BytesIO(data)).extract(home / "desk", look)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.refusal == R.CUT_SHORT
    assert largest < 64 << 10

"""Images that were made to do harm, byte by byte, and images that were not. No process looks at them here."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clienthv.errors import DiskError, RefusedError
from clienthv.images import formats
from clienthv.images.headers import headers
from clienthv.model.image import Format
from clienthv.model.refusals import Refusal

REFERENCE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "refusals.md"
MIB, TIB = 1 << 20, 1 << 40
CLUSTER = 1 << 16


def qcow2(
    *, version: int = 3, size: int = 64 * MIB, bits: int = 16, crypt: int = 0, l1: int = 1, l1_at: int = 3 * CLUSTER,
    reftable: int = 1, snapshots: int = 0, incompatible: int = 0, order: int = 4, length: int = 104,
    backing: bytes = b"", backing_length: int | None = None, extensions: bytes = b"", magic: bytes = b"QFI\xfb",
) -> bytes:  # fmt: skip
    """A qcow2 image of four clusters, as empty as qemu-img makes one."""
    at = 512 if backing else 0
    long = len(backing) if backing_length is None else backing_length
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", magic, version, at, long, bits, size, crypt, l1, l1_at, CLUSTER, reftable, snapshots, 0
    )
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, order, length) + bytes(length - 104 if length > 104 else 0)
    head = (head + extensions).ljust(512, b"\0") + backing
    tables = struct.pack(">Q", 2 * CLUSTER).ljust(CLUSTER, b"\0") + (b"\0\1" * 4).ljust(CLUSTER, b"\0")
    return head.ljust(CLUSTER, b"\0") + tables + bytes(8)


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def vmdk(text: str, sectors: int = 2048) -> bytes:
    head = struct.pack("<4sIIQQQQIQQ", b"KDMV", 1, 3, sectors, 128, 1, 20, 512, 21, 26).ljust(512, b"\0")
    return (head + text.encode()).ljust(64 << 10, b"\0")


def descriptor(kind: str, *extents: str, more: str = "") -> str:
    lines = ["# Disk DescriptorFile", "version=1", "CID=11111111", "parentCID=ffffffff", f'createType="{kind}"', more]
    return "\n".join([*lines, *extents, 'ddb.adapterType = "ide"', ""])


SPARSE = descriptor("monolithicSparse", 'RW 2048 SPARSE "a.vmdk"')


def vhd(kind: int = 3, size: int = 16 * MIB) -> bytes:
    head = b"conectix" + bytes(32) + struct.pack(">QQII", size, size, 0, kind)
    return head.ljust(4096, b"\0")


def vhdx(*, parent: bool = False) -> bytes:
    """The identifier, a table of regions that has the metadata at 2 MiB, and the metadata's own table."""
    metadata = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le + struct.pack("<QII", 2 * MIB, MIB, 1)
    regions = struct.pack("<4sIII", b"regi", 0, 1, 0) + metadata
    items = [(UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8"), 65536, 8)]
    if parent:
        items.append((UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"), 65544, 100))
    table = struct.pack("<8sHH20x", b"metadata", 0, len(items))
    table += b"".join(u.bytes_le + struct.pack("<IIII", at, long, 6, 0) for u, at, long in items)
    image = bytearray(3 * MIB)
    for at, data in (
        (0, b"vhdxfile"), (192 << 10, regions), (256 << 10, regions),
        (2 * MIB, table), (2 * MIB + 65536, struct.pack("<Q", 16 * MIB)),
    ):  # fmt: skip
        image[at : at + len(data)] = data
    return bytes(image)


def vdi(kind: int = 1, size: int = 16 * MIB) -> bytes:
    head = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(0x40, b"\0")
    head += struct.pack("<IIII", 0xBEDA107F, 0x00010001, 400, kind)
    return (head.ljust(0x170, b"\0") + struct.pack("<Q", size)).ljust(1024, b"\0")


def qed(features: int = 0, size: int = 16 * MIB) -> bytes:
    head = struct.pack("<4sIIIQQQQQII", b"QED\0", CLUSTER, 4, 1, features, 0, 0, CLUSTER, size, 64, 6) + b"/a.raw"
    return head.ljust(CLUSTER, b"\0")


def iso(before: bytes = b"") -> bytes:
    return (before.ljust(32 << 10, b"\0") + b"\1CD001\1").ljust(64 << 10, b"\0")


def partitioned(before: bytes = b"") -> bytes:
    entry = struct.pack("<B3BB3BII", 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, 4096)
    return (before.ljust(446, b"\0") + entry).ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB)


R = Refusal
HOSTILE: list[tuple[str, Refusal, bytes]] = [
    ("compressed", R.FORMAT_UNKNOWN, b"\x1f\x8b\x08" + bytes(1000)),
    ("xz", R.FORMAT_UNKNOWN, b"\xfd7zXZ\0" + bytes(1000)),
    ("an OVA", R.FORMAT_UNKNOWN, b"box.ovf".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000)),
    ("RAR", R.FORMAT_UNKNOWN, b"Rar!\x1a\x07\1\0" + bytes(1000)),
    ("LZ4", R.FORMAT_UNKNOWN, b"\x04\x22\x4d\x18" + bytes(1000)),
    ("LZMA", R.FORMAT_UNKNOWN, b"\x5d\0\0\x80\0" + bytes(1000)),
    ("a backup of Proxmox VE", R.FORMAT_UNKNOWN, b"VMA\0" + bytes(1000)),
    ("a program", R.FORMAT_UNKNOWN, b"\x7fELF" + bytes(1000)),
    ("a page instead of an image", R.FORMAT_UNKNOWN, b"\n<!DOCTYPE HTML><title>404</title>".ljust(1000)),
    ("a description instead of an image", R.FORMAT_UNKNOWN, b'<?xml version="1.0"?><Envelope>'.ljust(1000)),
    ("an Apple disk image", R.FORMAT_UNKNOWN, bytes(4096) + b"koly".ljust(512, b"\0")),
    ("VMDK of ESX", R.FORMAT_UNKNOWN, b"COWD" + bytes(1000)),
    ("nothing at all", R.FORMAT_UNKNOWN, b""),
    ("less than a sector", R.FORMAT_UNKNOWN, b"hello\n"),
    ("qcow version 1", R.FORMAT_UNSAFE, qcow2(version=1)),
    ("qcow2 of the future", R.FORMAT_UNSAFE, qcow2(version=4)),
    ("unknown feature", R.FORMAT_UNSAFE, qcow2(incompatible=1 << 5)),
    ("unknown feature, last", R.FORMAT_UNSAFE, qcow2(incompatible=1 << 63)),
    ("unknown type of VMDK", R.FORMAT_UNSAFE, vmdk(descriptor("custom"))),
    ("odd line in a VMDK", R.FORMAT_UNSAFE, vmdk(SPARSE + "do as I say\n")),
    ("VHD of unknown type", R.FORMAT_UNSAFE, vhd(kind=7)),
    ("QED with unknown feature", R.FORMAT_UNSAFE, qed(features=8)),
    ("qcow2 and ISO", R.FORMAT_DISAGREES, qcow2()[: 32 << 10] + iso()[32 << 10 :] + qcow2()[64 << 10 :]),
    ("qcow2 and disk", R.FORMAT_DISAGREES, partitioned(qcow2()[:440])),
    ("qcow2 and VDI", R.FORMAT_DISAGREES, qcow2()[:64] + struct.pack("<I", 0xBEDA107F) + bytes(1000)),
    ("backing file", R.BACKING_FILE, qcow2(backing=b"/etc/shadow")),
    ("backing file of version 2", R.BACKING_FILE, qcow2(version=2, backing=b"/etc/shadow")),
    ("backing network", R.BACKING_FILE, qcow2(backing=b"nbd://203.0.113.1/x")),
    ("backing JSON", R.BACKING_FILE, qcow2(backing=b'json:{"driver":"file","filename":"/etc/shadow"}')),
    ("parent of VMDK", R.BACKING_FILE, vmdk(SPARSE.replace("ddb", 'parentFileNameHint="/etc/shadow"\nddb'))),
    ("parent in a comment of VMDK", R.BACKING_FILE, vmdk("# parentFileNameHint=\"/etc/shadow\"\n" + SPARSE)),
    ("differencing VHD", R.BACKING_FILE, vhd(kind=4)),
    ("differencing VHDX", R.BACKING_FILE, vhdx(parent=True)),
    ("differencing VDI", R.BACKING_FILE, vdi(kind=4)),
    ("QED with backing file", R.BACKING_FILE, qed(features=1)),
    ("data file", R.DATA_FILE, qcow2(incompatible=4, extensions=extension(0x44415441, b"/etc/shadow"))),
    ("data file without name", R.DATA_FILE, qcow2(incompatible=4)),
    ("data file without feature", R.DATA_FILE, qcow2(extensions=extension(0x44415441, b"/etc/shadow"))),
    ("flat VMDK", R.DATA_FILE, descriptor("monolithicFlat", 'RW 2048 FLAT "a-flat.vmdk" 0').encode()),
    ("VMDK that is a descriptor", R.DATA_FILE, vmdk(SPARSE, sectors=0)),
    ("VMDK of a file", R.HOST_PATH, descriptor("monolithicFlat", 'RW 2048 FLAT "/etc/shadow" 0').encode()),
    ("VMDK of a disk", R.HOST_PATH, descriptor("fullDevice", 'RW 2048 FLAT "/dev/sda" 0').encode()),
    ("VMDK of a disk of Windows", R.HOST_PATH,
     descriptor("fullDevice", r'RW 2048 FLAT "\\.\PhysicalDrive0" 0').encode()),
    ("VMDK of a folder above", R.HOST_PATH, descriptor("monolithicFlat", 'RW 2048 FLAT "../x" 0').encode()),
    ("VMDK of a path inside", R.HOST_PATH, vmdk(descriptor("monolithicSparse", 'RW 2048 SPARSE "/dev/sda"'))),
    ("tabs in a VMDK", R.HOST_PATH, descriptor("monolithicFlat", '\trw\t2048\tFLAT\t"/etc/shadow"').encode()),
    ("lines in a VMDK", R.HOST_PATH, descriptor("monolithicFlat", 'RW 2048', 'FLAT', '"/etc/shadow" 0').encode()),
    ("65 TiB", R.ABSURD_SIZE, qcow2(size=65 * TIB, l1=1 << 17)),
    ("all bits", R.ABSURD_SIZE, qcow2(size=(1 << 64) - 1)),
    ("L1 too small", R.ABSURD_SIZE, qcow2(size=TIB)),
    ("L1 too large", R.ABSURD_SIZE, qcow2(l1=0xFFFFFFFF)),
    ("clusters too small", R.ABSURD_SIZE, qcow2(bits=8)),
    ("clusters too large", R.ABSURD_SIZE, qcow2(bits=22)),
    ("clusters far too large", R.ABSURD_SIZE, qcow2(bits=0xFFFFFFFF)),
    ("VDI", R.ABSURD_SIZE, vdi(size=1 << 63)),
    ("VHD", R.ABSURD_SIZE, vhd(size=1 << 63)),
    ("QED", R.ABSURD_SIZE, qed(size=1 << 63)),
    ("VMDK", R.ABSURD_SIZE, vmdk(SPARSE, sectors=1 << 50)),
    ("AES", R.ENCRYPTED, qcow2(crypt=1)),
    ("LUKS in qcow2", R.ENCRYPTED, qcow2(crypt=2)),
    ("encryption header", R.ENCRYPTED, qcow2(extensions=extension(0x0537BE77, bytes(16)))),
    ("LUKS", R.ENCRYPTED, b"LUKS\xba\xbe\0\1" + bytes(4096)),
    ("LUKS 2", R.ENCRYPTED, b"LUKS\xba\xbe\0\2" + bytes(4096)),
    ("cut short LUKS", R.ENCRYPTED, b"LUKS\xba\xbe"),
    ("four bytes", R.CORRUPT, b"QFI\xfb"),
    ("cut short", R.CORRUPT, qcow2()[:71]),
    ("cut short, version 3", R.CORRUPT, qcow2()[:103]),
    ("cut before its tables", R.CORRUPT, qcow2()[:CLUSTER]),
    ("cut within its L1", R.CORRUPT, qcow2()[:-1]),
    ("marked corrupt", R.CORRUPT, qcow2(incompatible=2)),
    ("L1 nowhere", R.CORRUPT, qcow2(l1_at=1 << 60)),
    ("L1 in the header", R.CORRUPT, qcow2(l1_at=0)),
    ("L1 between clusters", R.CORRUPT, qcow2(l1_at=CLUSTER + 8)),
    ("no reference counts", R.CORRUPT, qcow2(reftable=0)),
    ("too many reference counts", R.CORRUPT, qcow2(reftable=0xFFFFFFFF)),
    ("wide reference counts", R.CORRUPT, qcow2(order=7)),
    ("too many snapshots", R.CORRUPT, qcow2(snapshots=65537)),
    ("snapshots nowhere", R.CORRUPT, qcow2(snapshots=1)),
    ("short header", R.CORRUPT, qcow2(length=96)),
    ("long header", R.CORRUPT, qcow2(length=1 << 17)),
    ("long extension", R.CORRUPT, qcow2(extensions=struct.pack(">II", 0xE2792ACA, 0xFFFFFFFF))),
    ("long name", R.CORRUPT, qcow2(backing=b"a", backing_length=0xFFFFFFFF)),
    ("no name", R.CORRUPT, qcow2(backing=b"a", backing_length=0)),
    ("cut short VMDK", R.CORRUPT, b"KDMV\1\0"),
    ("VMDK without descriptor", R.CORRUPT, b"KDMV" + bytes(1000)),
    ("cut short VHD", R.CORRUPT, b"conectix"),
    ("cut short VHDX", R.CORRUPT, b"vhdxfile" + bytes(1000)),
    ("cut short QED", R.CORRUPT, b"QED\0"),
    ("cut short VDI", R.CORRUPT, vdi()[:0x46]),
]  # fmt: skip
IMPOSSIBLE_HERE = {R.NOT_A_FILE, R.TOO_COSTLY}
"""No bytes make these: what is no file is tested below, and what costs too much in tests/libvirt."""


@pytest.mark.parametrize(("code", "content"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_a_hostile_image_is_refused_with_its_code_whatever_it_is_called(
    tmp_path: Path, code: Refusal, content: bytes
) -> None:
    for name in ("a.qcow2", "a.raw", "a.iso"):
        image = tmp_path / name
        image.write_bytes(content)
        with pytest.raises(RefusedError) as told:
            formats.look(image)
        assert told.value.refusal == code, told.value.message
        assert told.value.code == 11
        assert told.value.ref == f"refused-{code}"
        assert told.value.hint
        assert str(image) in told.value.message
        assert told.value.message.isprintable(), "an image cannot write to a terminal"


def test_every_refusal_of_an_image_has_a_hostile_image_and_a_row_in_the_reference() -> None:
    images = list(Refusal)[: list(Refusal).index(R.NOT_A_BUNDLE)]
    assert {code for _, code, _ in HOSTILE} | IMPOSSIBLE_HERE == set(images)
    described = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| [^|]+ \|$", REFERENCE.read_text(), re.MULTILINE)
    assert [code for code in described if code in set(images)] == [code.value for code in images]


CLEAN: list[tuple[str, str, int | None, bytes]] = [
    ("qcow2", "qcow2", 64 * MIB, qcow2()),
    ("version 2", "qcow2", 64 * MIB, qcow2(version=2)),
    ("version 2 with an extension where version 3 has features", "qcow2", 64 * MIB,
     qcow2(version=2, extensions=extension(0x23852875, bytes(7)))),
    ("not closed", "qcow2", 64 * MIB, qcow2(incompatible=1)),
    ("zstd", "qcow2", 64 * MIB, qcow2(incompatible=8, length=112)),
    ("extended L2", "qcow2", 64 * MIB, qcow2(incompatible=16)),
    ("room for snapshots in L1", "qcow2", 0, qcow2(size=0)),
    ("raw", "raw", 4096, bytes(4096)),
    ("partitions", "raw", 512 + MIB, partitioned()),
    ("ISO", "raw", 64 << 10, iso()),
    ("ISO that is a disk too", "raw", 512 + MIB,
     partitioned()[: 32 << 10] + iso()[32 << 10 :] + partitioned()[64 << 10 :]),
    ("text", "raw", 1000, b"a" * 1000),
    ("vmdk", "vmdk", MIB, vmdk(SPARSE)),
    ("vhd", "vhd", 16 * MIB, vhd()),
    ("vhdx", "vhdx", 16 * MIB, vhdx()),
    ("vdi", "vdi", 16 * MIB, vdi()),
    ("qed", "qed", 16 * MIB, qed()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "content"), [c[1:] for c in CLEAN], ids=[c[0] for c in CLEAN])
def test_a_clean_image_is_what_its_content_says_and_not_what_it_is_called(
    tmp_path: Path, name: str, size: int, content: bytes
) -> None:
    image = tmp_path / "a.vmdk"
    image.write_bytes(content)
    header, allocated = headers(image)
    assert (header.format, header.virtual_size) == (name, size)
    assert header.backing is None
    assert header.data == ()
    assert 0 < allocated <= len(content) + 8192


def test_every_format_has_a_clean_image() -> None:
    assert {name for _, name, _, _ in CLEAN} == set(get_args(Format))


def test_a_sparse_image_takes_less_than_it_is_long(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    image.touch()
    os.truncate(image, 20 << 30)
    header, allocated = headers(image)
    assert header.virtual_size == 20 << 30
    assert allocated < MIB


def test_a_raw_image_that_is_known_stays_raw_whatever_its_guest_writes(tmp_path: Path) -> None:
    image = tmp_path / "a.raw"
    for _, _, content in HOSTILE:
        image.write_bytes(content.ljust(4096, b"\0"))
        header, _ = headers(image, known="raw")
        assert (header.format, header.backing, header.data) == ("raw", None, ())


def test_an_image_that_is_no_longer_what_was_known_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(bytes(4096))
    with pytest.raises(RefusedError, match="is a raw image by its content, and was qcow2") as told:
        headers(image, known="qcow2")
    assert told.value.refusal == R.FORMAT_DISAGREES


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a pipe"),
        (_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], Any], words: str) -> None:
    path = tmp_path / "a"
    make(path)
    with pytest.raises(RefusedError, match=f"is {words}; an image is a file") as told:
        formats.look(path)
    assert told.value.refusal == R.NOT_A_FILE


def test_a_file_that_is_not_there_is_no_refusal(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "a\0b", tmp_path / ("a" * 300)):
        with pytest.raises(DiskError, match="cannot read disk image") as told:
            headers(path)
        assert told.value.hint


def test_a_trusted_header_names_what_it_leads_to(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2(backing=b"base.raw", extensions=extension(0xE2792ACA, b"raw")))
    header, _ = headers(image, trusted_chain=True)
    assert (header.backing, header.backing_format) == ("base.raw", "raw")
    image.write_bytes(qcow2(incompatible=4, extensions=extension(0x44415441, b"data.raw")))
    assert headers(image, trusted_chain=True)[0].data == ("data.raw",)


def chain(folder: Path, *names: str) -> Path:
    """Images each of which has the next for a backing file; the last name need not be there."""
    for name, backing in pairwise(names):
        (folder / name).write_bytes(qcow2(backing=backing.encode()))
    return folder / names[0]


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (("a", "a"), R.BACKING_FILE, "lead back to"),
        (("a", "b", "c", "a"), R.BACKING_FILE, "lead back to"),
        (("a", "b", "./b"), R.BACKING_FILE, "lead back to"),
        (tuple(f"i{n}" for n in range(20)), R.BACKING_FILE, "more than 16 backing files"),
        (("a", "nbd://203.0.113.1/x"), R.HOST_PATH, "which is no file"),
        (("a", 'json:{"driver": "null-co"}'), R.HOST_PATH, "which is no file"),
        (("a", "/dev/null"), R.NOT_A_FILE, "is a device"),
        (("a", "file:/dev/null"), R.NOT_A_FILE, "is a device"),
    ],
)
def test_a_trusted_chain_still_ends_somewhere_and_at_files(
    tmp_path: Path, names: tuple[str, ...], code: Refusal, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as told:
        formats.look(chain(tmp_path, *names), trusted_chain=True)
    assert told.value.refusal == code


def test_a_chain_may_end_at_a_name_that_is_no_file_of_this_pc(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("none", "loop", "x" * 300, "loop/x"):
        image = chain(tmp_path, "a", name)
        header, _ = headers(image, trusted_chain=True)
        assert list(formats._others(image, header)) == [str(tmp_path / name)]


def test_a_file_of_a_trusted_chain_is_looked_at_too(tmp_path: Path) -> None:
    image = chain(tmp_path, "a", "b")
    (tmp_path / "b").write_bytes(qcow2(crypt=2))
    with pytest.raises(RefusedError, match=r"/b is encrypted"):
        formats.look(image, trusted_chain=True)


def test_headers_are_read_in_no_time(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2())
    headers(image)  # loads oslo.utils
    took = []
    for _ in range(5):
        before = time.process_time()
        headers(image)
        took.append(time.process_time() - before)
    assert min(took) < 0.02


@pytest.mark.parametrize(
    "piece", ["\n", " ", "RW\n", 'RW "', "createType ", "createType= ", "parentFileNameHint", "\r", "/"]
)
def test_no_description_of_a_vmdk_takes_long_to_read(tmp_path: Path, piece: str) -> None:
    image = tmp_path / "a.vmdk"
    image.write_text("# Disk DescriptorFile\n" + piece * (MIB // len(piece)))
    before = time.process_time()
    with pytest.raises(RefusedError):
        headers(image)
    assert time.process_time() - before < 2


VALID = (qcow2(), qcow2(version=2), vmdk(SPARSE)[:4096], vhd(), vhdx()[: 256 << 10], vdi(), qed()[:4096])
BEGINNINGS = (b"", b"QFI\xfb\0\0\0\3", b"QFI\xfb\0\0\0\2", b"KDMV\1\0\0\0", b"# Disk DescriptorFile\n", b"vhdxfile",
              b"conectix", b"QED\0", b"LUKS\xba\xbe", bytes(64) + struct.pack("<I", 0xBEDA107F))  # fmt: skip


def facts_or_refusal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for trusted in (False, True):
        try:
            header, allocated = headers(path, trusted_chain=trusted)
        except (RefusedError, DiskError) as e:
            assert e.message.isprintable()  # noqa: PT017 - both ends are right
        else:
            assert header.format in get_args(Format)
            assert 0 <= (header.virtual_size or 0) <= 64 * TIB
            assert trusted or not (header.backing or header.data)
            assert allocated >= 0


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "a"


@given(beginning=st.sampled_from(BEGINNINGS), rest=st.binary(max_size=700), filled=st.sampled_from([0, 700, 70000]))
@example(beginning=b"# Disk DescriptorFile\n", rest=b'createType="\x1b[2J"\nRW 1 FLAT "\x1b[2J/"', filled=0)
def test_any_bytes_give_facts_or_a_refusal(anywhere: Path, beginning: bytes, rest: bytes, filled: int) -> None:
    facts_or_refusal(anywhere, (beginning + rest).ljust(filled, b"\0"))


@given(
    valid=st.sampled_from(VALID),
    flips=st.lists(st.tuples(st.integers(0, 127) | st.integers(0, 4095), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 5000),
)
def test_a_header_with_flipped_bytes_gives_facts_or_a_refusal(
    anywhere: Path, valid: bytes, flips: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(valid)
    for at, mask in flips:
        content[at % len(content)] ^= mask
    facts_or_refusal(anywhere, bytes(content[:cut]))

"""Images as qemu-img makes them, and what only qemu-img finds in those that were made to do harm."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clienthv import process
from clienthv.errors import DiskError, RefusedError
from clienthv.images import formats
from clienthv.lifecycle import files
from clienthv.model.profile import Profile
from clienthv.model.refusals import Refusal
from clienthv.model.vm import Options
from clienthv.process import images, running

pytestmark = pytest.mark.libvirt

MIB = 1 << 20
CLUSTER = 1 << 16


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL, timeout=60)


def made(path: Path, image_format: str = "qcow2", *options: str | Path, size: str = "64M") -> Path:
    qemu_img("create", "-q", "-f", image_format, *options, path, size)
    return path


def written(path: Path) -> Path:
    """A qcow2 image of 4 MiB that has something in each of its clusters."""
    raw = path.with_suffix(".content")
    raw.write_bytes(b"x" * 4 * MIB)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, path)
    return path


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def peek(path: Path, at: int) -> int:
    """The big-endian number of 8 bytes there, without the flags of a table's entry."""
    with path.open("rb") as file:
        file.seek(at)
        (word,) = struct.unpack(">Q", file.read(8))
    return int(word) & 0x00FFFFFFFFFFFE00


def children() -> set[str]:
    return {child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()}


def refused(path: Path, code: Refusal, **how: bool) -> RefusedError:
    with pytest.raises(RefusedError) as told:
        formats.look(path, **how)  # type: ignore[arg-type]
    assert told.value.refusal == code, told.value.message
    return told.value


@pytest.mark.parametrize(
    "options",
    [(), ("-o", "compat=0.10"), ("-o", "extended_l2=on"), ("-o", "cluster_size=512"), ("-o", "cluster_size=2M"),
     ("-o", "compression_type=zstd"), ("-o", "lazy_refcounts=on"), ("-o", "preallocation=metadata"),
     ("-o", "refcount_bits=64")],
)  # fmt: skip
def test_a_qcow2_image_of_any_making_is_accepted(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = made(tmp_path / "a.raw", "qcow2", *options)
    facts = formats.look(image)
    assert (facts.path, facts.format, facts.virtual_size) == (str(image), "qcow2", 64 * MIB)
    assert (facts.others, facts.snapshots) == ((), ())
    assert facts.allocated == image.stat().st_blocks * 512


def test_snapshots_are_told_and_their_names_are_only_names(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2")
    for name in ("before the update", 'a"}], "format": "raw', "ä\t"):
        qemu_img("snapshot", "-c", name, image)
    assert formats.look(image).snapshots == ("before the update", 'a"}], "format": "raw', "ä\t")


def test_an_image_that_was_shrunk_or_keeps_the_state_of_a_guest_is_accepted(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2", size="1T")
    qemu_img("resize", "-q", "--shrink", image, "1G")
    assert formats.look(image).virtual_size == 1 << 30


@pytest.mark.parametrize("size", ["64M", "63T"])
def test_the_largest_and_the_usual_size_are_accepted(tmp_path: Path, size: str) -> None:
    assert formats.look(made(tmp_path / "a.qcow2", "qcow2", "-o", "cluster_size=2M", size=size)).format == "qcow2"


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        ("raw", (), "raw"),
        ("vmdk", (), "vmdk"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
        ("vdi", (), "vdi"),
        ("vpc", (), "vhd"),
        ("vhdx", (), "vhdx"),
        ("qed", (), "qed"),
    ],
)
def test_other_formats_are_described_and_a_vm_is_not_run_from_them(
    tmp_path: Path, kind: str, options: tuple[str, ...], found: str
) -> None:
    image = made(tmp_path / "a.qcow2", kind, *options)
    facts = formats.look(image)
    assert facts.format == found
    assert facts.virtual_size is not None
    assert 64 * MIB <= facts.virtual_size < 65 * MIB, "VHD counts in cylinders"
    if found == "raw":
        return
    with pytest.raises(DiskError, match=f"is a {found} image; VMs are run from qcow2 or raw images") as told:
        files.resolve("desk", files.Wanted(disk=str(image)), Options(), Profile(name="desk"))
    assert told.value.hint is not None
    assert "qemu-img convert -O qcow2" in told.value.hint


def test_a_vm_keeps_the_format_of_its_raw_image_and_no_stranger_does(tmp_path: Path) -> None:
    image, secret = tmp_path / "a.raw", made(tmp_path / "secret.raw", "raw")
    made(image, "qcow2", "-b", secret, "-F", "raw")
    before = Options(disk=str(image), disk_format="raw")
    options, _ = files.resolve("desk", files.Wanted(), before, Profile(name="desk"))
    assert options.disk_format == "raw"
    with pytest.raises(RefusedError) as told:
        files.resolve("desk", files.Wanted(disk=str(image)), Options(), Profile(name="desk"))
    assert told.value.refusal == Refusal.BACKING_FILE


def test_others_are_refused_or_told_when_trusted(tmp_path: Path) -> None:
    base, middle, top = tmp_path / "base.raw", tmp_path / "middle.qcow2", tmp_path / "top.qcow2"
    made(base, "raw")
    made(middle, "qcow2", "-b", "base.raw", "-F", "raw")
    made(top, "qcow2", "-b", middle, "-F", "qcow2")
    assert "middle.qcow2" in refused(top, Refusal.BACKING_FILE).message
    facts = formats.look(top, trusted_chain=True)
    assert facts.others == (str(middle), str(base))
    base.unlink()
    assert formats.look(top, trusted_chain=True).others == (str(middle), str(base)), "nobody can look at one"


def test_a_data_file_is_refused_or_told_when_trusted(tmp_path: Path) -> None:
    data, image = tmp_path / "data.raw", tmp_path / "a.qcow2"
    made(image, "qcow2", "-o", f"data_file={data}")
    refused(image, Refusal.DATA_FILE)
    assert formats.look(image, trusted_chain=True).others == (str(data),)


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("vmdk", ("-o", "subformat=monolithicFlat"), Refusal.DATA_FILE),
        ("vmdk", ("-o", "subformat=twoGbMaxExtentSparse"), Refusal.DATA_FILE),
        ("luks", ("--object", "secret,id=s,data=x", "-o", "key-secret=s,iter-time=10"), Refusal.ENCRYPTED),
        ("qcow2", ("--object", "secret,id=s,data=x", "-o",
                   "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"), Refusal.ENCRYPTED),
    ],
)  # fmt: skip
def test_what_qemu_img_makes_itself_is_refused_as_its_header_is(
    tmp_path: Path, kind: str, options: tuple[str, ...], code: Refusal
) -> None:
    refused(made(tmp_path / "a.img", kind, *options), code)


def test_tables_that_contradict_each_other_are_corruption_and_leaked_clusters_are_not(tmp_path: Path) -> None:
    image = written(tmp_path / "a.qcow2")
    assert formats.look(image).virtual_size == 4 * MIB
    refcounts = peek(image, peek(image, 48))
    end = image.stat().st_size // CLUSTER
    poke(image, refcounts + 2 * (end + 3), b"\0\1")
    assert formats.look(image).format == "qcow2", "a cluster that belongs to nothing"
    poke(image, refcounts + 2 * 5, b"\0\0")
    assert "contradict each other" in refused(image, Refusal.CORRUPT).message
    assert formats.look(image, check=False).format == "qcow2"


def test_two_clusters_of_a_disk_in_one_of_the_file_are_corruption(tmp_path: Path) -> None:
    image = written(tmp_path / "a.qcow2")
    table = peek(image, peek(image, 40))
    with image.open("rb") as file:
        file.seek(table)
        first = file.read(8)
    poke(image, table + 8, first)
    refused(image, Refusal.CORRUPT)


def test_what_qemu_img_cannot_open_is_corrupt(tmp_path: Path) -> None:
    image = made(tmp_path / "a.vdi", "vdi")
    poke(image, 0x44, b"\xff\xff\xff\xff")
    assert "version" in refused(image, Refusal.CORRUPT).message


def test_an_image_that_takes_too_many_words_is_too_costly(tmp_path: Path) -> None:
    image, names = made(tmp_path / "a.qcow2"), 4000
    at = -(-image.stat().st_size // CLUSTER) * CLUSTER
    entry = struct.pack(">QIHHIIQII", 0, 0, 8, 1024, 0, 0, 0, 0, 16) + bytes(16)
    poke(image, at, b"".join(entry + f"{n:08}".encode() + b"\1" * 1024 for n in range(names)))
    poke(image, 60, struct.pack(">IQ", names, at))
    began, before = time.monotonic(), children()
    refused(image, Refusal.TOO_COSTLY)
    assert time.monotonic() - began < 20
    assert children() == before


def test_a_limit_that_is_hit_is_too_costly_in_info_and_unknown_in_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = written(tmp_path / "a.qcow2")
    monkeypatch.setattr(running, "_ADDRESS_SPACE", 1 << 20)
    assert "qemu-img" in refused(image, Refusal.TOO_COSTLY).message
    assert process.image_is_corrupt(image) is None
    monkeypatch.undo()
    monkeypatch.setattr(images, "_MOST_WORDS", 10)
    refused(image, Refusal.TOO_COSTLY)
    assert process.image_is_corrupt(image) is None


def test_looking_changes_nothing(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2", "qcow2", "-o", "lazy_refcounts=on")
    poke(image, 79, b"\1")  # not closed: QEMU would repair it, had it been asked to write
    os.utime(image, (1, 1))
    before = image.read_bytes()
    assert formats.look(image).format == "qcow2"
    assert image.read_bytes() == before
    assert image.stat().st_mtime == 1


def test_an_image_that_is_in_use_is_looked_at_and_not_checked(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2")
    user = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", "-c", "sleep 20000", str(image)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while f":{image.stat().st_ino} " not in Path("/proc/locks").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.image_is_corrupt(image) is None
        assert formats.look(image).format == "qcow2"
    finally:
        user.kill()
        user.communicate()
    assert process.image_is_corrupt(image) is False


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("images") / "flipped.qcow2")


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    flips=st.lists(
        st.tuples(st.sampled_from([0, 0, 1, 2, 3, 4]), st.integers(0, 127), st.integers(1, 255)), min_size=1, max_size=3
    )
)
def test_flipped_bytes_of_a_header_or_a_table_give_facts_or_a_refusal(
    flipped: Path, flips: list[tuple[int, int, int]]
) -> None:
    before = flipped.read_bytes()
    content = bytearray(before)
    for cluster, at, mask in flips:
        content[cluster * CLUSTER + at] ^= mask
    flipped.write_bytes(content)
    try:
        facts = formats.look(flipped)
    except (RefusedError, DiskError) as e:
        assert e.message.isprintable()  # noqa: PT017 - both ends are right
    else:
        assert facts.format in ("qcow2", "raw")
    finally:
        assert flipped.read_bytes() == content
        flipped.write_bytes(before)


def test_names_that_look_like_options_or_protocols_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-h", "nbd:x", 'json:{"driver":"null-co"}', "a,b=c", "file:x"):
        made(tmp_path / "plain.qcow2").rename(tmp_path / name)
        assert formats.look(Path(name)).path == str(tmp_path / name)


def test_a_look_takes_no_time(tmp_path: Path) -> None:
    image = made(tmp_path / "a.qcow2", size="1T")
    formats.look(image)
    took = []
    for _ in range(5):
        began = time.monotonic()
        formats.look(image, check=False)
        took.append(time.monotonic() - began)
    assert min(took) < 0.05

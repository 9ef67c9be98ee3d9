"""A bundle holds what was put into it, is written whole or not at all, and is taken apart whole or not at all."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from clienthv import bundles
from clienthv.bundles import DiskPart, Parts, extents
from clienthv.errors import DiskError
from clienthv.model import bundle
from clienthv.model.bundle import Role

MIB = 1 << 20
DEFINITION = b"<domain type='kvm'><name>desk</name></domain>\n"


def sparse(path: Path, length: int, *data: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(length)
        for at, text in data:
            file.seek(at)
            file.write(text)
    return path


def parts(*disks: DiskPart, **more: Any) -> Parts:
    return Parts(**{"vm": "desk", "definition": DEFINITION, "created_by": "clienthv 0.1.0", "disks": disks, **more})


def raw(path: Path) -> DiskPart:
    return DiskPart(path, "raw", path.stat().st_size)


def qcow2(path: Path) -> DiskPart:
    return DiskPart(path, "qcow2", 40 << 30)


def written(given: Parts) -> io.BytesIO:
    output = io.BytesIO()
    bundles.write(output, given)
    output.seek(0)
    return output


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture
def everything(tmp_path: Path) -> Parts:
    first = sparse(tmp_path / "a.raw", 24 * MIB + 700, (0, os.urandom(5000)), (9 * MIB, b"x" * 70_000))
    second = tmp_path / "b.qcow2"
    second.write_bytes(b"QFI\xfb" + os.urandom(MIB + 13))
    return parts(
        raw(first),
        qcow2(second),
        nvram=b"variables" * 1000,
        tpm={"tpm2-00.permall": b"state", "tpm2-00.volatilestate": b""},
        created="2026-02-03T04:05:06Z",
        source="workshop",
    )


def test_what_was_put_in_comes_out(everything: Parts, tmp_path: Path) -> None:
    reader = bundles.open_bundle(written(everything))
    reader.extract(tmp_path / "out")
    assert files(tmp_path / "out") == {
        "domain.xml": DEFINITION,
        "nvram.fd": everything.nvram,
        "tpm/tpm2-00.permall": b"state",
        "tpm/tpm2-00.volatilestate": b"",
        "disks/0.raw": everything.disks[0].path.read_bytes(),
        "disks/1.qcow2": everything.disks[1].path.read_bytes(),
    }


def test_the_head_tells_what_is_needed_to_decide_before_anything_is_written(everything: Parts, tmp_path: Path) -> None:
    before = files(tmp_path)
    reader = bundles.open_bundle(written(everything))
    told = reader.manifest
    assert (told.vm, told.created_by, told.created, told.source) == (
        "desk", "clienthv 0.1.0", "2026-02-03T04:05:06Z", "workshop",
    )  # fmt: skip
    assert reader.definition == DEFINITION
    disk = told.of(Role.DISK)[0].disk
    path = everything.disks[0].path
    assert disk == bundle.Disk(
        format="raw", virtual_size=path.stat().st_size, length=path.stat().st_size, allocated=allocated(path)
    )
    assert told.of(Role.DISK)[1].disk.virtual_size == 40 << 30  # type: ignore[union-attr]
    assert allocated(path) <= told.of(Role.DISK)[0].size + 4096 < MIB, "holes take no space"
    assert files(tmp_path) == before


def test_holes_stay_holes_and_zeros_become_some(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "a", 64 * MIB, (3 * MIB, b"data"), (40 * MIB, bytes(8 * MIB)))
    assert allocated(disk) >= 8 * MIB
    bundles.open_bundle(written(parts(raw(disk)))).extract(tmp_path / "out")
    copy = tmp_path / "out/disks/0.raw"
    assert copy.read_bytes() == disk.read_bytes()
    assert allocated(copy) <= 128 << 10


@pytest.mark.parametrize("length", [0, 1, 511, 512, 4096, MIB, 3 * MIB + 1])
@pytest.mark.parametrize("content", ["hole", "data"])
def test_a_disk_of_any_length_comes_out_as_it_was(length: int, content: str, tmp_path: Path) -> None:
    disk = sparse(tmp_path / "a", length, (0, os.urandom(length) if content == "data" else b""))
    bundles.open_bundle(written(parts(raw(disk)))).extract(tmp_path / "out")
    assert (tmp_path / "out/disks/0.raw").read_bytes() == disk.read_bytes()


def test_an_empty_nvram_is_not_none(tmp_path: Path) -> None:
    bundles.open_bundle(written(parts(nvram=b""))).extract(tmp_path / "with")
    bundles.open_bundle(written(parts())).extract(tmp_path / "without")
    assert files(tmp_path / "with") == {"domain.xml": DEFINITION, "nvram.fd": b""}
    assert files(tmp_path / "without") == {"domain.xml": DEFINITION}


def test_what_comes_out_is_for_its_owner_alone(everything: Parts, tmp_path: Path) -> None:
    bundles.open_bundle(written(everything)).extract(tmp_path / "out")
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE((tmp_path / "out" / n).stat().st_mode) for n in (".", "disks", "tpm")} == {0o700}


def test_the_same_parts_give_the_same_bytes(everything: Parts) -> None:
    assert written(everything).getvalue() == written(everything).getvalue()


def test_a_pipe_is_enough(everything: Parts, tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """Hands bytes on, a few at a time, and can do nothing else."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def readable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

        def read(self, size: int = -1) -> bytes:
            piece = bytes(self.data[: min(size, 777)])
            del self.data[: len(piece)]
            return piece

    pipe: Any = Pipe()
    bundles.write(pipe, everything)
    bundles.open_bundle(pipe).extract(tmp_path / "out")
    assert (tmp_path / "out/disks/0.raw").read_bytes() == everything.disks[0].path.read_bytes()


def test_a_bundle_is_a_tar_archive_that_others_can_list_and_read(everything: Parts) -> None:
    plain = zstandard.ZstdDecompressor().stream_reader(written(everything)).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == [
            "manifest.json", "domain.xml", "nvram.fd", "tpm/tpm2-00.permall", "tpm/tpm2-00.volatilestate",
            "disks/0.raw", "disks/1.qcow2", "checksums.json",
        ]  # fmt: skip
        for name, part in zip(("disks/0.raw", "disks/1.qcow2"), everything.disks, strict=True):
            file = archive.extractfile(name)
            assert file is not None
            assert file.read() == part.path.read_bytes()


def test_progress_goes_up_to_the_total_in_both_directions(everything: Parts, tmp_path: Path) -> None:
    wrote: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []
    output = io.BytesIO()
    manifest = bundles.write(output, everything, lambda *seen: wrote.append(seen))
    output.seek(0)
    bundles.open_bundle(output).extract(tmp_path / "out", lambda *seen: read.append(seen))
    for seen in (wrote, read):
        assert seen == sorted(seen)
        assert seen[-1] == (manifest.size, manifest.size)


def test_verify_reads_all_and_writes_nothing(everything: Parts, tmp_path: Path) -> None:
    before = files(tmp_path)
    assert bundles.verify(written(everything)).vm == "desk"
    assert files(tmp_path) == before


def test_a_large_disk_has_its_size_in_an_extended_header(tmp_path: Path) -> None:
    """A number of more than 8 GiB has no room in tar's own header; here the hole is most of it."""
    disk = sparse(tmp_path / "a", 20 << 30, (19 << 30, b"end"))
    output = written(parts(raw(disk)))
    assert len(output.getvalue()) < 10_000
    bundles.open_bundle(output).extract(tmp_path / "out")
    copy = tmp_path / "out/disks/0.raw"
    assert copy.stat().st_size == 20 << 30
    with copy.open("rb") as file:
        file.seek(19 << 30)
        assert file.read(4) == b"end\0"
    assert b" size=9000000000\n" in bundles.headers.header("disks/0.raw", 9_000_000_000, 9_000_000_000)


# --- the map of a disk


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 30)), max_size=8), st.integers(0, 4095))
def test_the_stretches_hold_all_data_and_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[int, int]], odd: int
) -> None:
    length = 16 * MIB + odd
    path = sparse(
        tmp_path_factory.mktemp("map") / "a", length, *((at * MIB, b"d" * (size * 40_000)) for at, size in data)
    )
    handle = os.open(path, os.O_RDONLY)
    try:
        found = extents.of_file(handle, length)
    finally:
        os.close(handle)
    text = extents.encode(found)
    reader = extents.MapReader("disks/0.raw")
    blocks = [text[at : at + 512] for at in range(0, len(text), 512)]
    assert [reader.feed(block) for block in blocks] == [True] * (len(blocks) - 1) + [False]
    assert reader.extents(length, sum(e.length for e in found)) == found
    content = path.read_bytes()
    for start, end in zip([0, *(e.end for e in found)], [*(e.offset for e in found), length], strict=True):
        assert not content[start:end].strip(b"\0")


def test_a_disk_in_many_pieces_has_a_map_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "MOST_EXTENTS", 8)
    path = sparse(tmp_path / "a", 96 * MIB, *((at * 3 * MIB, b"d") for at in range(30)))
    bundles.open_bundle(written(parts(raw(path)))).extract(tmp_path / "out")
    handle = os.open(path, os.O_RDONLY)
    try:
        found = extents.of_file(handle, 96 * MIB)
    finally:
        os.close(handle)
    assert 1 < len(found) <= 8
    assert (tmp_path / "out/disks/0.raw").read_bytes() == path.read_bytes()


# --- what cannot be written


@pytest.mark.parametrize("change", ["touched", "grown", "shrunk"])
def test_a_disk_that_changes_while_it_is_read_is_an_error(change: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(4 * MIB))

    def meddle(done: int, _: int) -> None:
        if MIB < done < 3 * MIB:
            with path.open("r+b") as file:
                if change == "shrunk":
                    file.truncate(MIB)
                else:
                    file.seek(0 if change == "touched" else 4 * MIB)
                    file.write(b"guest")

    with pytest.raises(DiskError, match="written to while it was read") as caught:
        bundles.write(io.BytesIO(), parts(raw(path)), meddle)
    assert "is the VM running" in (caught.value.hint or "")


def test_what_is_no_image_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(DiskError) as caught:
            bundles.write(io.BytesIO(), parts(DiskPart(path, "raw", 1)))
        assert str(path) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"vm": "../desk"},
        {"tpm": {"../../etc/passwd": b""}},
        {"tpm": {".lock": b""}},
        {"definition": bytes(5 * MIB)},
        {"created": "yesterday"},
        {"source": "a\x1b[31mb"},
    ],
)
def test_nothing_is_written_that_would_not_be_read(wrong: dict[str, Any]) -> None:
    output = io.BytesIO()
    with pytest.raises(DiskError, match="cannot be put into a bundle"):
        bundles.write(output, parts(**wrong))
    assert output.getvalue() == b""


# --- taking apart


def test_taking_apart_needs_a_new_folder(everything: Parts, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(DiskError):
        bundles.open_bundle(written(everything)).extract(tmp_path / "out")
    assert files(tmp_path / "out") == {"mine": b"mine"}


@pytest.mark.parametrize("at", [1, 2, 3, 5, 7])
def test_an_interrupt_leaves_nothing(at: int, everything: Parts, tmp_path: Path) -> None:
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            assert (tmp_path / "out").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundles.open_bundle(written(everything)).extract(tmp_path / "out", interrupt)
    assert not (tmp_path / "out").exists()


def test_a_stream_that_breaks_is_told_and_leaves_nothing(everything: Parts, tmp_path: Path) -> None:
    data = written(everything)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > MIB:
                raise OSError(5, "Input/output error")
            return super().read(size)

    reader = bundles.open_bundle(Broken(data.getvalue()))
    with pytest.raises(DiskError, match="Input/output error"):
        reader.extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_reads_as_it_was_written(everything: Parts) -> None:
    manifest = bundles.open_bundle(written(everything)).manifest
    text = bundle.encode(manifest)
    assert bundle.decode(text) == manifest
    assert msgspec.json.decode(text)["kind"] == "bundle"

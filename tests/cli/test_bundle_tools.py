"""A bundle without clienthv: other programs list it, take it apart with its holes, and make one that is taken."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clienthv import bundles
from clienthv.bundles import DiskPart, Parts

MIB = 1 << 20
NAMES = ["manifest.json", "domain.xml", "nvram.fd", "disks/0.raw", "disks/1.qcow2", "checksums.json"]


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Path, Path]:
    """A raw disk of 9 GiB with three stretches of data, and one without holes."""
    first, second = tmp_path / "a.raw", tmp_path / "b.qcow2"
    with first.open("wb") as file:
        for at in (0, 5 * MIB + 4096, 8 << 30):
            file.seek(at)
            file.write(os.urandom(100_000))
        file.truncate((9 << 30) + 512)
    second.write_bytes(os.urandom(MIB + 13))
    return first, second


@pytest.fixture
def bundle(disks: tuple[Path, Path], tmp_path: Path) -> Path:
    first, second = disks
    parts = Parts(
        vm="desk",
        definition=b"<domain/>",
        created_by="clienthv 0.1.0",
        disks=(DiskPart(first, "raw", first.stat().st_size), DiskPart(second, "qcow2", 40 << 30)),
        nvram=b"variables",
    )
    bundles.write_file(tmp_path / "desk.clienthv", parts)
    return tmp_path / "desk.clienthv"


def run(*words: str | Path, **more: Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120, **more).stdout  # type: ignore[call-overload, no-any-return]


def test_tar_lists_a_bundle(bundle: Path) -> None:
    assert run("tar", "--zstd", "-tf", bundle).split("\n")[:-1] == NAMES
    long = run("tar", "--zstd", "-tvf", bundle)
    assert f" {(9 << 30) + 512} " in long, "the size of the disk, not of its data"


def test_zstd_finds_it_whole(bundle: Path) -> None:
    run("zstd", "--test", bundle)


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same, without reading what is a hole in both."""
    with one.open("rb") as left, other.open("rb") as right:
        for handle in (left.fileno(), right.fileno()):
            at = 0
            while at < one.stat().st_size:
                try:
                    at = os.lseek(handle, at, os.SEEK_DATA)
                except OSError:  # man 2 lseek, ENXIO: nothing but a hole follows
                    break
                end = os.lseek(handle, at, os.SEEK_HOLE)
                if os.pread(left.fileno(), end - at, at) != os.pread(right.fileno(), end - at, at):
                    return False
                at = end
    return one.stat().st_size == other.stat().st_size


TARS = [program for program in ("tar", "bsdtar") if shutil.which(program)]


@pytest.mark.parametrize("tar", TARS)
def test_tar_takes_a_bundle_apart_with_its_holes(
    tar: str, bundle: Path, disks: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    run(tar, "--zstd", "-xf", bundle, cwd=tmp_path / "out")
    assert same(disks[0], tmp_path / "out/disks/0.raw")
    assert same(disks[1], tmp_path / "out/disks/1.qcow2")
    assert (tmp_path / "out/disks/0.raw").stat().st_blocks * 512 < 4 * MIB
    sums = json.loads((tmp_path / "out/checksums.json").read_text())["sha256"]
    for name in ("manifest.json", "domain.xml", "nvram.fd"):
        assert sums[name] == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()


def test_a_bundle_that_tar_made_is_taken(tmp_path: Path) -> None:
    """Without disks: GNU tar chooses the stretches of a sparse file itself, and a manifest must have them first."""
    made = tmp_path / "made"
    made.mkdir()
    definition, variables = b"<domain/>", b"variables"
    manifest = {
        "schema": 1, "kind": "bundle", "vm": "desk", "created_by": "tar",
        "members": [
            {"role": "definition", "name": "domain.xml", "size": len(definition)},
            {"role": "nvram", "name": "nvram.fd", "size": len(variables)},
        ],
    }  # fmt: skip
    contents = {"manifest.json": json.dumps(manifest).encode(), "domain.xml": definition, "nvram.fd": variables}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for name, data in (contents | {"checksums.json": json.dumps({"sha256": sums}).encode()}).items():
        (made / name).write_bytes(data)
    file = tmp_path / "desk.clienthv"
    run("tar", "--format=ustar", "--zstd", "-cf", file, *contents, "checksums.json", cwd=made)
    bundles.open_bundle(io.BytesIO(file.read_bytes())).extract(tmp_path / "out")
    assert (tmp_path / "out/nvram.fd").read_bytes() == variables

"""A bundle's file has its name when it is whole, and never in place of something else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from clienthv import bundles
from clienthv.bundles import DiskPart, Parts
from clienthv.errors import DiskError

MIB = 1 << 20


@pytest.fixture
def everything(tmp_path: Path) -> Parts:
    disk = tmp_path / "a.qcow2"
    disk.write_bytes(b"QFI\xfb" + os.urandom(3 * MIB))
    return Parts("desk", b"<domain/>", "clienthv 0.1.0", (DiskPart(disk, "qcow2", 40 << 30),), nvram=b"vars")


def test_a_file_is_whole_and_alone(everything: Parts, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    bundles.write_file(folder / "desk.clienthv", everything)
    assert os.listdir(folder) == ["desk.clienthv"]  # noqa: PTH208
    with (folder / "desk.clienthv").open("rb") as file:
        assert bundles.verify(file).vm == "desk"


def test_a_file_that_is_there_is_not_overwritten(everything: Parts, tmp_path: Path) -> None:
    path = tmp_path / "desk.clienthv"
    path.write_bytes(b"precious")
    with pytest.raises(DiskError, match="exists already"):
        bundles.write_file(path, everything)
    path.unlink()

    def appear(done: int, total: int) -> None:
        path.write_bytes(b"precious")

    with pytest.raises(DiskError, match="exists already"):
        bundles.write_file(path, everything, appear)
    assert path.read_bytes() == b"precious"
    assert not path.with_name("desk.clienthv.part").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, DiskError("meanwhile"), OSError(28, "No space left on device")])
def test_a_write_that_fails_leaves_nothing(error: Any, everything: Parts, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()

    def fail(done: int, total: int) -> None:
        assert (folder / "desk.clienthv.part").exists()
        if done > MIB:
            raise error

    with pytest.raises(
        DiskError if isinstance(error, OSError) else type(error) if isinstance(error, DiskError) else error
    ):
        bundles.write_file(folder / "desk.clienthv", everything, fail)
    assert list(folder.iterdir()) == []


def test_what_a_killed_export_left_is_used_again_but_not_what_another_writes(everything: Parts, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    part = folder / "desk.clienthv.part"
    part.write_bytes(bytes(99 * MIB))
    with part.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DiskError, match="another export"):
            bundles.write_file(folder / "desk.clienthv", everything)
    assert part.stat().st_size == 99 * MIB
    bundles.write_file(folder / "desk.clienthv", everything)
    with (folder / "desk.clienthv").open("rb") as file:
        bundles.verify(file)
    assert not part.exists()


def test_a_link_in_place_of_the_part_is_not_followed(everything: Parts, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part = tmp_path / "desk.clienthv.part"
    part.symlink_to(victim)
    with pytest.raises(DiskError):
        bundles.write_file(tmp_path / "desk.clienthv", everything)
    part.unlink()
    part.hardlink_to(victim)
    with pytest.raises(DiskError, match="not a plain file"):
        bundles.write_file(tmp_path / "desk.clienthv", everything)
    assert victim.read_bytes() == b"precious"


def test_a_folder_that_is_not_there_is_told(everything: Parts, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot write the bundle") as caught:
        bundles.write_file(tmp_path / "none/desk.clienthv", everything)
    assert caught.value.hint

"""Moving a guest is taken back by an interrupt, whenever it comes; a bundle between two connections lies nowhere."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clienthv import bundles
from clienthv.bundles import DiskPart, Parts
from clienthv.errors import DiskError, UsageError
from clienthv.hypervisor import Choice, moving
from clienthv.lifecycle import migrating


class RefusedByLibvirtError(Exception):
    """Stands for libvirtError."""


class Handle:
    """A guest whose move ends when it is aborted, which libvirt refuses at first: there is no job yet."""

    def __init__(self, refusals: int, remaining: int | None = None) -> None:
        self.refusals, self.aborted, self.remaining = refusals, threading.Event(), remaining

    def name(self) -> str:
        return "desk"

    def migrate3(self, *_: Any) -> Any:
        if not self.aborted.wait(30):
            raise AssertionError("it was never aborted")
        raise ValueError("aborted")

    def abortJob(self) -> None:  # noqa: N802 - libvirt's name
        if self.refusals:
            self.refusals -= 1
            raise RefusedByLibvirtError
        self.aborted.set()

    def jobStats(self) -> dict[str, int]:  # noqa: N802 - libvirt's name
        return {"data_total": 10, "data_remaining": 5}


@pytest.fixture(autouse=True)
def libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("LIVE", "PERSIST_DEST", "UNDEFINE_SOURCE", "ABORT_ON_ERROR", "AUTO_CONVERGE", "UNSAFE")
    names = {f"VIR_MIGRATE_{flag}": 1 << bit for bit, flag in enumerate(flags)}
    texts = {f"VIR_MIGRATE_PARAM_{name}": name for name in ("DEST_XML", "PERSIST_XML", "URI")}
    made = SimpleNamespace(libvirtError=RefusedByLibvirtError, **names, **texts)
    monkeypatch.setattr(moving, "libvirt", lambda: made)
    monkeypatch.setattr(moving, "_LOOK_EVERY", 0.01)


@pytest.mark.parametrize("refusals", [0, 3])
@pytest.mark.parametrize("disturbance", [KeyboardInterrupt(), SystemExit(143), BrokenPipeError()])
def test_a_move_that_is_disturbed_is_taken_back_before_that_is_told(disturbance: BaseException, refusals: int) -> None:
    handle = Handle(refusals)

    def told(*_: int) -> None:
        raise disturbance

    domain: Any = SimpleNamespace(handle=handle, name="desk")
    destination: Any = SimpleNamespace(handle=None, uri="qemu:///other")
    with pytest.raises(type(disturbance)):
        moving.move(domain, destination, moving.Way("<domain/>", "<domain/>"), told)
    assert handle.aborted.is_set()


def parts(image: Path) -> Parts:
    disk = DiskPart(image, "raw", image.stat().st_size)
    return Parts(vm="desk", definition=b"<domain/>", created_by="x", disks=(disk,))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "desk.img"
    path.write_bytes(bytes(range(256)) * (1 << 13))
    return path


def test_a_bundle_in_a_pipe_arrives_whole(image: Path, tmp_path: Path) -> None:
    with migrating._piped(parts(image)) as stream:
        bundles.open_bundle(stream).extract(tmp_path / "there")
    assert (tmp_path / "there/disks/0.raw").read_bytes() == image.read_bytes()


def test_whoever_stops_reading_ends_the_writing_and_is_heard(image: Path) -> None:
    before = threading.active_count()
    with pytest.raises(DiskError, match="no room"), migrating._piped(parts(image)):
        raise DiskError("no room")
    with pytest.raises(KeyboardInterrupt), migrating._piped(parts(image)):
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_what_goes_wrong_in_writing_is_told_rather_than_that_it_was_cut_short(image: Path, tmp_path: Path) -> None:
    given = parts(image)
    image.unlink()
    with pytest.raises(DiskError, match="cannot read disk image"), migrating._piped(given) as stream:
        bundles.open_bundle(stream)


@pytest.mark.parametrize(
    ("uri", "destination"),
    [
        ("qemu+ssh://root@other/system", "root@other"),
        ("qemu+ssh://other:2222/system", "ssh://other:2222"),
        ("qemu+ssh://root@other:2222/system", "ssh://root@other:2222"),
        ("qemu+ssh://root@[fe80::1]:2222/system", "ssh://root@[fe80::1]:2222"),
    ],
)
def test_the_port_of_a_uri_is_sshs_too(uri: str, destination: str) -> None:
    assert migrating._destination(Choice(uri, "")) == destination


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="port"):
        migrating._destination(Choice("qemu+ssh://other:99999/system", ""))

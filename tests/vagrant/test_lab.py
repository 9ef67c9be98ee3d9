"""The lab's own faults: each ends with a clear word and leaves nothing behind. No PC is needed for these."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import folder
import lab
import pytest

SCRIPT = Path(lab.__file__)


def run(base: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "LAB_DIR": str(base), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("lab: ")
    for word in words:
        assert word in done.stderr


def test_an_unknown_variant_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    refused(run(tmp_path / "lab", "up", "no-such"), "no-such", *lab.VARIANTS)


@pytest.mark.parametrize("arguments", [("fly",), ("down", "now"), ("up", "full", "twice")])
def test_a_wrong_command_is_answered_with_the_right_ones(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused(run(tmp_path / "lab", *arguments), "usage: lab.py up [VARIANT] | down")


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(run(tmp_path / "lab", "up", LAB_SSH_PORT=port), port, "LAB_SSH_PORT")


@pytest.mark.parametrize("port", ["ssh", "-1", "70000", ""])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    refused(run(tmp_path / "lab", "up", LAB_SSH_PORT=port), "LAB_SSH_PORT", "is not a port")


def test_a_second_lab_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "lab"
    assert run(base, "down").returncode == 0
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("make lab-test (process 1)")
        lock.flush()
        for command in ("up", "down", "clean"):
            refused(run(base, command), "in use", "make lab-test (process 1)", "LAB_DIR")


def test_a_folder_that_somebody_else_could_swap_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lab").symlink_to(tmp_path / "elsewhere")
    refused(run(tmp_path / "lab", "down"), "belongs to another user", "LAB_DIR")


def test_down_takes_away_what_was_left_half_built(tmp_path: Path) -> None:
    base = tmp_path / "lab"
    for half in ("boxes/building-1/root", "wheel-1", "pc/pool", "run/libvirt"):
        (base / half).mkdir(parents=True)
    (base / "boxes/kept").mkdir()
    assert run(base, "down").returncode == 0
    assert {p.name for p in base.iterdir()} == {"boxes", "lock"}
    assert [p.name for p in (base / "boxes").iterdir()] == ["kept"]
    assert run(base, "down").returncode == 0


def test_clean_leaves_nothing(tmp_path: Path) -> None:
    base = tmp_path / "lab"
    (base / "boxes/kept").mkdir(parents=True)
    assert run(base, "clean").returncode == 0
    assert not base.exists()


def test_down_ends_what_runs_in_the_lab_and_nothing_else(tmp_path: Path) -> None:
    base = tmp_path / "lab"
    ours = subprocess.Popen(["sleep", "600"], env={**os.environ, "XDG_RUNTIME_DIR": str(base / "run")})
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "XDG_RUNTIME_DIR": str(base / "runner")})
    try:
        assert run(base, "down").returncode == 0
        assert ours.wait(timeout=10) == -9
        assert other.poll() is None
    finally:
        ours.kill()
        other.kill()
        other.wait()


def test_without_a_pc_ssh_says_how_to_get_one(tmp_path: Path) -> None:
    refused(run(tmp_path / "lab", "ssh"), "the PC is not up", "make lab")


def test_a_disk_without_room_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BASE", tmp_path)
    with pytest.raises(folder.LabError, match=r"MiB free and 4398046511104 MiB are needed"):
        folder.check_space(1 << 62)
    folder.check_space(1)


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "PROGRAMS", {"no-such-program": "its-package", "sh": "dash"})
    with pytest.raises(folder.LabError, match="packages are missing: its-package;"):
        lab.check_programs()

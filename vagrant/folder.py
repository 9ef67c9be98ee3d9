"""The lab's folder: who owns it, who may use it, and who runs what in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).resolve().parent.parent
BASE = Path(os.environ.get("LAB_DIR") or f"/var/tmp/clienthv-lab-{os.getuid()}")  # noqa: S108 - ours alone, checked
BOXES, PC, HOME, RUN = BASE / "boxes", BASE / "pc", BASE / "home", BASE / "run"
NOBODY = 65534
BASE_MODE = 0o711  # the account without rights passes through


class LabError(Exception):
    """What went wrong and what to do about it, for a person."""


def say(words: str) -> None:
    """Tell the person at the terminal."""
    print(f"lab: {words}", flush=True)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Say how long a part took, in seconds, also when it fails."""
    began = time.monotonic()
    try:
        yield
    finally:
        say(f"{name}: {time.monotonic() - began:.0f} s")


def prepare() -> None:
    """Make the lab's folder. Raises LabError where a stranger made it first."""
    with suppress(FileExistsError):
        BASE.mkdir(mode=BASE_MODE, parents=True)
    found = BASE.lstat()
    if found.st_uid != os.getuid() or not BASE.is_dir() or BASE.is_symlink():
        msg = f"{BASE} belongs to another user; remove it, or choose another folder: LAB_DIR=FOLDER"
        raise LabError(msg)
    BASE.chmod(BASE_MODE)


@contextmanager
def locked(what: str) -> Iterator[None]:
    """Hold the lab for one user of it. Raises LabError while another holds it."""
    prepare()
    with (BASE / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            msg = f"the lab is in use: {lock.read().strip()}; wait until it ends, or take another: LAB_DIR=FOLDER"
            raise LabError(msg) from None
        lock.truncate(0)
        lock.write(f"{what} (process {os.getpid()}, {REPOSITORY})\n")
        lock.flush()
        for half in (*BASE.glob("wheel-*"), *BOXES.glob("building-*")):  # of a lab that was killed
            shutil.rmtree(half, ignore_errors=True)
        yield
        lock.truncate(0)


def account() -> dict[str, Any]:
    """Who runs Vagrant, libvirt and QEMU: the user, or for root an account without rights (subprocess arguments)."""
    if os.getuid() != 0:
        return {}
    groups = []
    with suppress(FileNotFoundError):
        groups = [Path("/dev/kvm").stat().st_gid]
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [g for g in groups if g != 0]}


def give(*paths: Path) -> None:
    """Let the account own these."""
    if os.getuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def own_folder(path: Path) -> None:
    """Make a folder of the account's."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    give(path)


def environment(**more: str) -> dict[str, str]:
    """Everything of the lab's own: a home, a libvirt session, a Vagrant home."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(HOME),
        "XDG_RUNTIME_DIR": str(RUN),
        "XDG_CONFIG_HOME": str(HOME / "config"),
        "XDG_CACHE_HOME": str(HOME / "cache"),
        "XDG_DATA_HOME": str(HOME / "data"),
        "VAGRANT_HOME": str(HOME / "vagrant"),
        "VAGRANT_CWD": str(PC),
        **more,
    }


def run(*command: str, log: IO[bytes] | None = None, seconds: float = 120, **more: str) -> int:
    """Run a program as the lab's account; its exit code. Output goes to the log, or nowhere."""
    out = log if log is not None else subprocess.DEVNULL
    process = subprocess.Popen(
        command, env=environment(**more), cwd=PC if PC.exists() else BASE, stdin=subprocess.DEVNULL,
        stdout=out, stderr=subprocess.STDOUT if log is not None else out, start_new_session=True, **account(),
    )  # fmt: skip
    try:
        return process.wait(timeout=seconds)
    except BaseException:  # interrupted or out of time: Vagrant's children end with it
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def check_space(bytes_needed: int) -> None:
    """Raise LabError when the disk cannot hold what comes next (bytes)."""
    free = shutil.disk_usage(BASE).free
    if free < bytes_needed:
        msg = (
            f"{BASE} has {free >> 20} MiB free and {bytes_needed >> 20} MiB are needed; "
            "make room, or choose another folder: LAB_DIR=FOLDER"
        )
        raise LabError(msg)


def tail(path: Path, what: str, lines: int = 15) -> str:
    """What failed, with the end of its log, without the noise."""
    text = path.read_text(errors="replace").replace("\r", "").splitlines() if path.exists() else []
    noise = ("\tfrom ", "==> pc:  ")  # Ruby's stack, and Vagrant's list of settings
    text = [line for line in text if line.strip() and not line.startswith(noise)]
    return "\n".join([f"{what}; the end of {path}:", *(f"  {line}" for line in text[-lines:])])

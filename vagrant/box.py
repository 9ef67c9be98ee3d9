"""The lab PC's box: made from Debian packages, kept by a digest of what it is made from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from folder import BASE, BOXES, LabError, check_space, give, phase, say, tail

HERE = Path(__file__).resolve().parent
KEY = BASE / "key"
NEEDS = 5 << 30
"""Bytes of disk that building takes."""


def digest(*files: Path) -> str:
    """A short name for what files hold."""
    sums = [hashlib.sha256(f.read_bytes()).hexdigest() + f.name for f in sorted(files)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:12]


def build() -> Path:
    """The folder of the built box; builds it where no box of the same inputs is there. Raises LabError."""
    if not KEY.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "clienthv-lab", "-f", KEY], check=True)
        give(KEY)  # Vagrant reads it, and so does root
    public = KEY.with_suffix(".pub")
    built = BOXES / digest(public, *(p for p in (HERE / "box").rglob("*") if p.is_file()))
    if built.exists():
        return built
    check_space(NEEDS)
    BOXES.mkdir(exist_ok=True)
    for old in BOXES.iterdir():  # of other inputs, or left half built
        shutil.rmtree(old)
    new = Path(tempfile.mkdtemp(prefix="building-", dir=BOXES))
    new.chmod(0o1777 if os.getuid() != 0 else 0o755)  # a user namespace writes with ids of its own
    try:
        say("building the box from Debian packages (about two minutes)")
        with phase("box"), (BASE / "box.log").open("wb") as log:
            done = subprocess.run([HERE / "box/build", new, public], stdout=log, stderr=log, check=False)
        if done.returncode != 0:
            raise LabError(tail(BASE / "box.log", "the box could not be built"))
        for line in (BASE / "box.log").read_text(errors="replace").splitlines():
            if line.startswith("box: "):
                say(line)
        _pack(new)
        new.chmod(0o755)
        new.rename(built)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return built


def _pack(folder: Path) -> None:
    """A Vagrant box of the libvirt provider: a tar of metadata.json and box.img."""
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": 4}
    (folder / "metadata.json").write_text(json.dumps(about))
    with tarfile.open(folder / "lab.box", "w") as tar:
        for name in ("metadata.json", "box.img"):
            tar.add(folder / name, arcname=name)
    (folder / "box.img").unlink()

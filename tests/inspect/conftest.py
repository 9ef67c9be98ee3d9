from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clienthv.model.host import Host, decode

HERE = Path(__file__).parent


@functools.cache
def _replayed(name: str) -> Host:
    command = ["umockdev-wrapper", sys.executable, str(HERE / "replay.py"), str(HERE / "pcs" / f"{name}.toml")]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return decode(done.stdout, name)


@pytest.fixture
def replayed() -> Callable[[str], Host]:
    """A described PC, read as if live; each is read once in a run."""
    if shutil.which("umockdev-wrapper") is None:
        pytest.skip("needs the packages umockdev, gir1.2-umockdev-1.0 and python3-gi")
    return _replayed


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], str]:
    """A tree of files for read(root=...), given as path and text."""

    def make(files: dict[str, str]) -> str:
        for name, text in files.items():
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return str(tmp_path)

    return make


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may read everything, so it steps down for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)

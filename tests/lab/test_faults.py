"""What goes wrong with the real tools ends with their words, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import folder
import lab
import pytest

pytestmark = pytest.mark.lab


@pytest.mark.long
@pytest.mark.usefixtures("_the_lab")
def test_a_vagrant_up_that_fails_is_explained_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_DRIVER", "no-such-driver")
    with pytest.raises(folder.LabError, match="vagrant up failed") as failed:
        lab.up("full")
    assert "no-such-driver" in str(failed.value) or "domain type" in str(failed.value)
    assert not folder.PC.exists()
    assert not [p for p in Path("/proc").iterdir() if p.name.isdigit() and str(folder.RUN) in variables(p)]


def variables(process: Path) -> str:
    """The environment of a process, "" when it has ended."""
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_box_that_cannot_be_built_is_explained_and_taken_away(tmp_path: Path) -> None:
    base = tmp_path / "lab"
    done = subprocess.run(
        [sys.executable, lab.__file__, "up"],
        env={**os.environ, "LAB_DIR": str(base), "LAB_MIRROR": "http://127.0.0.1:9/debian"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "the box could not be built" in done.stderr
    assert "127.0.0.1" in done.stderr
    assert list((base / "boxes").iterdir()) == []

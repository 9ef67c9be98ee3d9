"""The wheel carries all it needs: built, installed into an empty environment, and used from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PC = REPOSITORY / "tests" / "hosts" / "desk-x570-3rdgen-rx580-gt710-b.json"


@pytest.mark.libvirt
def test_the_installed_wheel_renders_from_an_unrelated_folder(tmp_path: Path) -> None:
    dist, elsewhere = tmp_path / "dist", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(run, check=True, capture_output=True, cwd=REPOSITORY)
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "clienthv/data/templates/domain.xml.j2" in names
    assert "clienthv/data/profiles/balanced.toml" in names
    assert "clienthv/report/pages/page.html.j2" in names
    assert not [n for n in names if n.startswith("tests/")]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, cwd=elsewhere)
    script = tmp_path / "venv" / "bin" / "clienthv"
    shown = subprocess.run(
        [str(script), "render", "performance", "--host", str(PC)],
        check=True,
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin", "HOME": str(elsewhere)},
    )
    assert '<domain type="kvm">' in shown.stdout

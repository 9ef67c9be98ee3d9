"""The Debian package asks for what pyproject.toml asks for, and takes along what there is."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from clienthv.cli.shells import SCRIPTS

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEBIAN = REPOSITORY / "packaging" / "debian"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def needs() -> dict[str, str]:
    """What the package depends on, with the lowest versions."""
    depends = re.search(r"^Depends: (.*?)(?=^\S)", (DEBIAN / "control").read_text(), re.MULTILINE | re.DOTALL)
    assert depends is not None
    return dict(re.findall(r"([a-z0-9.+-]+)(?: \(>= ([0-9.]+)\))?,?\s", depends[1]))


def test_every_python_package_is_asked_for_in_the_same_version() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["libvirt"]]
    asked = dict(re.fullmatch(r"([a-zA-Z0-9.-]+)(?:\[.*\])?>=([0-9.]+)", one).groups() for one in wanted)  # type: ignore[union-attr]
    asked["libvirt"] = asked.pop("libvirt-python")
    found = {name.removeprefix("python3-"): version for name, version in needs().items() if name.startswith("python3-")}
    assert found == asked


def test_it_takes_completion_for_each_shell_and_the_units_and_enables_nothing() -> None:
    installed = (DEBIAN / "clienthv.install").read_text()
    build = (REPOSITORY / "scripts" / "deb").read_text()
    for shell in SCRIPTS:
        (name,) = re.findall(rf"\b{shell}:(\S+?)[; ]", build)
        assert re.search(rf"^completion/{re.escape(name)} usr/share/{shell}", installed, re.MULTILINE)
    assert "docs/systemd/* usr/lib/systemd/system" in installed
    scripts = "".join(path.read_text() for path in [DEBIAN / "rules", *DEBIAN.glob("clienthv.p*")])
    assert not re.search(r"(helper|invoke|systemctl) (enable|unmask|start)", scripts)
    # debhelper's own would: it enables and starts what is in usr/lib/systemd (dh_installsystemd(1), 13.14).
    assert re.search(r"^override_dh_installsystemd:\n(?!\t)", (DEBIAN / "rules").read_text(), re.MULTILINE)
    for unit in sorted((REPOSITORY / "docs" / "systemd").iterdir()):
        assert "/usr/local" not in unit.read_text()


def test_what_is_run_can_be_run() -> None:
    for path in (DEBIAN / "rules", REPOSITORY / "scripts" / "deb", REPOSITORY / "scripts" / "deb-smoke"):
        assert os.access(path, os.X_OK)

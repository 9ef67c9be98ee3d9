"""The lab PC's own documents are what the unit tier plans for; here they are compared with the living PC."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lab
import pytest

if TYPE_CHECKING:
    from conftest import Pc

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
pytestmark = [pytest.mark.lab, pytest.mark.parametrize("pc", lab.VARIANTS, indirect=True, scope="session")]


def lasting(document: bytes) -> dict[str, Any]:
    """What stays the same from one start, and from one of Debian's updates, to the next."""
    host: dict[str, Any] = json.loads(document)
    del host["memory"], host["stack"], host["kernel"]["release"], host["source"], host["name"]
    if json.loads(lab.STATE.read_text())["driver"] == "kvm":  # recorded in emulation: this processor is another
        del host["cpu"], host["kvm"]
    for role in host["roles"]:  # the kernel numbers input devices as it finds them
        role["evidence"] = sorted({re.sub(r"\d+", "N", line) for line in role["evidence"]})
    return host


def test_the_recording_is_the_pc(pc: Pc, golden: Callable[[Path, bytes], None], request: pytest.FixtureRequest) -> None:
    path = HOSTS / f"lab-{pc.variant}.json"
    # What was handed over before this test loaded it, or nothing did: without it the document has an unknown more.
    pc.ok("modprobe vfio_iommu_type1 && rm -f /root/lab.json && clienthv inspect --save /root/lab.json")
    live = pc.ok("cat /root/lab.json").encode()
    if request.config.getoption("--regen"):
        golden(path, json.dumps(json.loads(live) | {"name": path.stem}, indent=1, ensure_ascii=False).encode() + b"\n")
    assert path.is_file(), f"{path.name} is missing: TESTS='tests/lab/test_recordings.py --regen'"
    recorded = lasting(path.read_bytes())
    # A recording from before a part of the document was read lacks that part.
    assert {key: value for key, value in lasting(live).items() if key in recorded} == recorded

"""What doctor says of the lab PC and its variants is what the documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest

from clienthv import api
from clienthv.cli.text import visible
from clienthv.model import advice, schemas
from clienthv.model import host as host_model
from clienthv.report import doctor as report

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOSTS = REPOSITORY / "tests" / "hosts"
PAGE = REPOSITORY / "docs" / "reference" / "lab-doctor.md"
PROFILES = ("balanced", "performance", "windows-11", "windows-gaming")
VARIANTS = {
    "full": "nothing is missing but software",
    "no-iommu": "the hardware has no IOMMU",
    "iommu-off": "the kernel was told not to use the IOMMU",
    "no-intremap": "the IOMMU does not remap interrupts",
    "no-svm": "the processor does not show AMD-V",
}


def recorded(name: str) -> host_model.Host:
    return host_model.decode((HOSTS / f"{name}.json").read_bytes(), name)


def page() -> str:
    parts = [
        "# What doctor says of the lab PC\n\nWritten by `make golden`, and compared by a test. [The lab "
        "PC](../explanation/lab.md) is itself a VM with Debian 13;\n[doctor's words](doctor.md) are explained code by "
        "code.\n"
    ]
    for variant, what in VARIANTS.items():
        name = f"lab-{variant}"
        command = f"$ clienthv doctor {' '.join(PROFILES)} --host tests/hosts/{name}.json"
        lines = "\n".join(visible(line) for line in report.lines(api.doctor(recorded(name), PROFILES)))
        parts.append(f"## {variant}: {what}\n\n```console\n{command}\n{lines}\n```\n")
    return "\n".join(parts)


def test_the_documentation_shows_what_doctor_says_of_the_lab_pc(golden: Callable[[Path, bytes], None]) -> None:
    golden(PAGE, page().encode())


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda p: p.stem)
def test_a_diagnosis_follows_the_published_schema(path: Path) -> None:
    found = api.doctor(recorded(path.stem), ("performance",))
    jsonschema.validate(msgspec.json.decode(advice.encode(found)), schemas.schema("doctor"))

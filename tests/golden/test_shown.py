"""What a person is shown of a recorded PC is what was looked at and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import jsonschema
import msgspec
import pytest

from clienthv import api
from clienthv.cli.text import visible
from clienthv.model import explanation, schemas
from clienthv.model.host import Host, decode
from clienthv.model.plan import Kind
from clienthv.report import explanations, topology

HERE = Path(__file__).resolve().parent
HOSTS = HERE.parent / "hosts"
TREES = ("lab-full", "fa-laptop-fw13-13thgen", "partial-i350-8vf")

STORIES = (("lab-full", "nic"), ("lab-full", "disk"), ("desk-x570-3rdgen-rx580-gt710-b", "gpu"))

Golden = Callable[[Path, bytes], None]


def recorded(name: str) -> Host:
    return decode((HOSTS / f"{name}.json").read_bytes(), name)


def text(lines: Iterable[str]) -> bytes:
    return "".join(f"{visible(line)}\n" for line in lines).encode()


@pytest.mark.parametrize("name", TREES)
def test_the_tree_of_a_recorded_pc_is_the_one_that_was_looked_at(name: str, golden: Golden) -> None:
    golden(HERE / "tree" / f"{name}.txt", text(topology.lines(recorded(name))))


@pytest.mark.parametrize(("name", "kind"), STORIES)
def test_the_story_of_a_device_is_the_one_that_was_looked_at(name: str, kind: str, golden: Golden) -> None:
    told = api.explain(recorded(name), api.load_profile("performance"), kind)
    golden(HERE / "explain" / f"{name}.{kind}.txt", text(explanations.lines(told)))


@pytest.mark.parametrize("name", ["lab-full", "lab-no-iommu", "is-adl-n-7vfs-i915"])
def test_the_document_follows_the_published_schema(name: str) -> None:
    host, profile, schema = recorded(name), api.load_profile("performance"), schemas.schema("explanation")
    for kind in Kind:
        if kind is not Kind.USB_DEVICE:
            document = explanation.encode(api.explain(host, profile, kind))
            jsonschema.validate(msgspec.json.decode(document), schema)
            assert msgspec.json.encode(msgspec.json.decode(document, type=explanation.Explanation))


def test_no_file_is_left_over() -> None:
    assert {p.name for p in (HERE / "tree").iterdir()} == {f"{name}.txt" for name in TREES}
    assert {p.name for p in (HERE / "explain").iterdir()} == {f"{name}.{kind}.txt" for name, kind in STORIES}

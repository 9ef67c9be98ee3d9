"""What a person is shown of a recorded PC is what was looked at and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from clienthv.cli.text import visible
from clienthv.model.host import Host, decode
from clienthv.report import topology

HERE = Path(__file__).resolve().parent
HOSTS = HERE.parent / "hosts"
TREES = ("lab-full", "fa-laptop-fw13-13thgen", "partial-i350-8vf")

Golden = Callable[[Path, bytes], None]


def recorded(name: str) -> Host:
    return decode((HOSTS / f"{name}.json").read_bytes(), name)


def text(lines: Iterable[str]) -> bytes:
    return "".join(f"{visible(line)}\n" for line in lines).encode()


@pytest.mark.parametrize("name", TREES)
def test_the_tree_of_a_recorded_pc_is_the_one_that_was_looked_at(name: str, golden: Golden) -> None:
    golden(HERE / "tree" / f"{name}.txt", text(topology.lines(recorded(name))))


def test_no_file_is_left_over() -> None:
    assert {p.name for p in (HERE / "tree").iterdir()} == {f"{name}.txt" for name in TREES}

"""When there are colours, and what the line says that tells how far long work is."""

from __future__ import annotations

import io

import pytest

from clienthv.cli import progress
from clienthv.cli.terminal import coloured


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "color", "environment", "expected"),
    [
        (_Terminal(), "auto", {}, True),
        (_Terminal(), "auto", {"NO_COLOR": ""}, True),
        (_Terminal(), "auto", {"NO_COLOR": "1"}, False),
        (_Terminal(), "auto", {"NO_COLOR": "0"}, False),
        (_Terminal(), "auto", {"TERM": "dumb"}, False),
        (_Terminal(), "never", {"CLICOLOR_FORCE": "1"}, False),
        (io.StringIO(), "auto", {}, False),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "1"}, True),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "0"}, False),
        (io.StringIO(), "auto", {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
        (io.StringIO(), "always", {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_go_to_terminals_that_show_them_unless_somebody_says_otherwise(
    stream: io.StringIO, color: str, environment: dict[str, str], expected: bool
) -> None:
    assert coloured(stream, color, environment) is expected  # type: ignore[arg-type]


def test_a_closed_stream_gets_no_colours() -> None:
    stream = io.StringIO()
    stream.close()
    assert coloured(stream, "auto", {}) is False


@pytest.mark.parametrize(
    ("share", "bar"), [(-1.0, "·" * 24), (0.5, "#" * 12 + "·" * 12), (1.0, "#" * 24), (7.0, "#" * 24)]
)
def test_a_bar_is_filled_by_its_share_and_never_beyond(share: float, bar: str) -> None:
    assert progress.drawn("exporting desk", share, "x", 80).startswith(f"exporting desk  [{bar}]")


def test_a_narrow_line_has_the_numbers_first_and_no_bar() -> None:
    assert progress.drawn("exporting a-long-name", 0.5, "1.0 of 2.0 GiB", 40) == "1.0 of 2.0 GiB: exporting a-long-name"


def test_bytes_are_told_in_the_unit_of_the_whole() -> None:
    assert progress.amount(1 << 20, 3 << 30) == "0.0 of 3.0 GiB"
    assert progress.amount(512, 2048) == "0.5 of 2.0 KiB"


def test_the_time_left_is_told_when_there_is_something_to_tell_it_from() -> None:
    assert progress.left(1.0, 1, 100) == ""
    assert progress.left(10.0, 0, 100) == ""
    assert progress.left(30.0, 25, 100) == ", 1:30 left"

"""Lines with meaning: what is recognised, what stays whole when a line is folded, and that the text stays the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clienthv.report.folding import folded
from clienthv.report.style import Line, Part, Role, below, breadth, marked, table

ADDRESS = "0000:2e:00.0"
SENTENCE = (
    f"  gpu  not passthrough {ADDRESS}: it drives the host's boot display, the only one that the host could show "
    'its screen on [boot-display], so: select = ["0000:2e:00.0"] in the profile, or run '
    "clienthv inspect --save FILE there"
)
WHOLE = ("[boot-display]", 'select = ["0000:2e:00.0"]', "clienthv inspect --save FILE")


def roles(line: Line) -> dict[str, Role | None]:
    return {part.text: part.role for part in line.parts if part.role is not None}


def test_addresses_codes_settings_and_commands_are_recognised_in_a_sentence() -> None:
    found = roles(marked(SENTENCE))
    assert found == {
        ADDRESS: Role.ADDRESS,
        "[boot-display]": Role.CODE,
        'select = ["0000:2e:00.0"]': Role.COMMAND,
        "clienthv inspect --save FILE": Role.COMMAND,
    }


@pytest.mark.parametrize("text", ["[10de:1b80] a card", "[AMD/ATI] Ellesmere", "02:00.0", "clienthv lists it", "a=b"])
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert roles(marked(text)) == {}


def test_a_line_is_its_text_and_marking_changes_nothing_of_it() -> None:
    line = Line("  ", Part("warning:", Role.WARNING), " ", marked(SENTENCE))
    assert line == f"  warning: {SENTENCE}"
    assert marked(line) is line
    assert below(line, 4) == f"      warning: {SENTENCE}"


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_folded_line_fits_keeps_every_word_and_cuts_nothing_that_is_copied(width: int) -> None:
    rows = list(folded(Line(marked(SENTENCE), hang=7), width))
    assert len(rows) > 2
    assert all(len(row) <= width for row in rows)
    assert " ".join(" ".join(rows).split()) == " ".join(SENTENCE.split())
    assert all(any(whole in row for row in rows) for whole in WHOLE)
    assert all(re.match(r" {7}\S", row) for row in rows[1:])


def test_a_line_that_fits_is_left_as_it_is() -> None:
    assert list(folded("  a   b", 7)) == ["  a   b"]


def test_where_a_hanging_indent_would_leave_too_little_the_line_goes_on_near_its_beginning() -> None:
    rows = list(folded(Line("  firmware  hardware-virtualization  ", "many words " * 9, hang=37), 40))
    assert rows[0] == "  firmware  hardware-virtualization"
    assert rows[1].startswith("      many words")


def test_a_command_too_long_for_the_line_stands_alone_and_whole() -> None:
    command = 'select = ["0000:01:00.0", "0000:01:00.1"]'
    assert list(folded(f"    to change that: {command} there", 30)) == ["    to change that:", command, "        there"]


@given(st.text(alphabet='ab 0:.[]="-\u00e4\u6f22', max_size=120), st.integers(20, 90), st.integers(0, 60))
def test_no_folded_line_is_longer_than_the_terminal_but_for_a_word_that_is(text: str, width: int, hang: int) -> None:
    rows = list(folded(marked(text, hang=hang), width))
    assert "".join("".join(rows).split()) == "".join(text.split())
    for row in rows:
        assert breadth(row) <= width or " " not in row.strip() or roles(marked(row.strip()))


ROWS = [
    ("device", "today", "there (* another than today)"),
    ("gpu", f"passthrough: Some Vendor, Inc. Graphics Card ({ADDRESS}), all that hangs on it", "paravirtual: virtio *"),
    ("nic", "paravirtual: virtio", "paravirtual: virtio"),
]  # fmt: skip
LABELS = ("", "today", "there")


def rows(width: int) -> list[str]:
    return [str(row) for line in table(ROWS, labels=LABELS) for row in folded(line, width)]


def test_a_table_is_padded_to_its_widest_cells_without_blanks_at_the_end() -> None:
    first, second, third = table(ROWS)
    at = second.index("paravirtual: virtio *")
    assert first.index("there") == third.rindex("paravirtual") == at
    assert all(line == line.rstrip() for line in (first, second, third))


def test_the_cells_of_a_table_are_folded_each_in_its_column() -> None:
    shown = rows(80)
    assert all(len(row) <= 80 for row in shown)
    columns = [row.index(word) for row, word in zip(shown, ("there", "paravirtual: virtio *"), strict=False)]
    assert len(set(columns)) == 1
    assert any(ADDRESS in row for row in shown)
    assert shown[2].startswith(" " * shown[0].index("today"))


def test_a_table_too_wide_for_columns_is_stacked_and_each_cell_says_what_it_is() -> None:
    shown = rows(24)
    assert shown[:3] == ["  device", "      today: today", "      there: there (*"]
    assert "  nic" in shown
    assert max(len(row) for row in shown) <= 24
    assert any(ADDRESS in row for row in shown)


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert (breadth("ab"), breadth("漢字"), breadth("e\u0301")) == (2, 4, 1)

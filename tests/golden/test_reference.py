"""The pages of the reference that are made from the code are those that the code makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import reference

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name: str, golden: Callable[[Path, bytes], None]) -> None:
    golden(FOLDER / name, reference.PAGES[name]().encode())


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert reference.plain("a <b>\n  of [x] and *y* in `z` and A_B") == r"a \<b> of \[x\] and \*y\* in \`z\` and A\_B"
    assert list(reference.table(["a"], [["x | y"]]))[-1] == r"| x \| y |"

"""Where things are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from clienthv import places


def test_a_home_is_put_in_and_that_of_nobody_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.expanded("~/desk.clienthv") == tmp_path / "desk.clienthv"
    assert places.expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")

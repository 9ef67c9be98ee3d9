"""Every strategy, reason and profile key is used somewhere: in a golden plan, a shipped profile, or at least a test."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from clienthv.model import profile
from clienthv.model.plan import Reason, Strategy

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GOLDEN = "".join(p.read_text() for p in sorted((REPOSITORY / "tests" / "golden").glob("*/*.plan*")))
SHIPPED = [tomllib.loads(p.read_text()) for p in sorted((REPOSITORY / "profiles").glob("*.toml"))]
TESTS = "".join(p.read_text() for p in sorted(Path(__file__).parent.glob("test_*.py")) if p != Path(__file__))
OF_ONE_PC = {"select", "allow", "devices", "trust", "forbid", "looking_glass", "bus", "evdev", "mdev_type"}
"""Keys that no shipped profile can have: they speak of somebody's devices, or take back what is extended."""


def test_every_strategy_is_in_a_golden_plan() -> None:
    assert [s for s in Strategy if f'"strategy": "{s}"' not in GOLDEN] == []


def test_every_reason_is_in_a_golden_plan_or_expected_by_a_test() -> None:
    expected = set(re.findall(r"\b(?:R|Reason)\.([A-Z_]+)\b", TESTS))
    assert [r for r in Reason if f'"{r}"' not in GOLDEN and r.name not in expected] == []


def test_most_reasons_are_in_a_golden_plan() -> None:
    shown = [r for r in Reason if f'"{r}"' in GOLDEN]
    assert len(shown) > len(Reason) // 2


def test_every_profile_key_is_in_a_shipped_profile_or_of_one_pc() -> None:
    tables = {"guest": profile.Guest, "size": profile.SizeOf, "boot": profile.Boot}
    for name, model in tables.items():
        assert {f.name for f in msgspec.structs.fields(model)} == {key for p in SHIPPED for key in p.get(name, {})}
    used = {key for p in SHIPPED for table in p.get("devices", {}).values() for key in table}
    assert {f.name for f in msgspec.structs.fields(profile.Device)} - used == OF_ONE_PC


def test_keys_of_one_pc_are_set_in_a_test_and_in_the_reference() -> None:
    reference = (REPOSITORY / "docs" / "reference" / "profile.md").read_text()
    for key in OF_ONE_PC:
        assert re.search(rf"\b{key} = ", reference), key
        assert re.search(rf"\b{key} ?= ?[\[{{(\"tT]", TESTS), key


def test_every_strategy_is_in_the_reference() -> None:
    reference = (REPOSITORY / "docs" / "reference" / "profile.md").read_text()
    assert [s for s in Strategy if f"`{s}`" not in reference] == []

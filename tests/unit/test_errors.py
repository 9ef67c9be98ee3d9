from __future__ import annotations

import re
import subprocess
import sys

import pytest

from clienthv import errors
from clienthv.errors import FAMILIES, ClienthvError


def test_no_two_families_share_an_exit_code() -> None:
    codes = [family.code for family in FAMILIES]
    assert len(set(codes)) == len(codes)


def test_no_two_families_share_a_ref() -> None:
    refs = [family.ref for family in FAMILIES]
    assert len(set(refs)) == len(refs)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_an_exit_code_that_means_neither_success_nor_a_bug_nor_an_interrupt(
    family: type[ClienthvError],
) -> None:
    assert family.code not in {0, 1, 130}
    assert 0 < family.code < 126  # from 126 on, exit codes belong to shells and signals


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ref_is_kebab_case(family: type[ClienthvError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", family.ref)


def test_every_error_of_the_product_is_listed_as_a_family() -> None:
    defined = {e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, ClienthvError)}
    assert defined - {ClienthvError} == set(FAMILIES)


def test_an_error_keeps_its_message_hint_and_detail() -> None:
    error = errors.DiskError("no room", hint="delete something", detail="ENOSPC")
    assert (str(error), error.message, error.hint, error.detail) == (
        "no room", "no room", "delete something", "ENOSPC",
    )  # fmt: skip


def test_a_unit_test_cannot_start_a_process() -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the guard's class lives in conftest.py
        subprocess.run([sys.executable, "-c", ""], check=False)
    assert type(caught.value).__name__ == "ProcessStartedError"
    assert not isinstance(caught.value, Exception)

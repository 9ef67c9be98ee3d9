from __future__ import annotations

import re
import subprocess
import sys

import pytest

from clienthv import errors
from clienthv.errors import FAMILIES, ClienthvError
from clienthv.hypervisor.binding import translate


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


class Refusal:
    """An error as libvirt's binding gives it."""

    def __init__(self, text: str) -> None:
        self.get_error_code = lambda: 1
        self.get_error_message = lambda: text


@pytest.mark.parametrize(
    ("text", "next_step"),
    [
        ("internal error: Did not find USB device 046d:c52b", "plug it in"),
        ("internal error: Did not find USB device 046d:c52b bus:1 device:4", "plug it in"),
        ("operation failed: Multiple USB devices for 46d:c52b, use <address> to specify one", "name the port"),
    ],
)
def test_a_usb_device_that_libvirt_cannot_find_is_told_with_the_next_step(text: str, next_step: str) -> None:
    error = translate(Refusal(text), "start VM desk")
    assert isinstance(error, errors.HostError)
    assert "start VM desk" in error.message
    assert next_step in (error.hint or "")


def test_a_unit_test_cannot_start_a_process() -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the guard's class lives in conftest.py
        subprocess.run([sys.executable, "-c", ""], check=False)
    assert type(caught.value).__name__ == "ProcessStartedError"
    assert not isinstance(caught.value, Exception)

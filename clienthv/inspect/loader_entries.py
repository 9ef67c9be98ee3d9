"""Entries of the Boot Loader Specification, and /etc/kernel/cmdline, of which new ones are made."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from clienthv.inspect.grub import NotUnderstoodError

FOLDERS: Final = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
KERNEL_CMDLINE: Final = "/etc/kernel/cmdline"
"""Parameters for the entries that kernel-install makes (man 8 kernel-install)."""

_OPTIONS: Final = re.compile(r"^options[ \t]+(?P<value>[^\r\n]*)$", re.MULTILINE)
_LINUX: Final = re.compile(r"^linux[ \t]", re.MULTILINE)
_UNUSUAL: Final = re.compile(r"[\"'$`\\]")


class Line(NamedTuple):
    """The parameters of one entry, and where in the text they stand."""

    start: int
    end: int
    value: str

    @property
    def words(self) -> tuple[str, ...]:
        """The kernel parameters."""
        return tuple(self.value.split())


def starts_linux(text: str) -> bool:
    """Whether an entry starts a kernel with parameters: the key ``linux``."""
    return _LINUX.search(text) is not None


def options_line(text: str, path: str) -> Line:
    """The one line ``options`` of an entry. Raises NotUnderstoodError for none, several, or one with variables."""
    found = list(_OPTIONS.finditer(text))
    if len(found) != 1:
        msg = f"{path}: has {len(found)} lines of options, not one"
        raise NotUnderstoodError(msg)
    return _line(found[0]["value"], found[0].start("value"), path)


def kernel_cmdline(text: str) -> Line:
    """The one line of /etc/kernel/cmdline. Raises NotUnderstoodError for another form."""
    lines = text.split("\n")
    if "#" in text or not lines[0].strip() or any(line.strip() for line in lines[1:]):
        msg = f"{KERNEL_CMDLINE}: is not one line of parameters"
        raise NotUnderstoodError(msg)
    return _line(lines[0], 0, KERNEL_CMDLINE)


def _line(value: str, start: int, path: str) -> Line:
    if _UNUSUAL.search(value) or "\r" in value:
        msg = f"{path}: the parameters have quotes, variables or escapes in them"
        raise NotUnderstoodError(msg)
    return Line(start, start + len(value), value)

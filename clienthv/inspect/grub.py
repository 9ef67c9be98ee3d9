"""GRUB's defaults, /etc/default/grub and /etc/default/grub.d/*.cfg: shell that is understood only in its plainest form.

grub-mkconfig sources them in this order (GRUB manual, "Simple configuration"; grub.d is Debian's). Whatever is not an
assignment on one line is not understood, and then nothing is: it may change what an assignment means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

Variable = Literal["GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX"]
VARIABLES: Final[tuple[Variable, ...]] = ("GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX")

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
# Of a value that has nothing to do with parameters the shell may do what it likes, as long as it ends on its line.
_VALUE: Final = r"""(?:"(?:[^"\\`]|\\.)*"|'[^']*'|`[^`\\]*`|\$\([^()\\]*\)|[^\s"'`\\$();&|<>#]*)"""
_ANY: Final = re.compile(rf"[ \t]*(?:export[ \t]+)?({_NAME})=({_VALUE})[ \t]*(?:[ \t]#.*)?\Z")
_EXPORT: Final = re.compile(rf"[ \t]*export(?:[ \t]+{_NAME})+[ \t]*\Z")
_PLAIN: Final = re.compile(r"[^\"'`\\$]*\Z")
_BARE: Final = re.compile(r"[A-Za-z0-9_.,=:/@%+-]*\Z")  # nothing that the shell expands: no ~, no pattern, no brace
_MENTION: Final = re.compile(r"GRUB_CMDLINE_LINUX")


class NotUnderstoodError(Exception):
    """A file that is written in another way than is understood here; the message says where."""


class Assignment(NamedTuple):
    """One assignment: where its value stands in the text, the quote around it, the value, and whether it appends.

    One that ``appends`` begins with the variable itself; ``value`` is what comes after that.
    """

    start: int
    end: int
    quote: Literal['"', "'", ""]
    value: str
    appends: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The kernel parameters."""
        return tuple(self.value.split())


def assignments(text: str, path: str) -> Mapping[Variable, tuple[Assignment, ...]]:
    """The assignments of a file that count: of each variable the last, and what it appends to. NotUnderstoodError."""
    found: dict[Variable, tuple[Assignment, ...]] = {}
    at = 0
    for number, line in enumerate(text.split("\n"), 1):
        start, at = at, at + len(line) + 1
        if not line.strip(" \t") or line.lstrip(" \t").startswith("#"):
            continue
        match = _ANY.match(line)
        if match is None:
            if _EXPORT.match(line) and not _MENTION.search(line):
                continue
            msg = f"{path}, line {number}: more than an assignment on one line"
            raise NotUnderstoodError(msg)
        variable = next((v for v in VARIABLES if v == match[1]), None)
        if variable is not None:
            one = _parameters(match[2], start + match.start(2), variable, f"{path}, line {number}")
            found[variable] = (*(found.get(variable, ()) if one.appends else ()), one)
        elif _MENTION.search(line):
            msg = f"{path}, line {number}: GRUB_CMDLINE_LINUX is used in another way than assigned"
            raise NotUnderstoodError(msg)
    return found


def _parameters(written: str, start: int, variable: Variable, where: str) -> Assignment:
    quote: Literal['"', "'", ""] = '"' if written[:1] == '"' else "'" if written[:1] == "'" else ""
    value = written[1:-1] if quote else written
    own = re.match(rf"\$(?:{variable}|\{{{variable}\}})(?=[ \t]|\Z)", value) if quote == '"' else None
    rest = value[own.end() :] if own else value
    if not (_PLAIN if quote else _BARE).match(rest):
        msg = f"{where}: {variable} has quotes, variables or other signs of the shell in it"
        raise NotUnderstoodError(msg)
    begin = start + len(quote) + (own.end() if own else 0)
    return Assignment(begin, begin + len(rest), quote, rest, own is not None)


class Place(NamedTuple):
    """An assignment and the file it stands in."""

    path: str
    assignment: Assignment


def in_force(files: Iterable[tuple[str, str]], variable: Variable) -> tuple[Place, ...]:
    """Where the value of a variable comes from, in these files, path and text, in order. Raises NotUnderstoodError."""
    places: tuple[Place, ...] = ()
    for path, text in files:
        found = assignments(text, path).get(variable, ())
        if found and not found[0].appends:
            places = ()
        places = (*places, *(Place(path, one) for one in found))
    return places

"""Text from elsewhere, made safe to look at, and how much room it takes."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MOST_SHOWN: Final = 1000
"""Characters of one text; names and sentences of a PC have fewer."""

_MARKS: Final = 2
_WIDTHS: Final = {
    **dict.fromkeys("ijlI|'.,:;!·`", 0.34),
    **dict.fromkeys('ftr()[]{}/\\- "', 0.42),
    **dict.fromkeys("mwMWQO@%&…—", 1.0),
}


def visible(text: str, keep: str = "") -> str:
    """A text with its control characters written as escapes, those in ``keep`` left as they are."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """A text for a page: no control or direction characters, no towers of accents, and no more than fits on one."""
    told = visible(text[:MOST_SHOWN])
    if not told.isascii():
        told = _without_towers(told)
    rest = len(text) - MOST_SHOWN
    return f"{told} … ({rest} more characters)" if rest > 0 else told


def _without_towers(text: str) -> str:
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        if marks <= _MARKS:
            kept.append(character)
    return "".join(kept)


def width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is at most, in pixels, at a font size of ``size`` pixels.

    It is meant for any sans-serif typeface: the widths are those of DejaVu Sans, rounded up, which is a wide one.
    """
    return sum(map(_em, text)) * size * (1.12 if bold else 1.0)


def mono_width(text: str, size: float) -> float:
    """How wide an ASCII text is at most in a monospaced typeface, in pixels."""
    return len(text) * size * 0.615


def _em(character: str) -> float:
    known = _WIDTHS.get(character)
    if known is not None:
        return known
    if character.isascii():
        return 0.72 if character.isupper() else 0.645
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0.0
    return 1.1 if unicodedata.east_asian_width(character) in {"W", "F"} else 0.9


def fitting(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """A text, cut where it is wider than ``room`` pixels and then ended by an ellipsis."""
    if width(text, size, bold=bold) <= room:
        return text
    left = room - width("…", size, bold=bold)
    for number, character in enumerate(text):
        left -= width(character, size, bold=bold)
        if left < 0:
            return text[:number].rstrip() + "…"
    return text


def ranges(numbers: list[int]) -> str:
    """Ascending numbers with their runs drawn together: ``3, 5–8``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)


def anchor(address: str) -> str:
    """The name of an element that is about an address."""
    return "d-" + re.sub(r"[^0-9a-z]", "-", address.lower())

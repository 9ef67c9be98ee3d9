"""Lines of text that know what their parts mean and where they may be folded. As text they are plain."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum, unique
from typing import Final, NamedTuple, Self

_CODE: Final = r"\[[a-z0-9]+(?:-[a-z0-9]+)*\]"
_ADDRESS: Final = r"(?<![0-9a-f:])[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7](?![0-9a-f])"
_SETTING: Final = r"(?:\[[a-z.]{1,20}\] )?\b[a-z_]{1,20} = (?:\[[^\]\n]{0,200}\]|\"[^\"\n]{0,200}\"|[a-z0-9]+)"
_OURS: Final = r"\bclienthv(?: [a-z-]{1,20}){1,2}(?: (?:--?[a-z][a-z-]{0,20}|[A-Z]{2,20})){1,9}"
_OTHERS: Final = r"\bsudo [^,;()\n]+"
_KNOWN: Final = re.compile(f"(?P<command>{_SETTING}|{_OURS}|{_OTHERS})|(?P<code>{_CODE})|(?P<address>{_ADDRESS})")
GAP: Final = 2
"""Columns between two cells of a table."""


@unique
class Role(StrEnum):
    """What a part of a line is. The words say it too: a role only makes it easier to see."""

    GOOD = "good"
    WORSE = "worse"
    BAD = "bad"
    WARNING = "warning"
    UNKNOWN = "unknown"
    ADDRESS = "address"
    CODE = "code"
    COMMAND = "command"
    HEADING = "heading"
    FAINT = "faint"


WHOLE: Final = frozenset({Role.ADDRESS, Role.CODE, Role.COMMAND})
"""What is never folded: a person copies it."""


class Part(NamedTuple):
    """A piece of a line with one meaning, or with none."""

    text: str
    role: Role | None = None


class Columns(NamedTuple):
    """The columns of a table: where it begins, how wide each is, and the longest word of each; labels if it has any."""

    indent: int
    widths: tuple[int, ...]
    words: tuple[int, ...]
    labels: tuple[str, ...] = ()


class Line(str):
    """A line of plain text with its parts. Where it is folded, it goes on at column ``hang``.

    A row of a table keeps its cells and the table's columns, so that each cell can be folded in its own.
    """

    __slots__ = ("cells", "columns", "hang", "parts")
    parts: tuple[Part, ...]
    hang: int | None
    cells: tuple[Line, ...]
    columns: Columns | None

    def __new__(
        cls, *pieces: str | Part, hang: int | None = None, cells: Sequence[Line] = (), columns: Columns | None = None
    ) -> Self:
        """A line of texts, parts and other lines, one after the other."""
        parts = tuple(part for piece in pieces for part in _parts(piece) if part.text)
        made = super().__new__(cls, "".join(part.text for part in parts))
        made.parts, made.hang, made.cells, made.columns = parts, hang, tuple(cells), columns
        return made

    def mapped(self, change: Callable[[str], str]) -> Line:
        """The same line with the text of every part changed."""
        return Line(
            *(part._replace(text=change(part.text)) for part in self.parts),
            hang=self.hang,
            cells=[cell.mapped(change) for cell in self.cells],
            columns=self.columns,
        )


def _parts(piece: str | Part) -> tuple[Part, ...]:
    match piece:
        case Part():
            return (piece,)
        case Line():
            return piece.parts
        case _:
            return (Part(piece),)


def marked(text: str, role: Role | None = None, *, hang: int | None = None) -> Line:
    """A sentence of which addresses, codes in brackets, commands and settings are recognised; a Line as it is."""
    if isinstance(text, Line):
        return text
    parts, at = [], 0
    for found in _KNOWN.finditer(text):
        parts += [Part(text[at : found.start()], role), Part(found[0], Role(found.lastgroup or ""))]
        at = found.end()
    return Line(*parts, Part(text[at:], role), hang=hang)


def below(line: str, by: int) -> Line:
    """A line, moved to the right."""
    whole = marked(line)
    hang = None if whole.hang is None else whole.hang + by
    columns = whole.columns._replace(indent=whole.columns.indent + by) if whole.columns is not None else None
    return Line(" " * by, whole, hang=hang, cells=whole.cells, columns=columns)


def table(rows: Iterable[Sequence[str]], *, indent: int = 2, labels: Sequence[str] = ()) -> Iterator[Line]:
    """The rows of a table, each column as wide as its widest cell. ``labels`` name the columns where it is too narrow.

    As text a row is its cells, padded, without blanks at its end. The last column is not padded.
    """
    cells = [[marked(cell) for cell in row] for row in rows]
    if not cells:
        return
    columns = Columns(
        indent,
        tuple(max(breadth(row[i]) for row in cells) for i in range(len(cells[0]))),
        tuple(max(map(longest_word, (row[i] for row in cells))) for i in range(len(cells[0]))),
        tuple(labels),
    )
    for row in cells:
        yield Line(joined(row, columns.widths, indent), cells=row, columns=columns)


def joined(cells: Sequence[Line], widths: Sequence[int], indent: int) -> Line:
    """One row of text: cells padded to widths, no blanks at the end."""
    used = max((i for i, cell in enumerate(cells) if cell), default=-1) + 1
    pieces: list[str | Part] = [" " * indent if used else ""]
    for i, cell in enumerate(cells[:used]):
        last = i == used - 1
        pieces += [cell, "" if last else " " * (max(0, widths[i] - breadth(cell)) + GAP)]
    return Line(*pieces)


def breadth(text: str) -> int:
    """How many columns of a terminal a text takes (Unicode Standard Annex 11; marks that combine take none)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def longest_word(line: Line) -> int:
    """The breadth of the longest piece that is not folded."""
    return max((breadth("".join(c for c, _ in word)) for _, word in words(line)), default=0)


def words(line: Line) -> Iterator[tuple[int, list[tuple[str, Role | None]]]]:
    """The pieces between which a line may be folded, each as its characters and the number of blanks before it."""
    blanks, word = 0, list[tuple[str, Role | None]]()
    for part in line.parts:
        for character in part.text:
            if character != " " or part.role in WHOLE:
                word.append((character, part.role))
                continue
            if word:
                yield blanks, word
                blanks, word = 0, []
            blanks += 1
    if word:
        yield blanks, word

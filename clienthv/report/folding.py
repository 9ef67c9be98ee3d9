"""Lines folded to the width of a terminal: sentences with a hanging indent, cells of tables each in its column."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import Final

from clienthv.report.style import GAP, Columns, Line, Part, Role, breadth, joined, marked, words

_ROOM: Final = 24  # columns that a hanging indent must leave
_DEEPER: Final = 4  # columns that a folded line goes in, when nothing says where
_NARROW: Final = 10  # columns below which a cell is not read any more


def folded(text: str, width: int) -> Iterator[Line]:
    """A line as one or more of at most ``width`` columns.

    No word is cut, and neither is an address, a code or a command: one that is longer stands alone, too long.
    """
    line = marked(text)
    if breadth(line) <= width:
        yield line
    elif line.columns is None:
        yield from _sentence(line, width)
    elif (widths := _fitting(line.columns, width)) is not None:
        cells = [list(_sentence(c, w, hang=0)) for c, w in zip(line.cells, widths, strict=True)]
        for row in zip_longest(*cells, fillvalue=Line()):
            yield joined(row, widths, line.columns.indent)
    else:
        yield from _stacked(line, line.columns, width)


def _sentence(line: Line, width: int, hang: int | None = None) -> Iterator[Line]:
    indent = len(line) - len(line.lstrip(" "))
    wanted = line.hang if hang is None else hang
    if wanted is None or width - wanted < min(_ROOM, width):
        wanted = indent + _DEEPER if width - indent - _DEEPER >= _ROOM // 2 else 0
    row, used, begun = list[tuple[str, Role | None]](), 0, False
    for blanks, word in words(line):
        long = breadth("".join(c for c, _ in word))
        if begun and used + blanks + long > width:
            yield _of(row)
            row, used, blanks = [], 0, min(wanted, max(0, width - long))
        same = word[0][1] if row and row[-1][1] is word[0][1] else None
        row += [(" ", same)] * blanks + word
        used, begun = used + blanks + long, True
    if row:
        yield _of(row)


def _of(characters: list[tuple[str, Role | None]]) -> Line:
    """A line of characters, those of one role put together."""
    return Line(*(Part("".join(c for c, _ in run), role) for role, run in groupby(characters, key=lambda c: c[1])))


@lru_cache(maxsize=8)
def _fitting(columns: Columns, width: int) -> tuple[int, ...] | None:
    """Widths for a table's columns with which it fits, taken from the widest; None where words would not."""
    least = [max(min(w, _NARROW), word) for w, word in zip(columns.widths, columns.words, strict=True)]
    room = width - columns.indent - GAP * (len(least) - 1)
    if sum(least) > room:
        return None
    widths = list(columns.widths)
    while sum(widths) > room:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=lambda i: (widths[i], i))
        widths[widest] -= 1
    return tuple(widths)


def _stacked(line: Line, columns: Columns, width: int) -> Iterator[Line]:
    """A row whose cells stand one below the other: with its column's label, where the table has labels."""
    deeper = columns.indent + _DEEPER
    if not columns.labels:
        filled = [part for cell in line.cells if cell for part in (Part(" " * GAP), cell)][1:]
        yield from _sentence(Line(" " * columns.indent, *filled, hang=deeper), width)
        return
    for i, cell in enumerate(line.cells):
        if i == 0:
            yield from _sentence(Line(" " * columns.indent, cell), width)
        elif cell:
            label = f"{columns.labels[i]}: " if columns.labels[i] else ""
            yield from _sentence(Line(" " * deeper, label, cell, hang=deeper + len(label)), width)

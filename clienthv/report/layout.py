"""Where the rows of the tree, their IOMMU groups and their words go: plain geometry in pixels, no markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from clienthv.report.rows import Badge, Form, Row
from clienthv.report.text import fitting, mono_width, ranges, width

TINTS: Final = 6
"""How many colours groups of several functions take turns with. Neighbours never have the same."""

_NAME: Final = 14.0
_SMALL: Final = 12.0
_BADGE_HEIGHT: Final = 20.0
_PAD: Final = 10.0
_ICON: Final = 24.0


class Box(NamedTuple):
    """A rectangle: its left upper corner, and its size."""

    x: float
    y: float
    width: float
    height: float


class Word(NamedTuple):
    """A text that begins (or, of ``end``, ends) at a point of its base line; ``mono`` stands before it."""

    x: float
    y: float
    text: str
    mono: str = ""
    end: bool = False


class Pill(NamedTuple):
    """A badge and its box."""

    box: Box
    badge: Badge
    text: str


class Card(NamedTuple):
    """A row in its place."""

    row: Row
    box: Box
    icon: tuple[float, float] | None
    name: Word
    about: Word | None
    pills: tuple[Pill, ...]


class Region(NamedTuple):
    """The area of an IOMMU group behind neighbouring rows.

    ``tint`` numbers the colour of a group of several functions; a group of one has None. ``several`` is whether it
    is not one group, but those of functions that stand in one row.
    """

    box: Box
    labels: tuple[Word, ...]
    tint: int | None
    several: bool


class Format(NamedTuple):
    """The proportions of a picture: its width, one step to the right, how many there are, where groups are named."""

    width: float
    step: float
    deepest: int
    gutter: float
    caption: float

    @property
    def wide(self) -> bool:
        """Whether groups are named beside their regions."""
        return self.gutter > 0


WIDE: Final = Format(width=800, step=24, deepest=9, gutter=92, caption=0)
NARROW: Final = Format(width=328, step=12, deepest=6, gutter=0, caption=18)


class Drawing(NamedTuple):
    """The whole picture: its size, and what is on it, from the back to the front."""

    format: Format
    height: float
    regions: tuple[Region, ...]
    lines: tuple[str, ...]
    cards: tuple[Card, ...]


def draw(rows: Sequence[Row], proportions: Format = WIDE) -> Drawing:
    """Place every row below the one before it, with the regions of their IOMMU groups and the lines of the tree."""
    shared, tints = _tints(rows)
    parts = _parts(rows)
    y, cards, regions = 4.0, list[Card](), list[Region]()
    part_of: dict[tuple[int, ...], int] = {}
    for groups, run in groupby(rows, key=lambda row: row.groups):
        inside = bool(groups)
        top = y
        y += (6 + proportions.caption) if inside else 0
        members = list[Card]()
        for row in run:
            card = _card(row, y, proportions)
            members.append(card)
            y += card.box.height + 4
        cards += members
        if inside:
            part_of[groups] = part = part_of.get(groups, 0) + 1
            words = _words(groups, part, parts[groups])
            left = min(c.box.x for c in members) - 6
            box = Box(left, top, proportions.width - 2 - left, y + 2 - top)
            tint = tints[groups] if groups in shared else None
            labels = tuple(_labels(words, box, members[0].box, proportions))
            regions.append(Region(box, labels, tint, len(groups) > 1))
            y += 10
        else:
            y += 4
    return Drawing(proportions, y + 2, tuple(regions), tuple(_lines(cards, proportions)), tuple(cards))


def _tints(rows: Sequence[Row]) -> tuple[set[tuple[int, ...]], dict[tuple[int, ...], int]]:
    """The groups that hold more than one function, and a colour for each in turn."""
    count: dict[tuple[int, ...], int] = {}
    for row in rows:
        if row.group is not None:
            count[row.groups] = count.get(row.groups, 0) + len(row.functions)
    shared = [groups for groups, number in count.items() if number > 1]
    return set(shared), {groups: n % TINTS for n, groups in enumerate(shared)}


def _parts(rows: Sequence[Row]) -> dict[tuple[int, ...], int]:
    """In how many places each group appears: its functions need not be neighbours."""
    parts: dict[tuple[int, ...], int] = {}
    for groups, _ in groupby(rows, key=lambda row: row.groups):
        parts[groups] = parts.get(groups, 0) + 1
    return parts


def _words(groups: tuple[int, ...], part: int, parts: int) -> tuple[str, str]:
    """The name of a region, and what is said below it."""
    if len(groups) > 1:
        return f"{len(groups)} groups", ranges(list(groups))
    return f"group {groups[0]}", f"part {part} of {parts}" if parts > 1 else ""


def _labels(words: tuple[str, str], region: Box, first: Box, proportions: Format) -> Iterator[Word]:
    """The words of a region: beside its cards, or above them where there is no room beside."""
    if not proportions.wide:
        text = ": ".join(filter(None, words))
        yield Word(first.x, region.y + 16, fitting(text, region.width - 16, _SMALL, bold=True))
        return
    right, y = region.x + region.width - 10, region.y + 18
    for text in filter(None, words):
        yield Word(right, y, _within(text, proportions.gutter - 14), end=True)
        y += 15


def _within(text: str, room: float) -> str:
    """A text that fits; of long lists of numbers the first and the last."""
    if width(text, _SMALL, bold=True) > room and "," in text:
        text = f"{text.split(',')[0].split('–')[0]} … {text.split(' ')[-1].split('–')[-1]}"
    return fitting(text, room, _SMALL, bold=True)


def _card(row: Row, y: float, proportions: Format) -> Card:
    x = 10 + min(row.depth, proportions.deepest) * proportions.step
    room = proportions.width - x - (proportions.gutter or 10)
    if row.form in (Form.ROOT, Form.BRIDGE):
        return _one_line(row, x, y, room, proportions)
    left = x + _PAD + _ICON
    inner = room - 2 * _PAD - _ICON
    sized = [_sized(badge, inner) for badge in row.badges]
    total = sum(w + 6 for _, _, w in sized)
    beside = proportions.wide and total <= inner * 0.55
    pills = tuple(_beside(sized, x + room - _PAD, y + 14)) if beside else ()
    name = Word(left, y + 20, fitting(row.name, inner - (total if beside else 0), _NAME, bold=True))
    mono = _address(row, proportions)
    words = fitting(row.about and f" · {row.about}", inner - mono_width(mono, _SMALL), _SMALL)
    about = Word(left, y + 38, words, mono)
    height = 48.0
    if sized and not beside:
        pills, height = _below(sized, left, y + 48, inner)
        height -= y
    return Card(row, Box(x, y, room, height), (x + _PAD, y + 9), name, about, pills)


def _one_line(row: Row, x: float, y: float, room: float, proportions: Format) -> Card:
    """A heading or a bridge: on one line; the address of a heading is in its words."""
    box = Box(x, y, room, 28)
    mono = "" if row.form is Form.ROOT else _address(row, proportions)
    inner = room - 2 * _PAD - mono_width(mono, _SMALL)
    told = (
        row.name if row.form is Form.ROOT or not proportions.wide else " · ".join(filter(None, (row.name, row.about)))
    )
    text = fitting(told if not mono else f"  {told}", inner, _SMALL, bold=row.form is Form.ROOT)
    return Card(row, box, None, Word(x + _PAD, y + 18, text, mono), None, ())


def _address(row: Row, proportions: Format) -> str:
    """The address; in the narrow picture without the domain that nearly all have, as lspci writes it."""
    return row.address if proportions.wide else row.address.replace("0000:", "")


def _sized(badge: Badge, room: float) -> tuple[Badge, str, float]:
    text = fitting(badge.text, room - 18, _SMALL, bold=True)
    return badge, text, width(text, _SMALL, bold=True) + 16


def _beside(sized: Sequence[tuple[Badge, str, float]], right: float, middle: float) -> Iterator[Pill]:
    x = right - sum(w for _, _, w in sized) - 6 * (len(sized) - 1)
    for badge, text, across in sized:
        yield Pill(Box(x, middle - _BADGE_HEIGHT / 2, across, _BADGE_HEIGHT), badge, text)
        x += across + 6


def _below(
    sized: Sequence[tuple[Badge, str, float]], left: float, top: float, room: float
) -> tuple[tuple[Pill, ...], float]:
    """The badges below the words, on as many lines as they take; and where the card ends."""
    pills, x, y = list[Pill](), left, top
    for badge, text, across in sized:
        if x > left and x + across > left + room:
            x, y = left, y + _BADGE_HEIGHT + 4
        pills.append(Pill(Box(x, y, across, _BADGE_HEIGHT), badge, text))
        x += across + 6
    return tuple(pills), y + _BADGE_HEIGHT + 8


def _lines(cards: Sequence[Card], proportions: Format) -> Iterator[str]:
    """From each parent down and to the right to its children, as SVG path data; one path for each parent."""
    above: list[Card] = []
    ends: dict[int, list[Card]] = {}
    parents: dict[int, Card] = {}
    for card in cards:
        while above and above[-1].row.depth >= card.row.depth:
            above.pop()
        if above and above[-1].box.x < card.box.x:
            parents[id(above[-1])] = above[-1]
            ends.setdefault(id(above[-1]), []).append(card)
        above.append(card)
    for key, children in ends.items():
        box = parents[key].box
        x = box.x + proportions.step / 2
        heights = [c.box.y + min(c.box.height, 48) / 2 for c in children]
        arms = "".join(f"M{x:g} {y:g}H{c.box.x:g}" for c, y in zip(children, heights, strict=True))
        yield f"M{x:g} {box.y + box.height:g}V{heights[-1]:g}{arms}"

"""Plots as SVG for the pages in docs: small, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
GREY = "#7d7d7d"
"""As far from white as from a dark page: 4.1 to 1 and 4.6 to 1 (WCAG 2.2, contrast ratio)."""
COLOURS = ("#1f8a70", "#d2691e", "#4a7fc1", "#b0579a", "#9a8b1f", "#c0504d")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "clienthv",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


class Line(NamedTuple):
    """A line of a plot: its name, and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Bar(NamedTuple):
    """A bar: its name, its length, the least and the most of the runs, and what is written at its end."""

    name: str
    length: float
    least: float
    most: float
    label: str


def _save(figure: plt.Figure, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.svg"
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # matplotlib ends lines with spaces.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def lines(name: str, title: str, x: str, y: str, drawn: Sequence[Line]) -> None:
    """Growth: every line from 0, so that twice as high is twice as much."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
        for line, colour, marker in zip(drawn, COLOURS, "os^Dvx", strict=False):
            axes.plot(line.x, line.y, marker=marker, markersize=4, color=colour, label=line.name)
        axes.set(title=title, xlabel=x, ylabel=y, ylim=(0, None), xlim=(0, None))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=True)
        if len(drawn) > 1:
            axes.legend()
        _save(figure, name)


def bars(name: str, parts: Sequence[tuple[str, Sequence[Bar]]], *, one: str = "") -> None:
    """Groups of bars, one above the other, with the range of the runs; a line at 1 where bars are ratios to ``one``."""
    rows = [len(drawn) for _, drawn in parts]
    with mpl.rc_context(STYLE):
        height = 0.24 * sum(rows) + 0.5 * len(rows)
        figure, panes = plt.subplots(
            len(parts),
            1,
            figsize=(6.0, height),
            squeeze=False,
            layout="constrained",
            gridspec_kw={"height_ratios": rows},
        )
        for pane, (title, drawn) in zip(panes[:, 0], parts, strict=True):
            for place, bar in enumerate(drawn):
                pane.barh(place, bar.length, color=COLOURS[place % len(COLOURS)], height=0.7)
                pane.plot([bar.least, bar.most], [place, place], color=GREY, linewidth=1)
                pane.text(max(bar.most, bar.length), place, f" {bar.label}", va="center")
            furthest = max(max(bar.most, bar.length) for bar in drawn)
            pane.set(yticks=range(len(drawn)), yticklabels=[bar.name for bar in drawn], xlim=(0, furthest * 1.2))
            pane.set_title(title, loc="left")
            pane.invert_yaxis()
            if one:
                pane.axvline(1, color=GREY, linestyle=":", linewidth=1)
        _save(figure, name)

"""The topology of a PC as an SVG picture, alone or within the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clienthv.model.overview import Overview
from clienthv.report import layout
from clienthv.report.rows import Row, rows
from clienthv.report.text import shown

if TYPE_CHECKING:
    from jinja2 import Environment


class Palette(NamedTuple):
    """Colours for a light or a dark background. Text on any of them has a contrast of 4.5 or more (WCAG 2.2, 1.4.3).

    ``tints`` are of the colours that people who see fewer can tell apart (Okabe and Ito, "Color Universal Design",
    2008); every region has its number besides. ``vms`` are the colours of VMs, in turn.
    """

    paper: str
    card: str
    card_line: str
    bridge: str
    text: str
    muted: str
    line: str
    focus: str
    one: str
    one_line: str
    tints: tuple[str, ...]
    tint_fill: float
    role: str
    role_line: str
    role_text: str
    vms: tuple[str, ...]
    vm_text: str
    yes: str
    no: str


LIGHT: Final = Palette(
    paper="#ffffff",
    card="#ffffff",
    card_line="#c9d1d9",
    bridge="#eef1f4",
    text="#1b2129",
    muted="#535d68",
    line="#9aa4af",
    focus="#0b5cad",
    one="#f3f6f8",
    one_line="#dde3e9",
    tints=("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2"),
    tint_fill=0.2,
    role="#fff4d6",
    role_line="#c08a00",
    role_text="#5c4200",
    vms=("#0b5cad", "#7a3e9d", "#0a6b52", "#9a4a00"),
    vm_text="#ffffff",
    yes="#0a6b52",
    no="#b3261e",
)
DARK: Final = Palette(
    paper="#11161c",
    card="#1a212a",
    card_line="#3b4652",
    bridge="#232c37",
    text="#e8edf2",
    muted="#a9b4c0",
    line="#647180",
    focus="#7db9ff",
    one="#161d25",
    one_line="#2b3540",
    tints=("#56b4e9", "#e69f00", "#2fbf95", "#d98cb8", "#f07c3a", "#4a9fe0"),
    tint_fill=0.2,
    role="#3a2f10",
    role_line="#c89a2a",
    role_text="#ffe2a0",
    vms=("#7db9ff", "#d3a6f5", "#5fd3ac", "#f2ab62"),
    vm_text="#0d1218",
    yes="#5fd3ac",
    no="#ff9a8f",
)


def environment() -> Environment:
    """Jinja for pages and pictures: everything is escaped, and made visible before; undefined names are errors."""
    from jinja2 import Environment as Jinja
    from jinja2 import PackageLoader, StrictUndefined

    return Jinja(
        loader=PackageLoader("clienthv.report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _printed(value: Any) -> Any:
    from markupsafe import Markup

    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def style(jinja: Environment) -> str:
    """The picture's style sheet. No word of a PC is in it."""
    return jinja.get_template("topology.css.j2").render(light=LIGHT, dark=DARK)


def drawing(
    jinja: Environment, tree: tuple[Row, ...], label: str, proportions: layout.Format = layout.WIDE, css: str = ""
) -> str:
    """One picture as an ``svg`` element. With a style sheet it stands alone; without, its cards lead to the page."""
    from markupsafe import Markup

    return jinja.get_template("topology.svg.j2").render(
        drawing=layout.draw(tree, proportions),
        name="wide" if proportions.wide else "narrow",
        label=label,
        links=not css,
        style=Markup(css),  # noqa: S704
        vms=len(LIGHT.vms),
    )


def label_of(overview: Overview) -> str:
    """What the picture shows, in words."""
    groups = len(overview.host.by_group)
    return f"The {len(overview.host.pci)} PCI functions of {overview.host.name} as a tree, in {groups} IOMMU groups"


def alone(overview: Overview) -> str:
    """The picture as a file of its own."""
    jinja = environment()
    paper = f".paper{{fill:{LIGHT.paper}}}@media screen and (prefers-color-scheme:dark){{.paper{{fill:{DARK.paper}}}}}"
    return drawing(jinja, rows(overview), label_of(overview), css=style(jinja) + paper) + "\n"

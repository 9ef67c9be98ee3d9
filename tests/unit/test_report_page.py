"""The page and its picture: nothing is left out, nothing overlaps, and no text becomes anything else than text."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import combinations, pairwise

import overviews
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree, html
from msgspec.structs import replace

from clienthv.model.advice import Ability, Advice, After, Diagnosis, Unlocks
from clienthv.model.host import Host, PciFunction, SrIov
from clienthv.model.overview import Overview
from clienthv.model.plan import Kind, Strategy
from clienthv.report import layout, page, svg, text
from clienthv.report.layout import Box
from clienthv.report.rows import MOST_ROWS, Form, Row, rows

PCS = (
    "lab-full",
    "desk-ep2c602-2xe5-2670-4gamers",
    "desk-z97-2x-r9280x-samegroup",
    "fa-srv-sys110p-x550vfio",
    "fa-desk-9950x3d-rtx4080-x870e",
    "fa-laptop-mbp15-1-t2",
    "partial-i350-8vf",
    "is-990fx-no-iommu-groups",
    "fa-srv-arm-thunderx2",
    "gx-laptop-x1c10",
)
FORMATS = pytest.mark.parametrize("proportions", [layout.WIDE, layout.NARROW], ids=["wide", "narrow"])


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return page.page(overviews.hostile())


def row_of(address: str, shown: Overview) -> Row:
    return next(row for row in rows(shown) if address in [f.address for f in row.functions])


def apart(a: Box, b: Box) -> bool:
    return a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y


def within(inner: Box, outer: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


@pytest.mark.parametrize("name", PCS)
def test_every_function_is_in_one_row_with_its_group(name: str) -> None:
    host = overviews.recorded(name)
    drawn = rows(overviews.overview(host))
    assert sorted(f.address for row in drawn for f in row.functions) == sorted(host.by_address)
    for row in drawn:
        assert set(row.groups) == {f.iommu_group for f in row.functions} - {None}


@FORMATS
@pytest.mark.parametrize("name", PCS)
def test_nothing_lies_upon_another_or_outside(name: str, proportions: layout.Format) -> None:
    drawing = layout.draw(rows(overviews.overview(overviews.recorded(name), "performance")), proportions)
    whole = Box(0, 0, proportions.width, drawing.height)
    boxes = [card.box for card in drawing.cards]
    assert all(apart(a, b) for a, b in pairwise(boxes))
    assert all(apart(a.box, b.box) for a, b in combinations(drawing.regions, 2))
    assert all(within(box, whole) for box in (*boxes, *(r.box for r in drawing.regions)))
    for card in drawing.cards:
        assert all(within(pill.box, card.box) for pill in card.pills)
        assert all(apart(a.box, b.box) for a, b in combinations(card.pills, 2))
        assert sum(within(card.box, r.box) for r in drawing.regions) == (1 if card.row.groups else 0)


@FORMATS
def test_no_text_is_wider_than_its_card(proportions: layout.Format) -> None:
    for card in layout.draw(rows(overviews.hostile()), proportions).cards:
        right = min([card.box.x + card.box.width, *(p.box.x for p in card.pills if p.box.y < card.name.y)])
        assert card.name.x + text.width(card.name.text, 14, bold=True) <= right + 1 or card.about is None
        if card.about is not None:
            across = text.mono_width(card.about.mono, 12) + text.width(card.about.text, 12)
            assert card.about.x + across <= card.box.x + card.box.width


def test_neighbouring_groups_of_several_functions_have_other_colours() -> None:
    drawing = layout.draw(rows(overviews.overview(overviews.recorded("fa-srv-arm-thunderx2"))))
    tints = [r.tint for r in drawing.regions if r.tint is not None]
    assert tints
    many = layout.draw(rows(overviews.overview(overviews.recorded("lab-full"))))
    assert [r.tint for r in many.regions if r.tint is not None] == [0, 1, 2]


def test_a_group_that_is_not_together_says_so() -> None:
    host = overviews.recorded("lab-full")
    apart_from_it = tuple(replace(f, iommu_group=6) if f.address == "0000:00:01.0" else f for f in host.pci)
    drawing = layout.draw(rows(overviews.overview(replace(host, pci=apart_from_it))))
    told = [[w.text for w in r.labels] for r in drawing.regions if r.labels[0].text == "group 6"]
    assert told == [["group 6", "part 1 of 2"], ["group 6", "part 2 of 2"]]


def functions(count: int, **facts: object) -> Host:
    """A PC with a card that has virtual functions."""
    card = PciFunction(
        address="0000:01:00.0", class_code="020000", iommu_group=1, sriov=SrIov(totalvfs=63, numvfs=count),
        bridge_path=(), device="A card", driver="ice",
    )  # fmt: skip
    made = [
        PciFunction(address=f"0000:01:{1 + n // 8:02x}.{n % 8}", class_code="020000", iommu_group=2 + n,
                    physfn=card.address, bridge_path=(), driver="iavf")
        for n in range(count)
    ]  # fmt: skip
    return replace(overviews.recorded("lab-full"), pci=(card, *made), roles=())


def test_virtual_functions_stand_in_one_row_except_those_that_somebody_has() -> None:
    host = functions(31)
    assert [row.name for row in rows(overviews.overview(host))][1:] == ["A card", "31 VFs"]
    shown = overviews.overview(host, "performance")
    plan = shown.plans.vms[0].plan
    assert plan is not None
    taken = next(d.device for d in plan.decisions if d.kind == "nic")
    assert taken is not None
    assert [b.text for b in row_of(taken, shown).badges] == ["performance · vf"]
    assert row_of(taken, shown).functions == (host.by_address[taken],)


def test_nothing_is_folded_away_from_a_group_that_a_vm_gets() -> None:
    host = overviews.recorded("fa-desk-9950x3d-rtx4080-x870e")
    shown = overviews.overview(host, "performance")
    for row in rows(shown):
        if row.form is Form.FOLDED:
            mates = {m.address for f in row.functions for m in host.by_group.get(f.iommu_group or 0, ())}
            assert mates <= {f.address for f in row.functions}


def test_badges_say_what_the_host_uses_and_what_a_vm_gets() -> None:
    shown = overviews.overview(overviews.recorded("lab-full"), "performance", "balanced")
    assert [b.text for b in row_of("0000:00:01.0", shown).badges] == ["boot display", "screen connected"]
    assert [(b.text, b.vm) for b in row_of("0000:00:11.0", shown).badges] == [("performance · passthrough", 0)]
    assert [b.text for b in row_of("0000:00:11.1", shown).badges] == ["performance · goes along"]


def test_hovering_a_device_shows_its_names_its_uses_and_its_files() -> None:
    root = etree.fromstring(svg.alone(overviews.overview(overviews.recorded("lab-full"), "performance")).encode())
    titles = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}title")]
    shown = next(t for t in titles if "0000:00:01.0" in t)
    assert "IOMMU group 1; the host: boot display; the host: screen connected" in shown
    assert "\n/sys/bus/pci/devices/0000:00:01.0/boot_vga: 1" in shown
    assert any("VM performance · passthrough" in t for t in titles)


def test_a_virtual_function_that_up_makes_is_drawn_below_its_card() -> None:
    drawn = rows(overviews.overview(overviews.recorded("lab-full"), "performance"))
    number = next(n for n, row in enumerate(drawn) if row.form is Form.PLANNED)
    assert drawn[number].badges[0].text == "performance · vf"
    assert drawn[number - 1].address == "0000:04:00.0"
    assert drawn[number].depth == drawn[number - 1].depth + 1


def test_a_picture_is_bounded_whatever_the_document_holds() -> None:
    many = tuple(
        PciFunction(address=f"{n:04x}:00:00.0", class_code="050000", bridge_path=())  # each below a root of its own
        for n in range(MOST_ROWS // 2 + 50)
    )
    drawn = rows(overviews.overview(replace(overviews.recorded("lab-full"), pci=many, roles=())))
    assert len(drawn) == MOST_ROWS + 1
    assert drawn[-1].name == "50 more functions are not drawn"


def test_no_text_of_a_hostile_pc_becomes_an_element_or_an_attribute(hostile_page: str) -> None:
    tree = html.document_fromstring(hostile_page)
    assert len(tree.findall(".//script")) == 1
    assert not {"img", "iframe", "object", "embed", "base", "link", "form"} & {e.tag for e in tree.iter()}
    names = {name for e in tree.iter(etree.Element) for name in e.attrib}
    assert not [n for n in names if n.startswith("on") or n in ("style", "src", "srcdoc", "action")]
    assert all(e.get("href", "#").startswith("#") for e in tree.iter(etree.Element))
    assert "<script>document.title" in tree.text_content(), "it is there as text"


def test_no_control_or_direction_character_reaches_page_or_picture(hostile_page: str) -> None:
    for written in (hostile_page, svg.alone(overviews.hostile())):
        assert {c for c in written if not c.isprintable()} == {"\n"}
        assert "\\u202e" in written
        assert "{{ 7*7 }}" in written


def test_a_hostile_pc_makes_no_endless_page(hostile_page: str) -> None:
    assert "W" * (text.MOST_SHOWN + 1) not in hostile_page
    assert "more characters)" in hostile_page


def test_the_picture_alone_is_well_formed_and_needs_nothing() -> None:
    root = etree.fromstring(svg.alone(overviews.hostile()).encode())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {etree.QName(e).localname for e in root.iter(etree.Element)}
    assert not tags & {"script", "a", "image", "foreignObject", "use"}
    assert "http" not in svg.alone(overviews.overview(overviews.recorded("lab-full"))).replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_the_policy_of_the_page_allows_its_own_style_and_script_alone() -> None:
    written = page.page(overviews.overview(overviews.recorded("lab-full"), "performance"))
    tree = html.document_fromstring(written)
    policy = tree.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", written, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_name_in_the_page_is_given_once_and_every_link_leads_somewhere() -> None:
    shown = overviews.overview(overviews.recorded("fa-desk-9950x3d-rtx4080-x870e"), "performance", "balanced")
    tree = html.document_fromstring(page.page(shown))
    names = [e.get("id") for e in tree.iter(etree.Element) if e.get("id")]
    assert sorted(names) == sorted(set(names))
    assert {e.get("href")[1:] for e in tree.iter("a")} <= set(names)


def told(shown: Overview) -> str:
    return html.document_fromstring(page.page(shown)).text_content()


def test_the_page_says_that_nothing_holds_a_pc_back_only_when_the_doctor_does() -> None:
    shown = overviews.overview(overviews.recorded("lab-full"), "performance")
    ability = Ability(code="kvm", title="KVM", able=True, detail="it works")
    advice = Advice(code="iommu", title="switch the IOMMU on", detail="it is off", steps=("edit GRUB",))
    empty = Diagnosis(host="x", profiles=(), abilities=(), advice=())
    for diagnosis, says in (
        (empty, False),
        (replace(empty, abilities=(ability,)), True),
        (replace(empty, abilities=(ability, replace(ability, able=False))), True),
        (replace(empty, abilities=(ability, replace(ability, able=None))), False),
        (replace(empty, abilities=(ability,), advice=(advice,)), False),
    ):
        words = told(shown._replace(diagnosis=diagnosis))
        assert ("Nothing that clienthv knows of holds this PC back" in words) is says


def test_advice_is_told_with_what_it_unlocks_and_how_it_is_followed() -> None:
    shown = overviews.overview(overviews.recorded("lab-full"), "performance")
    gpu = Unlocks(profile="performance", kind=Kind.GPU, strategy=Strategy.PASSTHROUGH, device="0000:01:00.0")
    advice = Advice(
        code="iommu", title="switch the IOMMU on", detail="it is off", steps=("edit GRUB",), after=After.REBOOT,
        unlocks=(gpu, replace(gpu, profile="mixed"), replace(gpu, profile="x", also=("room",))),
    )  # fmt: skip
    words = " ".join(told(shown._replace(diagnosis=replace(shown.diagnosis, advice=(advice,)))).split())
    assert "gpu passthrough of 0000:01:00.0 for performance, mixed" in words
    assert "for x (together with room)" in words
    assert "it is off" in words
    assert "edit GRUB" in words
    assert "after a restart" in words


def test_the_page_tells_each_reason_with_its_code_and_fix() -> None:
    shown = overviews.overview(overviews.recorded("lab-full"), "performance")
    plan = shown.plans.vms[0].plan
    assert plan is not None
    words = " ".join(told(shown).split())
    for rejected in (r for d in plan.decisions for r in d.rejected):
        assert f"{rejected.detail} [{rejected.reason}]" in words
        assert (rejected.fix or "") in words
    for change in plan.host_changes:
        assert change.detail in words


def test_what_is_unknown_is_called_so() -> None:
    shown = overviews.overview(overviews.recorded("gx-laptop-x1c10"), "balanced")
    assert "The IOMMU groups are unknown" in told(shown)
    off = overviews.overview(overviews.recorded("lab-iommu-off"), "balanced")
    assert "No IOMMU groups: the IOMMU is not active" in told(off)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, "relative luminance")."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mixed(top: str, alpha: float, below: str) -> str:
    pairs = [(int(top[n : n + 2], 16), int(below[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(a * alpha + b * (1 - alpha)):02x}" for a, b in pairs)


@pytest.mark.parametrize("palette", [svg.LIGHT, svg.DARK], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(palette: svg.Palette) -> None:
    grounds = [palette.paper, palette.card, palette.bridge, palette.one]
    grounds += [mixed(tint, palette.tint_fill, palette.paper) for tint in palette.tints]
    assert min(contrast(palette.text, ground) for ground in grounds) >= 7
    assert min(contrast(palette.muted, ground) for ground in grounds) >= 4.5
    assert min(contrast(palette.vm_text, vm) for vm in palette.vms) >= 4.5
    assert contrast(palette.role_text, palette.role) >= 4.5
    assert min(contrast(c, palette.card) for c in (palette.focus, palette.yes, palette.no)) >= 4.5


@settings(max_examples=40)
@given(st.text(max_size=80), st.floats(20, 400))
def test_a_fitted_text_fits_and_is_the_beginning_of_the_whole(words: str, room: float) -> None:
    fitted = text.fitting(words, room, 14)
    assert text.width(fitted, 14) <= max(room, text.width("…", 14))
    assert fitted == words or words.startswith(fitted.removesuffix("…"))


@given(st.text(max_size=2000))
def test_a_shown_text_is_printable_and_bounded(words: str) -> None:
    shown = text.shown(words)
    assert shown.isprintable()
    assert len(shown) <= 10 * text.MOST_SHOWN + 40


@given(st.lists(st.integers(0, 300), unique=True, max_size=30).map(sorted))
def test_ranges_name_each_number(numbers: list[int]) -> None:
    named: list[int] = []
    for part in filter(None, text.ranges(numbers).split(", ")):
        first, _, last = part.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == numbers

"""The report as a browser shows it: readable, reachable, and quiet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

NAMES = ("lab", "server", "desktop", "hostile")
TAB, ENTER, ESCAPE, SPACE, DOWN, RIGHT = "\ue004", "\ue007", "\ue00c", " ", "\ue015", "\ue014"

SMALLEST = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let least = [Infinity, ""];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("style, script, title")) continue;
  if (!element.getClientRects().length) continue;
  const svg = element.closest("svg.topology");
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const size = parseFloat(getComputedStyle(element).fontSize) * scale;
  if (size < least[0]) least = [size, walker.currentNode.data.trim().slice(0, 40)];
}
return least;
"""

# Texts among each other, badges among each other and with texts of their card, texts with the edges of their card.
OVERLAPS = """
const svg = [...document.querySelectorAll("svg.topology")].find(s => s.getClientRects().length);
const found = [];
const hit = (a, b) => Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 0.5
  && Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 0.5;
const words = [...svg.querySelectorAll("text")].map(t => [t, t.getBBox()]).sort((a, b) => a[1].y - b[1].y);
words.forEach(([t, a], i) => {
  for (let j = i + 1; j < words.length && words[j][1].y < a.y + a.height; j++)
    if (hit(a, words[j][1])) found.push([t.textContent, words[j][0].textContent]);
});
svg.querySelectorAll(".card").forEach(card => {
  const box = card.querySelector(".box").getBBox();
  const pills = [...card.querySelectorAll(".pill rect")].map(r => r.getBBox());
  card.querySelectorAll("text").forEach(t => {
    const b = t.getBBox(), pill = t.closest(".pill");
    if (b.x < box.x || b.x + b.width > box.x + box.width || b.y < box.y || b.y + b.height > box.y + box.height)
      found.push(["out of its card", t.textContent]);
    const own = pill && pill.querySelector("rect").getBBox();
    if (own && (b.x < own.x || b.x + b.width > own.x + own.width)) found.push(["out of its badge", t.textContent]);
    if (!pill && pills.some(p => hit(p, b))) found.push(["below a badge", t.textContent]);
  });
  svg.querySelectorAll(".group > text").forEach(t => {
    if (hit(t.getBBox(), box)) found.push(["below a card", t.textContent]);
  });
});
return found;
"""


@pytest.mark.parametrize("width", [360, 720, 880, 881, 1180, 1181])
def test_no_width_between_is_forgotten(screen: Any, pages: dict[str, Path], width: int) -> None:
    screen.show(pages["lab.html"], width)
    assert screen.run("return document.documentElement.scrollWidth") <= width
    assert screen.run(SMALLEST)[0] >= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_readable_quiet_and_alone(
    screen: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    path = pages[f"{name}.html"]
    screen.show(path, width, scheme)
    assert screen.run("return document.documentElement.scrollWidth") <= width
    assert screen.run(SMALLEST)[0] >= 12
    assert screen.run(OVERLAPS) == []
    assert screen.complaints() == []
    assert screen.requested() == [path.as_uri()]


def test_light_and_dark_differ_and_both_are_dressed(screen: Any, pages: dict[str, Path]) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        screen.show(pages["lab.html"], scheme=scheme)
        grounds.append(
            screen.run("""
            const card = document.querySelector("svg.wide .card.device .box");
            return [getComputedStyle(document.body).backgroundColor, getComputedStyle(card).fill]""")
        )
    assert grounds[0] == ["rgb(255, 255, 255)", "rgb(255, 255, 255)"]
    assert not set(grounds[0]) & set(grounds[1])


@pytest.mark.parametrize("width", [1280, 400])
def test_a_device_is_reached_by_tab_and_opened_by_enter_or_space(
    screen: Any, pages: dict[str, Path], width: int
) -> None:
    screen.show(pages["lab.html"], width)
    opened = "return document.querySelector('.details article.open')?.innerText"
    for _ in range(12):
        screen.press(TAB)
        if screen.run("return document.activeElement.classList.contains('card')"):
            break
    else:
        pytest.fail("no device was reached")
    assert screen.run("return getComputedStyle(document.activeElement.querySelector('.box')).strokeWidth") == "3px"
    assert "group 0" in screen.run("return document.activeElement.getAttribute('aria-label')")
    assert screen.run(opened) is None
    screen.press(ENTER)
    assert "0000:00:00.0" in screen.run(opened)
    assert screen.run("return document.activeElement.getAttribute('aria-current')") == "true"
    screen.press(ESCAPE)
    assert screen.run(opened) is None
    screen.press(DOWN, SPACE)
    told = screen.run(opened)
    assert "0000:00:01.0" in told
    assert "boot display" in told
    assert "/sys/bus/pci/devices/0000:00:01.0/boot_vga" in told
    screen.press(RIGHT)
    assert screen.run("return document.activeElement.closest('article').id") == "d-0000-00-01-0"
    screen.press(ESCAPE)
    assert screen.run("return document.activeElement.dataset.for") == "d-0000-00-01-0"
    screen.press(ENTER)
    top = screen.run("return document.querySelector('.details').getBoundingClientRect().top")
    assert 0 <= top < 800


def test_a_click_opens_a_device_and_an_address_in_the_plan_leads_to_it(screen: Any, pages: dict[str, Path]) -> None:
    screen.show(pages["lab.html"])
    screen.driver.find_element("css selector", "svg.wide a.card[data-for='d-0000-06-01-0']").click()
    assert screen.run("return document.querySelector('.details article.open').id") == "d-0000-06-01-0"
    screen.driver.find_element("css selector", "#plans a[data-for='d-0000-04-10-0']").click()
    assert screen.run("return document.querySelector('.details article.open').id") == "d-0000-04-10-0"
    assert screen.run("""
        const box = document.querySelector(".details").getBoundingClientRect();
        return box.top >= 0 && box.top < innerHeight""")


def test_without_its_script_the_page_still_opens_a_device(screen: Any, pages: dict[str, Path]) -> None:
    screen.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        screen.show(pages["lab.html"])
        before = screen.driver.find_element("id", "d-0000-06-01-0").is_displayed()
        screen.driver.find_element("css selector", "svg.wide a.card[data-for='d-0000-06-01-0']").click()
        assert (before, screen.driver.find_element("id", "d-0000-06-01-0").is_displayed()) == (False, True)
    finally:
        screen.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_hostile_texts_are_texts(screen: Any, pages: dict[str, Path]) -> None:
    screen.show(pages["hostile.html"])
    assert screen.run("return document.querySelectorAll('script').length") == 1
    assert screen.run("return document.querySelectorAll('img, iframe, object, embed, form').length") == 0
    assert screen.run("return document.title").startswith("<script>document.title='owned'</script>")
    assert "<script>" in screen.run("return document.querySelector('h1').innerText")
    names = screen.run("return [...document.querySelectorAll('svg.wide .name')].map(n => n.textContent)")
    assert sum("<script>" in name for name in names) > 5


def test_paper_shows_the_picture_and_every_reason(screen: Any, pages: dict[str, Path]) -> None:
    screen.show(pages["lab.html"], 720, "dark", media="print")
    screen.run("window.dispatchEvent(new Event('beforeprint'))")
    assert screen.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert screen.run("return document.querySelector('nav').getClientRects().length") == 0
    assert screen.run("return document.querySelector('.placeholder').getClientRects().length") == 0
    assert screen.run("return document.querySelector('svg.wide').getClientRects().length") == 1
    assert screen.run("return document.documentElement.scrollWidth") <= 720
    assert screen.run("return document.querySelectorAll('#plans details:not([open])').length") == 0
    screen.run("window.dispatchEvent(new Event('afterprint'))")
    assert screen.run("return document.querySelectorAll('#plans details[open]').length") == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_alone_is_shown_without_complaint(screen: Any, pages: dict[str, Path], name: str) -> None:
    path = pages[f"{name}.svg"]
    screen.show(path)
    assert screen.run("return document.documentElement.tagName") == "svg"
    assert screen.run("return document.querySelectorAll('.card .box').length") > 5
    assert screen.complaints() == []
    assert screen.requested() == [path.as_uri()]

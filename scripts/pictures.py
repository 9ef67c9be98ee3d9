"""Writes the pictures of the report in docs/pictures: of the lab PC and of three recorded ones. Look at them."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import browsers  # noqa: E402
import overviews  # noqa: E402

from clienthv.report import page, svg  # noqa: E402

MOST_BYTES = 250_000
PICTURES = REPOSITORY / "docs" / "pictures"
TREE = "topology"


class Picture(NamedTuple):
    """One picture: of which PC with which plans, how wide and high at most, from which section, which device open."""

    name: str
    host: str
    profiles: tuple[str, ...]
    width: int = 1280
    height: int = 1180
    scheme: str = "light"
    since: str = ""
    opened: str = ""


WANTED = (
    Picture("lab", "lab-full", ("performance", "balanced"), opened="d-0000-00-11-0"),
    Picture("lab-dark", "lab-full", ("performance", "balanced"), scheme="dark", opened="d-0000-00-01-0"),
    Picture("lab-narrow", "lab-full", ("performance", "balanced"), width=400, height=1700),
    Picture(
        "desktop",
        "fa-desk-9950x3d-rtx4080-x870e",
        ("performance",),
        since=TREE,
        height=920,
        opened="d-0000-01-00-0",
    ),
    Picture("laptop", "fa-laptop-fw13-13thgen", ("balanced",), height=950, since=TREE, opened="d-0000-00-02-0"),
    Picture("server", "fa-srv-sys110p-x550vfio", ("performance",), height=950, since=TREE, opened="d-0000-01-00-0"),
)


def take(driver: Any, wanted: Picture, html: Path) -> bytes:
    """A page as a PNG, from its top or from a section of it."""
    browsers.dress(driver, wanted.width, wanted.scheme)
    driver.get(html.as_uri() + (f"#{wanted.opened}" if wanted.opened else ""))
    driver.execute_script("scrollTo(0, 0)")
    top = driver.execute_script("return (document.getElementById(arguments[0])?.offsetTop ?? 16) - 16", wanted.since)
    height = min(wanted.height, driver.execute_script("return document.documentElement.scrollHeight") - top)
    clip = {"x": 0, "y": top, "width": wanted.width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])


def main() -> None:
    """Write every picture, and each PC's topology as SVG."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    driver = browsers.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for wanted in WANTED:
                html = Path(folder, f"{wanted.name}.html")
                overview = overviews.overview(overviews.recorded(wanted.host), *wanted.profiles)
                html.write_text(page.page(overview))
                png = take(driver, wanted, html)
                if len(png) > MOST_BYTES:
                    sys.exit(f"{wanted.name} has {len(png)} bytes, more than {MOST_BYTES}: take less of the page")
                (PICTURES / f"report-{wanted.name}.png").write_bytes(png)
                if wanted.scheme == "light" and wanted.width > 1000:
                    (PICTURES / f"report-{wanted.name}.svg").write_text(svg.alone(overview))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()

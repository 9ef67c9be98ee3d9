from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import overviews
import pytest

from clienthv.report import page, svg


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """One browser for all tests."""
    try:
        browser = browsers.start()
    except browsers.NoBrowserError as e:
        pytest.skip(str(e))
    yield browser
    browser.quit()


class Screen:
    """A browser window that shows one page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, path: Path, width: int = 1280, scheme: str = "light", media: str = "") -> None:
        """Load a page at a width, in light or dark."""
        browsers.dress(self.driver, width, scheme, media)
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body returns."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What stands in the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """The addresses that were asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()


@pytest.fixture
def screen(driver: Any) -> Screen:
    return Screen(driver)


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports: of the lab PC with two VMs, of a server, of a desktop, and of a hostile PC."""
    folder = tmp_path_factory.mktemp("reports")
    of = {
        "lab": overviews.overview(overviews.recorded("lab-full"), "performance", "balanced"),
        "server": overviews.overview(overviews.recorded("fa-srv-sys110p-x550vfio"), "performance"),
        "desktop": overviews.overview(overviews.recorded("fa-desk-9950x3d-rtx4080-x870e"), "performance"),
        "hostile": overviews.hostile(),
    }
    written = {}
    for name, overview in of.items():
        for ending, text in (("html", page.page(overview)), ("svg", svg.alone(overview))):
            path = folder / f"{name}.{ending}"
            path.write_text(text)
            written[path.name] = path
    return written

"""A headless Chromium for tests of pages and for the pictures in the documents."""

from __future__ import annotations

import os
import shutil
from typing import Any

_DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class NoBrowserError(Exception):
    """What is needed is not installed."""


def _found(names: tuple[str, ...], what: str) -> str:
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        message = f"{what} is not installed"
        raise NoBrowserError(message)
    return path


def start() -> Any:
    """A browser that logs what it asks the network for, and what it complains of. Raises NoBrowserError."""
    try:
        from selenium import webdriver
    except ImportError as e:
        message = "selenium is not installed"
        raise NoBrowserError(message) from e
    service = webdriver.ChromeService(executable_path=_found(_DRIVERS, "chromedriver"))
    options = webdriver.ChromeOptions()
    options.binary_location = _found(_BROWSERS, "Chromium")
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which Chromium refuses to root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=service)


def dress(driver: Any, width: int, scheme: str = "light", media: str = "", height: int = 900) -> None:
    """Set the window's size, light or dark, and screen or paper."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

"""Debian's chromium, headless, and a page in it as its user sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_OPTIONS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
_WAIT_S = 30.0


def new_browser(folder: Path) -> Any:
    """A driver of a browser with an empty profile in a folder; skips where there is none."""
    missing = [str(file) for file in (CHROMIUM, DRIVER) if not file.exists()]
    if missing:
        pytest.skip(f"needs Debian's chromium and chromium-driver; there is no {missing[0]}")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra test)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*_OPTIONS, f"user-data-dir={folder / 'profile'}"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    where = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    return driver


class Tab:
    """The page after a start from the beginning.

    Args:
        driver: of the browser.
        address: of the page.
    """

    def __init__(self, driver: Any, address: str, width: int = 1200, height: int = 900) -> None:
        self.driver, self.address = driver, address
        self.resize(width, height)
        for kind in ("browser", "performance"):  # what others left
            driver.get_log(kind)
        driver.get(address)
        self.wait(lambda: self.all("[aria-current]"))

    def resize(self, width: int, height: int, touch: bool = False) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})

    def wait(self, is_so: Callable[[], Any]) -> Any:
        """Wait until something is so; what it is."""
        deadline = time.monotonic() + _WAIT_S
        while not (found := is_so()):
            assert time.monotonic() < deadline, (self.text("#title"), self.text("#message"))
            time.sleep(0.02)
        return found

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        text: str = self.script("return document.querySelector(arguments[0]).textContent", selector)
        return " ".join(text.split())

    def script(self, text: str, *arguments: object) -> Any:
        return self.driver.execute_script(text, *arguments)

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def press(self, *keys: str) -> None:
        """Keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def play(self, *vertices: str) -> None:
        """Click on points, each when the one before was answered."""
        for vertex in vertices:
            before = self.line
            self.click(f"[data-vertex={vertex}]")
            self.wait(lambda: self.line != before)  # noqa: B023

    @property
    def line(self) -> list[str]:
        """The moves that are looked at."""
        moves: list[str] = self.script(
            "return [...document.querySelectorAll('#moves .on-line:not(.start)')]"
            ".map((each) => each.lastChild.textContent)"
        )
        return moves

    def wait_for(self, line: str) -> None:
        """Wait until these moves are looked at."""
        self.wait(lambda: self.line == line.split())

    def label(self, vertex: str) -> str:
        """What a screen reader says of a point."""
        said: str = self.one(f"[data-vertex={vertex}]").get_attribute("aria-label")
        return said

    def complaints(self) -> list[str]:
        """What the browser's console shows, and every request that went elsewhere."""
        found = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                own = (
                    self.address,
                    f"blob:{self.address.rsplit('/', 2)[0]}/",
                    "chrome://",
                    "data:",
                )
                if not url.startswith(own):
                    found.append(url)
        return found

"""Chromium without a window, for the tests of the HTML report."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlparse

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
    "--window-size=1280,900",
)


class Browser:
    """A Chromium with a new profile of its own, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={directory}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, page: Path) -> None:
        """Opens a file; what was logged before is forgotten."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri())

    def complaints(self) -> list[str]:
        """What the console says since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was asked for since the page was opened, but for the page itself."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if urlparse(url).scheme not in ("file", "data") or not url.endswith(".html")]

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def press(self, *keys: str) -> None:
        """Keys, to what has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def click(self, selector: str, number: int = 0) -> None:
        """A click of the mouse on one of the elements that match."""
        found = self.driver.find_elements("css selector", selector)[number]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        webdriver.ActionChains(self.driver).move_to_element(found).click().perform()

    def double_click(self, selector: str, number: int = 0) -> None:
        """Two clicks on one of the elements that match."""
        found = self.driver.find_elements("css selector", selector)[number]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        webdriver.ActionChains(self.driver).double_click(found).perform()

    def prefers(self, scheme: str) -> None:
        """As if the system were set to ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", media="", features=[feature])

    def sized(self, width: int, height: int = 900) -> None:
        """A window of this many CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def printed(self) -> bytes:
        """The page as PDF, on A4."""
        made = self.command("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(made["data"])

    def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        return cast(dict[str, Any], self.driver.execute_cdp_cmd(name, parameters))


def started(directory: Path) -> Browser:
    """A browser that keeps its files in the directory; skips the test where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Chromium and chromedriver")
    return Browser(directory)

"""A real headless Chromium for the tests of the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
TRAP = """
window.__hits = [];
for (const name of ["alert", "confirm", "prompt", "open", "print"]) {
  window[name] = (...args) => window.__hits.push(name);
}
"""


def started(profile: Path) -> Any:
    """A browser with its own profile; the test fails where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.fail("needs chromium and chromedriver: make browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TRAP})
    return driver


def visit(browser: Any, path: Path, width: int = 1280) -> None:
    """Open the page afresh at that width, with the logs of earlier pages gone."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


def complaints(browser: Any) -> list[str]:
    """Whatever the console says, refusals by the page's own policy included."""
    return [str(entry["message"]) for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """Addresses that the page asked for, its own file and inlined pictures aside."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        str(event["params"]["request"]["url"])
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in asked if not url.startswith(("file:", "data:"))]

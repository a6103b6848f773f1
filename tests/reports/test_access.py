"""The page by axe-core: no violation of its rules, on light and on dark paper, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from browser import started, visit
from page_rows import inference, limits, scan

from tpubench.costs.published_cost import with_list_prices
from tpubench.reports import page
from tpubench.results.row import Row
from tpubench.results.select import select
from tpubench.results.store import Scan

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(tmp_path_factory.mktemp("profile"))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


def both_sides() -> list[Row]:
    """A TPU and a GPU that measured the same case, and one device that made its times up."""
    rows = []
    for device, run in (("tpu-v6e", "aaaaaa"), ("nvidia-h100-sxm", "bbbbbb")):
        for row in inference(batch=8, device=device, run_id=f"20260101T000000-{run}"):
            rows.append(row)
            if row.metric == "output_tok_s":
                rows.append(replace(row, metric="output_tok_s_per_chip", unit="token/s/chip"))
    fake = {"backend": "fake", "device": "fake", "evidence": "modelled"}
    return [*rows, *inference(**fake, run_id="20260101T000000-cccccc"), *limits()]


def published() -> Scan:
    return with_list_prices(select(Path("nowhere"), ["published"]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("store", ["published", "both sides"])
def test_axe_finds_nothing(
    browser: Any, tmp_path: Path, store: str, width: int, scheme: str
) -> None:
    facts = published() if store == "published" else scan(both_sides())
    written = page.write(facts, tmp_path)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        visit(browser, written.paths[0], width)
        browser.execute_script(
            "document.querySelectorAll('details:not(.allfigures)').forEach(d => { d.open = true })"
        )
        # The rows of the long table are all alike: a few of them are looked at.
        browser.execute_script(
            "[...document.querySelectorAll('.figuretable tbody tr')].slice(5)"
            ".forEach(row => row.remove())"
        )
        options = {"resultTypes": ["violations"]}
        violations = Axe().run(browser, options=options)["violations"]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert [(v["id"], json.dumps(v["nodes"])[:400]) for v in violations] == []

"""The table of all figures: sorted, filtered and saved in a real browser."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import complaints, started, visit
from page_rows import ATTACKS, hostile, inference, limits, scan

from tpubench.reports import page
from tpubench.reports.findings import find
from tpubench.reports.sections import sections
from tpubench.results.row import Row

pytestmark = pytest.mark.browser
ROWS = """
return [...document.querySelectorAll(".figuretable tbody tr")]
  .filter((row) => !row.hidden).map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
"""
CSV = "return document.querySelector('.allfigures').figuresCsv()"
CHOOSE = """
const [column, value] = arguments;
const select = document.querySelector(`[data-filter="${column}"]`);
select.value = value;
select.dispatchEvent(new Event("input"));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def opened(browser: Any, folder: Path, rows: list[Row]) -> None:
    findings = find(scan(rows), dt.datetime.now(dt.UTC))
    path = folder / "report.html"
    path.write_text(page.render(findings, sections(findings)), encoding="utf-8")
    visit(browser, path)
    browser.execute_script("document.querySelector('.allfigures').open = true")


def click(browser: Any, heading: str) -> None:
    for button in browser.find_elements("css selector", ".figuretable th button"):
        if button.text.startswith(heading):
            browser.execute_script("arguments[0].click()", button)


def test_numbers_sort_as_numbers_in_both_directions(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, [*inference(batch=1), *inference(batch=100), *limits()])
    browser.execute_script(CHOOSE, 6, "output_tok_s")
    click(browser, "Value")
    assert [row[7] for row in browser.execute_script(ROWS)] == ["347 tok/s", "34,700 tok/s"]
    click(browser, "Value")
    assert [row[7] for row in browser.execute_script(ROWS)] == ["34,700 tok/s", "347 tok/s"]


def test_filters_and_text_narrow_it_down_and_say_how_far(browser: Any, tmp_path: Path) -> None:
    other = inference(device="tpu-v6e", run_id="20260101T000000-bbbbbb")
    opened(browser, tmp_path, [*inference(), *other])
    browser.execute_script(CHOOSE, 2, "TPU v6e")
    rows = browser.execute_script(ROWS)
    assert len(rows) == 7
    assert {row[2] for row in rows} == {"TPU v6e"}
    browser.find_element("css selector", "[data-search]").send_keys("ttft bbbbbb")
    ((_, _, _, _, _, _, metric, *_),) = browser.execute_script(ROWS)
    assert metric == "ttft_s"
    assert browser.find_element("css selector", ".count").text == "1 of 14 figures"


def test_the_csv_holds_what_is_shown_exactly(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, [*inference(), *limits()])
    browser.execute_script(CHOOSE, 6, "ttft_s")
    heading, row = csv.reader(io.StringIO(browser.execute_script(CSV)))
    cells = dict(zip(heading, row, strict=True))
    assert cells["Figure"] == "ttft_s"
    assert float(cells["Exact value"]) == pytest.approx(0.101, abs=0.0002)
    assert len(cells["Exact value"]) > 8
    assert complaints(browser) == []


def test_no_cell_of_the_csv_is_a_formula(browser: Any, tmp_path: Path) -> None:
    attacks = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", 'a","b', *ATTACKS[:8]]
    opened(browser, tmp_path, hostile(attacks))
    lines = list(csv.reader(io.StringIO(browser.execute_script(CSV))))
    assert len({len(line) for line in lines}) == 1
    cells = [cell for line in lines for cell in line]
    assert "'=cmd|' /C calc'!A0" in cells
    for cell in cells:
        if cell[:1] in {"=", "+", "-", "@"}:
            float(cell)  # a number is no formula
    assert browser.execute_script("return window.__hits") == []

"""The page in a real browser: it draws, asks for nothing, and runs nobody else's code."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import complaints, requests, started, visit
from page_rows import ATTACKS, hostile, inference, limits, scan

from tpubench.costs.published_cost import with_list_prices
from tpubench.reports import page
from tpubench.reports.findings import find
from tpubench.reports.sections import sections
from tpubench.results.select import select

pytestmark = pytest.mark.browser

POLICY = "Content-Security-Policy"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary report."""
    rows = [*inference(batch=1), *inference(batch=8), *limits()]
    return page.write(scan(rows), tmp_path_factory.mktemp("plain")).paths[0]


DRAWN = """
const wide = (svg) => svg.getBoundingClientRect().width > 100;
return [...document.querySelectorAll("[data-chart]")].map(
  (figure) => [...figure.querySelectorAll("svg")].some(wide)
);
"""


def test_every_chart_is_drawn_under_the_policy(browser: Any, plain: Path) -> None:
    visit(browser, plain)
    assert browser.execute_script(DRAWN) == [True] * 7
    assert complaints(browser) == []
    assert requests(browser) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_never_scrolls_sideways(browser: Any, plain: Path, width: int) -> None:
    visit(browser, plain, width)
    unfold = "for (const part of document.querySelectorAll('details')) part.open = true;"
    sizes = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    inner, outer = browser.execute_script(unfold + sizes)
    assert inner <= outer <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_the_published_results_fit_the_screen(browser: Any, tmp_path: Path, width: int) -> None:
    published = with_list_prices(select(tmp_path / "none", ["published"]))
    written = page.write(published, tmp_path / "page").paths
    visit(browser, written[0], width)
    unfold = "for (const part of document.querySelectorAll('details')) part.open = true;"
    sizes = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    inner, outer = browser.execute_script(unfold + sizes)
    assert inner <= outer <= width
    assert complaints(browser) == []


@contextlib.contextmanager
def without_scripts(browser: Any) -> Iterator[None]:
    """The page as a mail client or a locked-down browser shows it."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_without_scripts_every_chart_is_still_there(browser: Any, plain: Path) -> None:
    with without_scripts(browser):
        visit(browser, plain)
        marks = browser.find_elements("css selector", "[data-chart] .dot")
        assert len(marks) > 20
        assert sum(mark.is_displayed() for mark in marks) > 20


def test_the_keyboard_reaches_every_mark_of_a_chart(browser: Any, plain: Path) -> None:
    visit(browser, plain)
    area = browser.find_element("css selector", "[data-chart=cost] [data-plane]")
    readouts = []
    for _ in range(2):
        area.send_keys("\ue014")  # arrow right
        readouts.append(browser.find_element("css selector", "[data-chart=cost] .readout").text)
    assert len(set(readouts)) == 2
    assert all("per million output tokens" in text for text in readouts)


def test_the_published_results_print_on_a_dozen_pages(browser: Any, tmp_path: Path) -> None:
    published = with_list_prices(select(tmp_path / "none", ["published"]))
    visit(browser, page.write(published, tmp_path / "page").paths[0])
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12


@pytest.mark.parametrize("width", [700, 820, 1100])
def test_nothing_on_the_first_screen_covers_anything_else(
    browser: Any, tmp_path: Path, width: int
) -> None:
    published = with_list_prices(select(tmp_path / "none", ["published"]))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print" if width < 800 else ""})
    try:
        visit(browser, page.write(published, tmp_path / "page").paths[0], width)
        boxes = browser.execute_script(
            "return ['.first .ways', '.first .side'].map(selector => {"
            "  const box = document.querySelector(selector).getBoundingClientRect();"
            "  return [box.left, box.top, box.right, box.bottom]; })"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    (_, _, right, bottom), (left, top, _, _) = boxes
    assert right <= left or bottom <= top


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_answer_fits_the_first_screen_in_both_colours(
    browser: Any, tmp_path: Path, dark: bool
) -> None:
    published = with_list_prices(select(tmp_path / "none", ["published"]))
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        visit(browser, page.write(published, tmp_path / "page").paths[0])
        bottom = "return document.querySelector('.trust').getBoundingClientRect().bottom"
        assert browser.execute_script(bottom) <= 900
        paper = "return getComputedStyle(document.body).backgroundColor"
        red = int(re.findall(r"\d+", browser.execute_script(paper))[0])
        assert (red < 60) is dark
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


SURVEY = """
for (const part of document.querySelectorAll("details")) part.open = true;
const all = [...document.querySelectorAll("*")];
for (const mark of document.querySelectorAll("[data-hover]")) {
  mark.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
}
return {
  hits: window.__hits,
  charts: document.querySelectorAll("[data-chart]").length,
  handlers: all.filter(e => [...e.attributes].some(a => /^on/i.test(a.name))).length,
  scripts: document.scripts.length,
  links: all.filter(e => e.matches("a, area, [*|href]"))
    .map(e => e.getAttribute("href") || e.getAttribute("xlink:href"))
    .filter(href => !/^#[sw][0-9]+$/.test(href)),
  foreign: all.filter(e => e.matches(
    "iframe, object, embed, base, link, form, img, video, audio, marquee, template, math"
  )).length,
  shown: document.querySelector("main").textContent,
};
"""


@pytest.mark.parametrize("start", range(0, len(ATTACKS), 40))
@pytest.mark.parametrize("guarded", [True, False], ids=["policy", "escaping-alone"])
def test_no_hostile_text_runs(
    browser: Any, tmp_path: Path, hostile_pages: dict[int, Path], start: int, guarded: bool
) -> None:
    path = hostile_pages[start]
    if not guarded:
        # The policy is the second wall. The first must hold without it.
        html = path.read_text(encoding="utf-8")
        assert POLICY in html
        path = tmp_path / "unguarded.html"
        path.write_text(html.replace(POLICY, "x-none"), encoding="utf-8")
    visit(browser, path)
    survey = browser.execute_script(SURVEY)
    assert survey["hits"] == []
    assert survey["charts"] == 7
    assert survey["handlers"] == 0
    assert survey["scripts"] == 2
    assert survey["links"] == []
    assert survey["foreign"] == 0
    assert "<" in survey["shown"], "hostile text is shown as it stands"
    assert complaints(browser) == []
    assert requests(browser) == []


@pytest.fixture(scope="module")
def hostile_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Three pages that together hold all hostile strings, forty in each."""
    assert len(set(ATTACKS)) >= 100
    folder = tmp_path_factory.mktemp("hostile")
    pages = {}
    for start in range(0, len(ATTACKS), 40):
        findings = find(scan(hostile(ATTACKS[start : start + 40])), dt.datetime.now(dt.UTC))
        parts = sections(findings)
        pages[start] = folder / f"{start}.html"
        pages[start].write_text(page.render(findings, parts), encoding="utf-8")
    return pages

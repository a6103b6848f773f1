"""The sliders: what the page's script answers is what the command line answers, to six digits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import complaints, started, visit
from page_rows import inference, scan

from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.prices import prices
from tpubench.reports import page
from tpubench.reports.answers import view, words
from tpubench.reports.answers.build import Answers
from tpubench.reports.answers.model import grid
from tpubench.reports.answers.service import at_level
from tpubench.reports.answers.settings import RANGES, ReportSettings, parse
from tpubench.reports.answers.verdicts import answer_with
from tpubench.results.select import select

pytestmark = pytest.mark.browser
SETTINGS = 50
DIGITS = 1e-6

READ = """
const text = (element) => element.textContent.replace(/\\s+/g, " ").trim();
const at = (root, selector) => [...root.querySelectorAll(selector)];
return {
  verdicts: Object.fromEntries(at(document, "[data-verdict]").map((cell) => {
    const [head, sure, sides] = at(cell, "p");
    return [cell.dataset.verdict, {
      ratio: Number(head.dataset.ratio), p: Number(head.dataset.p), tone: head.className,
      head: text(head), sure: text(sure), sides: text(sides),
    }];
  })),
  costs: Object.fromEntries(at(document, "[data-work]").flatMap((table) =>
    at(table, "[data-way]").map((row) => [
      `${table.dataset.work}-${row.dataset.way}`,
      { usd: Number(row.querySelector(".cost").dataset.usd), cost: text(row.querySelector(".cost")),
        hour: text(row.querySelector(".hour")), spoken: text(row.querySelector(".vh")),
        decides: row.classList.contains("decides"),
        dot: parseFloat(row.querySelector("circle.dot")?.getAttribute("cx")
          ?? row.querySelector(".dot").parentNode.getAttribute("x")) },
    ]))),
  flips: Object.fromEntries(at(document, "[data-flips]").map((list) => [
    list.dataset.flips,
    { at: at(list, "li").map((item) => Number(item.dataset.at)), text: at(list, "li").map(text),
      likely: at(list, "li").map((item) => item.className),
      span: text(list.parentNode.querySelector(".span")) },
  ])),
  basis: Object.fromEntries(at(document, "[data-basis]").map((e) => [e.dataset.basis, text(e)])),
  more: at(document, "[data-more]").map(text),
  asked: text(document.querySelector(".asked")),
  service: at(document, "[data-curve]").map((row) => ({
    usd: row.cells[2].dataset.usd, texts: [2, 3, 4, 5, 6].map((i) => text(row.cells[i])),
  })),
};
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> page.Written:
    published_facts = with_list_prices(select(Path("nowhere"), ["published"]))
    return page.write(published_facts, tmp_path_factory.mktemp("published"))


def turned(random_: random.Random) -> list[str]:
    """Arguments of ``--set`` for some of the sliders, and at times a price for the work."""
    chosen = [r for r in RANGES if random_.random() < 0.7]
    arguments = [f"{r.path}={random_.uniform(r.low, r.high):.4g}" for r in chosen]
    if random_.random() < 0.5:
        arguments.append(f"slo={random_.uniform(5, 120):.4g}")
    if random_.random() < 0.3:
        arguments.append(f"token_price={random_.uniform(0.1, 9):.3g}")
    return arguments


def link(browser: Any, arguments: list[str]) -> Any:
    """Go to the settings by the page's own link, and read what it then says."""
    parts = [argument.partition("=") for argument in arguments]
    hash_ = "&".join(f"{quote(path, safe='')}={value}" for path, _, value in parts) or "readiness=1"
    # The page's own listener was there first, so it has answered when this one is called.
    browser.execute_async_script(
        "const [hash, done] = arguments;"
        "if (location.hash === `#${hash}`) { done(); return; }"
        "addEventListener('hashchange', () => done(), { once: true });"
        "location.hash = hash;",
        hash_,
    )
    return browser.execute_script(READ)


def expected(answers: Answers, settings: ReportSettings) -> Answers:
    return Answers(
        settings=settings,
        lines=answers.lines,
        answers=tuple(answer_with(one, settings) for one in answers.answers),
        trust=answers.trust,
        curves=answers.curves,
    )


def test_fifty_settings_answer_as_the_command_line_does(
    browser: Any, published: page.Written
) -> None:
    visit(browser, published.paths[0])
    random_ = random.Random(18)
    for _ in range(SETTINGS):
        arguments = turned(random_)
        seen = link(browser, arguments)
        right = expected(published.answers, parse(arguments))
        assert_same(seen, right)
        for argument in arguments:
            assert f"--set '{argument}'" in seen["asked"]
    assert complaints(browser) == []


def assert_same(seen: Any, right: Answers) -> None:
    """Every verdict, cost, flip and sentence of the page against the builder's."""
    assert seen["verdicts"]
    for key, on_page in seen["verdicts"].items():
        work, index = map(int, key.split("-"))
        one = right.answers[work]
        verdict = one.verdicts[index]
        assert on_page["ratio"] == pytest.approx(verdict.compared.ratio, rel=DIGITS)
        assert on_page["p"] == pytest.approx(verdict.compared.p_tpu_cheaper, rel=DIGITS)
        assert on_page["head"] == words.head(one, verdict)
        assert on_page["tone"] == f"head {view.tone(one, verdict)}"
        assert on_page["sure"] == f"{verdict.at}: {words.sure(one, verdict)}"
        assert on_page["sides"] == words.sides(one, verdict)
    views = {work.index: work for work in view.work_views(right)}
    ways = {f"{work.index}-{way.index}": way for work in views.values() for way in work.ways}
    assert set(seen["costs"]) == set(ways)
    for key, on_page in seen["costs"].items():
        assert on_page["usd"] == pytest.approx(ways[key].cost_usd, rel=DIGITS)
        assert (on_page["cost"], on_page["hour"]) == (ways[key].cost, ways[key].per_hour)
        assert (on_page["spoken"], on_page["decides"]) == (ways[key].spoken, ways[key].decides)
        assert on_page["dot"] == pytest.approx(ways[key].dot, abs=0.01)
    for key, on_page in seen["flips"].items():
        one, shown = right.answers[int(key)], views[int(key)]
        assert on_page["at"] == pytest.approx([flip.at for flip in one.flips], rel=DIGITS)
        assert on_page["likely"] == ["likely" if f.plausible else "unlikely" for f in shown.flips]
        for text, flip in zip(on_page["text"], shown.flips, strict=True):
            assert text.startswith(flip.text)
            assert f"--set '{flip.setting}'" in text
        assert on_page["span"] == f"{shown.price_span}."
    for key, on_page in seen["basis"].items():
        assert on_page == words.basis(right.answers[int(key)])
    for on_page, curve in zip(seen["service"], view.curve_views(right), strict=True):
        assert on_page["texts"] == [curve.cost, curve.rate, curve.per_mw, curve.per_musd, curve.how]
        exact = at_level(right.curves[curve.index], right.settings).usd_per_mtok
        if exact is None:
            assert on_page["usd"] == ""
        else:
            assert float(on_page["usd"]) == pytest.approx(exact, rel=DIGITS)
    assert seen["more"] == [line.more for line in view.line_views(right) if line.more]


def test_a_page_of_settings_opens_at_them_and_resets(browser: Any, tmp_path: Path) -> None:
    published_facts = with_list_prices(select(Path("nowhere"), ["published"]))
    arguments = ["price[tpu]*=0.4567", "readiness=0.75", "price[v7]=9"]
    written = page.write(published_facts, tmp_path, table=prices(), settings=parse(arguments))
    visit(browser, written.paths[0])
    seen = browser.execute_script(READ)
    assert_same(seen, written.answers)
    browser.execute_script("document.querySelector('.reset').click()")
    reset = expected(written.answers, parse(["price[v7]=9"]))
    assert_same(browser.execute_script(READ), reset)


def test_a_slider_moved_by_hand_is_in_the_link(browser: Any, published: page.Written) -> None:
    visit(browser, published.paths[0])
    slider = browser.find_element("css selector", "[data-path='price[tpu]*']")
    slider.send_keys("\ue012" * 3)  # arrow left
    address = browser.execute_script("return location.hash")
    assert address.startswith("#price%5Btpu%5D*=0.")
    before = browser.execute_script(READ)
    visit(browser, published.paths[0].with_name(f"report.html{address}"))
    browser.get(f"{published.paths[0].as_uri()}{address}")
    assert browser.execute_script(READ) == before


def test_measured_intervals_move_with_the_sliders(browser: Any, tmp_path: Path) -> None:
    rows = [
        row
        for device, run in (("tpu-v6e", "aaaaaa"), ("nvidia-h100-sxm", "bbbbbb"))
        for row in inference(batch=8, device=device, run_id=f"20260101T000000-{run}")
    ]
    written = page.write(scan(rows), tmp_path)
    visit(browser, written.paths[0])
    arguments = ["price[gpu]*=1.5", "utilisation=0.5"]
    if written.answers.answers:
        assert_same(link(browser, arguments), expected(written.answers, parse(arguments)))
    assert complaints(browser) == []


def test_without_scripts_a_table_of_nine_stands_in(browser: Any, published: page.Written) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(browser, published.paths[0])
        cells = browser.find_elements("css selector", ".static td")
        assert all(cell.is_displayed() for cell in cells)
        shown = [cell.text for cell in cells]
        first = published.answers.lines[0].answer or 0
        assert shown == [text for row in grid(published.answers, first) for text in row]
        assert not browser.find_element("css selector", ".sliders").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

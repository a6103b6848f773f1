"""What is taken out of the page: a chart as a picture, a table as CSV, in a real browser."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import complaints, requests, started, visit
from page_rows import inference, limits, scan
from PIL import Image

from tpubench.costs.published_cost import with_list_prices
from tpubench.reports import page
from tpubench.reports.answers import view
from tpubench.reports.figure import SHADES
from tpubench.results.select import select

pytestmark = pytest.mark.browser
PICTURE = """
const [name, done] = arguments;
const box = document.querySelector(`[data-save="${name}"]`);
Save.png(box).then((blob) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.readAsDataURL(blob);
}).catch((error) => done(`failed: ${error}`));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = started(tmp_path_factory.mktemp("profile"))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> page.Written:
    published_facts = with_list_prices(select(Path("nowhere"), ["published"]))
    return page.write(published_facts, tmp_path_factory.mktemp("published"))


def picture(browser: Any, name: str) -> Image.Image:
    address = browser.execute_async_script(PICTURE, name)
    assert address.startswith("data:image/png;base64,"), address
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def colours(image: Image.Image) -> set[str]:
    return {"#{:02x}{:02x}{:02x}".format(*image.getpixel((x, y))) for x in range(image.width)
            for y in range(0, image.height, 2)}  # fmt: skip


def test_the_first_chart_is_a_picture_in_the_makers_colours(
    browser: Any, published: page.Written
) -> None:
    visit(browser, published.paths[0])
    box = browser.find_element("css selector", '[data-save="ways-to-pay"]')
    image = picture(browser, "ways-to-pay")
    assert image.width >= 2 * box.size["width"]
    assert {SHADES["blue"][0], SHADES["orange"][0], "#ffffff"} <= colours(image)
    # Buttons and folded parts are no part of it, so it is no higher than what is shown.
    assert image.height <= 2 * box.size["height"] + 64
    assert complaints(browser) == []
    assert requests(browser) == []


def test_every_chart_of_measured_rows_can_be_taken_out(browser: Any, tmp_path: Path) -> None:
    hostile = '<img src=x onerror=alert(1)>"&\u0007'
    rows = [*inference(preset=hostile), *inference(batch=8, preset=hostile), *limits()]
    visit(browser, page.write(scan(rows), tmp_path).paths[0])
    boxes = browser.find_elements("css selector", "[data-save]")
    names = [box.get_attribute("data-save") for box in boxes]
    assert {"throughput", "latency", "cost", "roofline"} <= {*names}
    for name in names:
        assert len(colours(picture(browser, name))) > 8, name
    assert browser.execute_script("return window.__hits") == []
    assert complaints(browser) == []


def test_the_ways_to_pay_are_saved_exactly_and_as_no_formula(
    browser: Any, published: page.Written
) -> None:
    visit(browser, published.paths[0])
    saved = browser.execute_script(
        "return Save.csv(document.querySelector('[data-save=\"ways-to-pay\"]'))"
    )
    lines = list(csv.reader(io.StringIO(saved)))
    assert lines[0] == ["Way to pay", "$/h", "Cost", "Age"]
    first = view.work_views(published.answers)[0]
    exact = {f"{way.name} {way.label}": way.cost_usd for way in first.ways}
    assert {name: float(usd) for name, _, usd, _ in lines[1:]} == pytest.approx(exact)
    quoted = browser.execute_script("return ['=1+1', '+x', '-1.5', 'a,\"b\"'].map(Save.quoted)")
    assert quoted == ["'=1+1", "'+x", "-1.5", '"a,""b"""']


def test_the_buttons_save_files_of_their_names(browser: Any, published: page.Written) -> None:
    visit(browser, published.paths[0])
    names = browser.execute_async_script(
        """
        const done = arguments[0], names = [];
        HTMLAnchorElement.prototype.click = function () {
          names.push(this.download);
          if (names.length === 2) done(names);
        };
        const box = document.querySelector('[data-save="ways-to-pay"]');
        for (const button of box.querySelectorAll(":scope > .saving button")) button.click();
        """
    )
    assert names == ["ways-to-pay.csv", "ways-to-pay.png"]

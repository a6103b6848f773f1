"""The page: one file that needs nothing else, says what is known and what is not."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_rows import ATTACKS, environment, failure, hostile, inference, limits, scan
from sample_rows import make_row

from tpubench.devices.prices import price
from tpubench.errors import DamagedError, UsageError
from tpubench.reports import page, sections
from tpubench.reports.findings import find
from tpubench.reports.sections._shared import interval
from tpubench.results.calibration import as_calibration
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.store import Unreadable

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer"),
    *("nav", "p", "h1", "h2", "h3", "a", "div", "span", "strong", "code", "dl", "dt", "dd"),
    *("ul", "li", "figure", "figcaption", "img", "table", "caption", "thead", "tbody", "tr"),
    *("th", "td", "details", "summary", "script", "svg", "line", "circle", "rect", "path", "text"),
    *(
        "label",
        "output",
        "button",
        "select",
        "option",
        "input",
        "g",
        "polyline",
        "caption",
        "h4",
        "br",
    ),
}


class Reader(HTMLParser):
    """Tags, attributes, scripts and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(rows: Sequence[Row], unreadable: Sequence[Unreadable] = ()) -> Reader:
    """The page of these rows."""
    findings = find(scan(rows, unreadable), NOW)
    parts = sections.sections(findings)
    return Reader(page.render(findings, parts))


def test_the_page_comes_alone_unless_pictures_are_asked_for(tmp_path: Path) -> None:
    rows = [*inference(), *limits()]
    (alone,) = page.write(scan(rows), tmp_path / "new" / "folder", now=NOW).paths
    assert [path.name for path in alone.parent.iterdir()] == ["report.html"]
    written = page.write(scan(rows), tmp_path / "pictures", now=NOW, pngs=True).paths
    names = [path.name for path in written]
    assert names[:3] == ["report.html", "throughput.png", "latency.png"]
    assert {"cost.png", "roofline.png"} < set(names)
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(names)
    for path in written[1:]:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_pictures_of_another_store_do_not_stay(tmp_path: Path) -> None:
    page.write(scan([*inference(), *limits()]), tmp_path, now=NOW, pngs=True)
    for name in ("mine.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "latency.png").write_bytes(b"changed by hand")
    page.write(scan(limits()), tmp_path, now=NOW, pngs=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"throughput.png", "cost.png", "gaps.png"} & names == set()
    assert {"arithmetic.png", "mine.png", "notes.txt", "latency.png"} < names


def test_the_page_is_one_small_file_that_loads_nothing(tmp_path: Path) -> None:
    (written, *_) = page.write(scan([*inference(), *limits()]), tmp_path, now=NOW).paths
    html = written.read_text(encoding="utf-8")
    for tag, attributes in Reader(html).tags:
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith("#"), (tag, value[:80])
    assert len(html) < 300_000


def test_the_policy_allows_exactly_the_one_script_of_the_page() -> None:
    reader = page_of(inference())
    metas = [a for tag, a in reader.tags if tag == "meta"]
    policy = next(a["content"] or "" for a in metas if "Content-Security" in str(a))
    data, script = reader.scripts
    json.loads(data)
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"sha256-[A-Za-z0-9+/=]+", policy) == [f"sha256-{sha256}"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_the_headline_gives_the_key_figures_with_their_intervals() -> None:
    text = page_of([*inference(batch=1), *inference(batch=8)]).text
    assert "llama-infer on cpu" in text
    assert (
        "llama-infer tiny on cpu (A processor, 2 cores) makes 2,770 output tokens a second, at"
        " $0.200 per million of them ($2.00 a chip-hour): batch=8, measured, 95 % interval"
    ) in text
    for label in ("Decode throughput", "Prefill throughput", "Time to first token"):
        assert label in text
    assert "Of 2 cases, the one with the most output tokens a second: batch=8." in text
    assert text.count("3 repetitions") >= 5


def test_what_measured_the_machine_is_in_no_title_and_no_count() -> None:
    context = [as_calibration(row) for row in limits()]
    page_text = page_of([*inference(batch=1), *context]).text
    assert "llama-infer on cpu" in page_text and "gemm and hbm on" not in page_text
    assert "1 run of 1 case," in page_text and "cases: 1 measured" in page_text
    assert "The hardware's own limits" in page_text
    once = [row for row in context if row.repetition == 0]
    warned = page_of([*inference(batch=1), *once]).text
    assert "one repetition: no interval" not in warned


def test_one_repetition_has_no_interval_and_the_page_says_so() -> None:
    text = page_of(inference(repetitions=1)).text
    assert "Every case has one repetition: no interval" in text
    assert "a single value: no interval" in text


def test_one_kind_of_device_allows_no_comparison() -> None:
    sentence = "No TPU–GPU comparison can be made from these results alone."
    assert sentence in page_of(inference()).text
    assert "tpubench report published" in page_of(inference()).text
    assert sentence in page_of(inference(device="tpu-v6e")).text
    both = [*inference(device="tpu-v6e"), *inference(device="nvidia-h100-sxm")]
    assert sentence not in page_of(both).text


def test_without_a_price_there_is_no_cost_and_the_way_to_get_it(tmp_path: Path) -> None:
    page.write(scan(inference(priced=False)), tmp_path, now=NOW, pngs=True)
    assert not (tmp_path / "cost.png").exists()
    text = page_of(inference(priced=False)).text
    assert "No cost among these results" in text
    assert "--usd-per-chip-hour X" in text


@pytest.mark.parametrize("tpu", ["tpu-v4", "tpu-v6e"])
@pytest.mark.parametrize("gpu", ["nvidia-gh200-96gb", "nvidia-h100-sxm"])
@pytest.mark.parametrize(
    "trained", [(), ("tpu-v4", "nvidia-gh200-96gb"), ("tpu-v7", "nvidia-b200-sxm")]
)
def test_a_pair_of_which_some_have_no_price_has_its_page_all_the_same(
    tpu: str, gpu: str, trained: tuple[str, ...]
) -> None:
    """TPU v4 and GH200 have no list price; the chart is of a work that has one, if there is any."""
    rows = [make_row("output_tok_s_per_chip", [900.0], device=device) for device in (tpu, gpu)]
    rows += [
        make_row("train_tok_s_per_chip", [900.0], device=device, workload="llama-pretrain")
        for device in trained
    ]
    text = page_of(rows).text
    unpriced = {"tpu-v4", "nvidia-gh200-96gb"}
    assert ("no price with the host" in text) == bool(unpriced & {tpu, gpu, *trained})
    assert ("Way to pay" in text) == (not {tpu, gpu, *trained} <= unpriced)


def test_a_price_names_its_date_and_source_and_says_when_it_is_old() -> None:
    entry = price("gcp-us-east5-tpu-v6e-on_demand-2024-12-23")
    rows = [
        make_row(
            "usd_per_mtok_out",
            usd_per_chip_hour=entry.usd_per_chip_hour,
            price_id=entry.id,
            price_as_of=entry.as_of.isoformat(),
            price_sha256=sha,
            run_id=f"20260101T000000-{sha[:6]}",
        )
        for sha in (entry.sha256, "0" * 64)
    ]
    text = page_of(rows).text
    assert f"{entry.id}: 375 days old, of 2024-12-23" in text
    assert entry.source in text
    assert "this version's price table has another entry of that name" in text


def test_a_price_given_by_hand_is_marked() -> None:
    assert "A price was given by hand" in page_of(inference()).text


def test_a_scripted_clock_is_called_what_it_is() -> None:
    text = page_of(inference(backend="fake", device="fake", evidence="modelled")).text
    assert "Made-up times, no measurement" in text
    assert "Never use them." in text
    assert "modelled, fake" in text


def test_evidence_is_never_mixed_silently() -> None:
    rows = [*inference(), *inference(device="tpu-v6e", evidence="compiled", backend="tpu")]
    text = page_of(rows).text
    assert "Not every number here was measured." in text
    assert "compiled: the compiler's own estimate, nothing was executed" in text
    assert "TPU v6e" in text


def test_failed_and_invalid_repetitions_are_listed_with_their_reasons() -> None:
    rows = [*inference(), failure(), failure("it recompiled", status="invalid", repetition=1)]
    text = page_of(rows).text
    assert "2 repetitions gave no figure." in text
    assert "batch=99, repetition 1: failed: killed by SIGKILL" in text
    assert "batch=99, repetition 2: invalid: it recompiled" in text


def test_a_report_of_nothing_but_failures_says_so() -> None:
    assert "Every repetition failed or was invalid." in page_of([failure()]).text


def test_missing_figures_are_grouped_under_their_reason() -> None:
    rows = [
        make_row("mfu", value=None, samples=None, reason="no known peak of cpu", repetition=n)
        for n in range(3)
    ]
    text = page_of([*inference(), *rows]).text
    assert "mfu not obtained no known peak of cpu 3 repetitions of llama-infer" in text


def test_speed_that_had_not_settled_is_said() -> None:
    text = environment(timing={"steadiness": "slowing"})
    assert "Speed had not settled" in page_of(inference(environment=text)).text


def test_faster_than_a_published_peak_is_called_wrong() -> None:
    slow = environment(peaks={"flop_s": 1e9, "bytes_s": 1e9, "source": "a sheet"})
    sentence = "Above a published roof: faster than the device can be."
    assert sentence in page_of(inference(environment=slow)).text
    assert sentence not in page_of(inference()).text


def test_damaged_files_are_named() -> None:
    bad = Unreadable(path=Path("run/a.parquet"), error=DamagedError("run/a.parquet is damaged"))
    text = page_of(inference(), [bad]).text
    assert "1 file could not be read and is left out." in text
    assert "run/a.parquet is damaged" in text


def test_percentiles_that_the_samples_cannot_support_are_refused() -> None:
    text = page_of(inference()).text
    assert "needs 662" in text  # a p99 of 90 samples


def test_every_metric_on_the_page_is_defined() -> None:
    rows = [*inference(), *limits()]
    text = page_of(rows).text
    for name in {row.metric for row in rows}:
        assert METRICS[name].formula in text


def test_environments_that_differ_are_set_side_by_side() -> None:
    other = environment(fingerprint={"cpu_model": "Another", "usable_cores": 2})
    text = page_of([*inference(), *inference(batch=8, environment=other)]).text
    assert "2 different environments." in text
    assert "What differs: cpu_model." in text


def test_a_new_file_is_a_new_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s99_appendix.py").write_text(
        "from tpubench.reports.blocks import Section\n"
        "def section(findings):\n"
        "    return Section(title='Appendix', lead='Written by a test.')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    assert "Written by a test." in page_of(inference()).text


def test_hostile_text_makes_no_element_and_no_attribute() -> None:
    reader = page_of(hostile(ATTACKS[::5]))
    assert {tag for tag, _ in reader.tags} <= ALLOWED
    assert len(reader.scripts) == 2
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
    # ... and is there for the reader to see, as it stands.
    assert "<script>alert(1)</script>" in reader.text


def test_json_in_a_script_element_has_no_character_with_a_meaning() -> None:
    text = page.script_json({"</script>": "<!-- & \u2028 \u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"</script>": "<!-- & \u2028 \u2029"}


def test_nothing_to_report_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="drop a filter, or run a workload first"):
        page.write(scan([]), tmp_path)
    bad = Unreadable(path=Path("a.parquet"), error=DamagedError("a.parquet is damaged"))
    with pytest.raises(UsageError, match="none of 1 files could be read"):
        page.write(scan([], [bad]), tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot write the report to .*; choose another --out"):
        page.write(scan(inference()), taken)


def test_a_page_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.write(scan(inference()), tmp_path, now=NOW)
    before = (tmp_path / "report.html").read_bytes()

    def full_disk(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UsageError, match="No space left on device"):
        page.write(scan(limits()), tmp_path, now=NOW)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_an_interval_that_says_nothing_is_not_printed_as_figures() -> None:
    """Two repetitions a factor of four apart: the interval spans twenty powers of ten."""
    wide = Estimate(point=55.8, low=1.38e-5, high=2.26e8, n=2)
    assert interval(wide, "token/s") == (
        "unusable: the 95 % interval exceeds a factor of 10, 2 repetitions"
    )
    assert interval(Estimate(point=2.0, low=1.0, high=4.0, n=2), "token/s") == (
        "95 % interval 1.00 to 4.00 tok/s, 2 repetitions"
    )


def test_programs_without_a_card_are_named() -> None:
    rows = [
        row
        for number in range(8)
        for row in inference(preset=f"model-{number}", run_id=f"20260101T00000{number}-aaaaaa")
    ]
    text = page_of(rows).text
    assert "2 programs more without a card here" in text
    assert "llama-infer model-7 (bfloat16) on cpu (A processor, 2 cores), measured" in text


def test_nothing_measured_is_not_nothing_missing() -> None:
    text = page_of(inference(evidence="published", backend="imported")).text
    assert "nothing here was measured by this suite" in text
    assert "every figure of every repetition is there" not in text


def test_a_store_without_pairs_and_prices_has_no_empty_sections(tmp_path: Path) -> None:
    """The first page that a newcomer sees: one CPU, no price, nothing on the other side."""
    rows = []
    for batch in (1, 8):
        params = json.dumps({"batch": batch, "input_len": 128, "output_len": 64})
        changes = {"preset": "smollm2-135m", "params": params, "environment": environment()}
        rows += [replace(row, **changes) for row in inference(batch=batch, priced=False)]
        rows.append(make_row("output_tok_s_per_chip", [300.0] * 5, **changes))
    (path,) = page.write(scan([*rows, *limits()]), tmp_path, now=NOW).paths
    html = path.read_text(encoding="utf-8")
    assert "no TPU and no GPU did this work" in html
    assert 'id="works"' not in html and 'id="service"' not in html

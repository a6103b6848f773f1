"""One chart, two drawers: the page's template, and matplotlib for the PNG."""

from __future__ import annotations

import datetime as dt
import io
import math
import warnings

import pytest
from page_rows import ATTACKS, environment, failure, hostile, inference, limits, scan
from PIL import Image

from tpubench.devices.vendors import label
from tpubench.reports import charts, png
from tpubench.reports.figure import (
    MAX_CASES,
    OPEN_CASES,
    SYMBOLS,
    Axis,
    Chart,
    Dot,
    Dots,
    Plane,
    Point,
    Series,
    axis,
)
from tpubench.reports.findings import Findings, Names, clean, find, short
from tpubench.reports.sections import sections
from tpubench.results.row import Row

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def findings(*rows: Row) -> Findings:
    return find(scan(rows), NOW)


def drawn(*rows: Row) -> dict[str, Chart]:
    return {c.name: c for one in sections(findings(*rows)) for c in one.charts()}


def dot(point: float, low: float | None = None, high: float | None = None, **more: str) -> Dot:
    text = {
        "label": "a",
        "text": "1",
        "hover": "h",
        "colour": "blue",
        "side": "TPU",
        "evidence": "measured",
    } | more
    return Dot(**text, point=point, low=low, high=high)


def dots(*rows: Dot) -> Chart:
    return Chart(name="x", alt="", panels=(Dots(title="t", unit="u", rows=rows),))


def test_the_standard_charts_are_there() -> None:
    names = drawn(*inference(), *inference(batch=8), *limits())
    assert list(names) == [
        *("throughput", "latency", "gaps", "cost", "roofline", "arithmetic", "bandwidth")
    ]


def places(view: charts.DotsView | charts.PlaneView) -> list[float]:
    """Every place in a panel, in percent."""
    if isinstance(view, charts.DotsView):
        rows = (*view.rows, *view.folded)
        return [x for row in rows for x in (row.dot, *(row.bar or ()))]
    bars = [end for mark in view.marks for bar in mark.bars for end in bar]
    return [*(x for mark in view.marks for x in (mark.x, mark.y)), *bars]


def test_every_place_lies_on_its_axis() -> None:
    for chart in drawn(
        *inference(), *inference(batch=8), *limits(), *hostile(ATTACKS[:5])
    ).values():
        for view in charts.panels(chart):
            assert all(0 <= place <= 100 for place in places(view))


def test_what_was_not_measured_here_is_hollow_and_each_evidence_has_its_mark() -> None:
    chart = dots(*(dot(1.0, evidence=evidence) for evidence in SYMBOLS))
    (view,) = charts.panels(chart)
    assert isinstance(view, charts.DotsView)
    assert [row.hollow for row in view.rows] == [e != "measured" for e in SYMBOLS]
    assert len({row.shape for row in view.rows}) == len(SYMBOLS)


def test_a_maker_keeps_its_colour_from_chart_to_chart() -> None:
    places = {"tpu-v6e": "blue", "nvidia-h100-sxm": "orange", "amd-mi300x": "green", "cpu": "grey"}
    order = ["cpu", "amd-mi300x", "nvidia-h100-sxm", "tpu-v6e"]
    rows = [row for d in order for row in inference(device=d, run_id=f"20260101T000000-{d:.6}")]
    for chart in drawn(*rows).values():
        for panel in chart.panels:
            if isinstance(panel, Dots):
                for row in panel.rows:
                    device = next(d for d in order if label(d) in row.label)
                    assert row.colour == places[device]
            else:
                for series in panel.series:
                    assert series.colour == next(
                        places[d] for d in order if label(d) in series.name
                    )


def test_values_far_apart_get_a_logarithmic_axis() -> None:
    assert Dots(title="t", unit="u", rows=(dot(1.0), dot(300.0))).axis.log
    assert not Dots(title="t", unit="u", rows=(dot(1.0), dot(3.0))).axis.log


def test_an_interval_is_drawn_where_there_is_one() -> None:
    (view,) = charts.panels(dots(dot(2.0, 1.5, 3.0), dot(2.0)))
    assert isinstance(view, charts.DotsView)
    sure, unsure = view.rows
    assert sure.bar is not None
    assert sure.bar[0] < sure.dot < sure.bar[1]
    assert unsure.bar is None


def test_made_up_times_share_no_axis_with_measured_ones() -> None:
    fake = inference(backend="fake", evidence="modelled", run_id="20260101T000000-ffffff")
    chart = drawn(*inference(), *fake)["throughput"]
    titles = [panel.title for panel in chart.panels]
    assert sum("made-up times" in title for title in titles) == len(titles) / 2


def test_many_cases_are_folded_and_every_device_is_seen() -> None:
    rows = [row for n in range(120) for row in inference(batch=n + 1, repetitions=1)]
    rows += [
        row
        for n in range(120)
        for row in inference(
            batch=n + 1, repetitions=1, device="tpu-v6e", run_id="20260101T000000-bbbbbb"
        )
    ]
    chart = drawn(*rows)["throughput"]
    (view, *_) = charts.panels(chart)
    assert isinstance(view, charts.DotsView)
    assert len(view.rows) == OPEN_CASES
    assert len(view.rows) + len(view.folded) == MAX_CASES
    assert f"{MAX_CASES} of 240 cases are drawn" in chart.caption
    assert {row.colour for row in (*view.rows, *view.folded)} == {"grey", "blue"}


def test_a_huge_interval_does_not_squash_the_points() -> None:
    panel = Dots(title="t", unit="u", rows=(dot(10.0, 1.0, 9000.0), dot(8.0)))
    assert panel.axis.high == pytest.approx(27.5)
    assert panel.cut
    assert axis("x", [10.0], [(1e-9, 1e9)], log=True) == Axis(
        title="x", low=10 / 2.5 / 1.6, high=10 * 2.5 * 1.6, log=True
    )


def test_cost_is_set_against_the_pace_of_one_user() -> None:
    (panel,) = drawn(*inference(batch=4))["cost"].panels
    assert isinstance(panel, Plane)
    (series,) = panel.series
    (point,) = series.points
    assert point.label == "batch 4"
    assert point.x == pytest.approx(1 / 0.0202, rel=1e-3)
    assert point.x_interval is not None
    assert point.x_interval[0] < point.x < point.x_interval[1]
    assert point.y == pytest.approx(1e6 * 2 / (3600 * 4 * 350) * 1.01, rel=1e-3)


def test_a_legend_says_whose_device_it_is() -> None:
    chart = drawn(*inference(device="cpu", backend="cpu"))["throughput"]
    assert {row.side for panel in chart.panels for row in panel.rows} == {"CPU"}
    mine = dots(dot(1.0, colour="grey", side="CPU"), dot(2.0, colour="orange", side="Nvidia"))
    assert [*png.legend(mine)] == ["CPU (measured)", "Nvidia (measured)"]


def test_a_png_is_a_sharp_picture_and_the_same_each_time() -> None:
    chart = drawn(*inference(), *inference(batch=8))["latency"]
    first, second = png.draw(chart), png.draw(chart)
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        assert image.width >= 1400


def test_a_png_takes_no_text_for_mathematics_and_warns_of_no_glyph() -> None:
    text = "$\\frac{1}{$ \\undefined 計算"
    line = Series(name=text, points=(Point(x=1, y=1, label=text),), evidence="measured")
    plane = Plane(title=text, x=axis(text, [1.0]), y=axis(text, [1.0]), series=(line,))
    panel = Dots(title=text, unit=text, rows=(dot(1.0, label=text, text=text, colour="grey"),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png.draw(Chart(name="x", alt="", panels=(panel, plane))).startswith(b"\x89PNG")


def test_hostile_labels_are_drawn_as_they_stand() -> None:
    for chart in drawn(*hostile(ATTACKS[30:36])).values():
        assert png.draw(chart).startswith(b"\x89PNG")


def test_cases_are_named_by_what_tells_them_apart() -> None:
    waits = findings(*inference(batch=1), *inference(batch=8)).of("ttft_s")
    names = Names(waits)
    assert [names.label(summary) for summary in waits] == ["batch=1", "batch=8"]
    assert names.shared() == "llama-infer, tiny, cpu, 1 chip, bfloat16, input_len=16"


def test_a_device_is_told_wherever_it_differs() -> None:
    other = inference(device="tpu-v6e", backend="tpu")
    waits = findings(*inference(), *inference(batch=8), *other).of("ttft_s")
    names = Names(waits)
    labels = [names.label(summary) for summary in waits]
    assert labels == ["cpu · batch=1", "cpu · batch=8", "TPU v6e · batch=1"]


def test_the_same_case_run_twice_is_told_apart_by_its_run() -> None:
    runs = ("20260101T000000-aaaaaa", "20260102T000000-bbbbbb")
    waits = findings(*(row for run in runs for row in inference(run_id=run))).of("ttft_s")
    names = Names(waits)
    assert [names.label(summary) for summary in waits] == ["run aaaaaa", "run bbbbbb"]


def test_shortened_names_stay_different() -> None:
    rows = [row for n in range(3) for row in inference(preset=f"{'a' * 50}{n}{'b' * 50}")]
    waits = findings(*rows).of("ttft_s")
    names = Names(waits)
    labels = {names.label(summary, most=20) for summary in waits}
    assert len(labels) == 3
    assert all(len(label) <= 20 for label in labels)


def test_text_is_cleaned_of_what_is_unseen_or_reorders() -> None:
    assert clean("a\x00b\u202ec\ud800\nd ") == "a\ufffdb\ufffdc\ufffd d"
    assert short("abcdefghij", 5) == "ab…ij"


@pytest.mark.parametrize("text", ["not json", "[1]", '"x"', "1e999", "[" * 5000, '{"a": NaN}'])
def test_json_columns_that_hold_no_object_do_no_harm(text: str) -> None:
    rows = [*inference(environment=text), failure(params=text, environment=text)]
    for chart in drawn(*rows).values():
        assert all(math.isfinite(x) for view in charts.panels(chart) for x in places(view))


def test_hostile_numbers_in_the_environment_do_no_harm() -> None:
    work = {"prefill": {"flops": 1e308, "bytes": 1e-320, "items": "1"}, "decode": 7}
    rows = inference(environment=environment(work=work, peaks={"flop_s": True, "bytes_s": -1}))
    assert "roofline" not in drawn(*rows)

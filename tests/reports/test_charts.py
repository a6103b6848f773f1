"""One chart, two drawers: Plotly for the page, matplotlib for the PNG."""

from __future__ import annotations

import datetime as dt
import io
import json
import warnings

import plotly.graph_objects
import pytest
from page_rows import ATTACKS, environment, failure, hostile, inference, limits, scan
from PIL import Image

from tpubench.reports import charts, png
from tpubench.reports.figure import SYMBOLS, Axis, Chart, Dot, Dots, Plane, Point, Series, axis
from tpubench.reports.findings import Findings, Names, clean, find, short
from tpubench.reports.sections import sections
from tpubench.results.row import Row

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def findings(*rows: Row) -> Findings:
    return find(scan(rows), NOW)


def drawn(*rows: Row) -> dict[str, Chart]:
    return {c.name: c for one in sections(findings(*rows)) for c in one.charts()}


def dot(point: float, low: float | None = None, high: float | None = None, **more: str) -> Dot:
    text = {"label": "a", "text": "1", "hover": "h", "series": "s", "evidence": "measured"} | more
    return Dot(**text, point=point, low=low, high=high)


def dots(*rows: Dot) -> Chart:
    return Chart(name="x", alt="", panels=(Dots(title="t", unit="u", rows=rows),))


def test_the_standard_charts_are_there() -> None:
    names = drawn(*inference(), *inference(batch=8), *limits())
    assert list(names) == [
        *("throughput", "latency", "gaps", "cost", "roofline", "arithmetic", "bandwidth")
    ]


def test_plotly_accepts_every_figure() -> None:
    for chart in drawn(*inference(), *inference(batch=8), *limits()).values():
        plotly.graph_objects.Figure(charts.figure(chart))


def test_numbers_in_a_figure_are_finite_json() -> None:
    for chart in drawn(*inference(), *limits(), *hostile(ATTACKS[:5])).values():
        json.dumps(charts.figure(chart), allow_nan=False)


def test_text_is_escaped_for_plotlys_own_markup() -> None:
    text = "<a href='javascript:x'>&amp;</a>"
    chart = dots(dot(1.0, label=text, text=text, hover=text, series=text))
    found = json.dumps(charts.figure(chart))
    assert "<a" not in found
    assert "&lt;a href='javascript:x'&gt;&amp;amp;&lt;/a&gt;" in found


def test_hover_text_is_ready_made_because_a_template_would_substitute() -> None:
    for chart in drawn(*inference()).values():
        for trace in charts.figure(chart)["data"]:
            assert "hovertemplate" not in trace
            assert "texttemplate" not in trace
            assert trace["hoverinfo"] == "text"


def test_each_kind_of_evidence_has_its_own_mark_and_legend_entry() -> None:
    chart = dots(*(dot(1.0, evidence=evidence) for evidence in SYMBOLS))
    traces = charts.figure(chart)["data"]
    assert [trace["name"] for trace in traces] == [f"s ({evidence})" for evidence in SYMBOLS]
    assert len({trace["marker"]["symbol"] for trace in traces}) == len(SYMBOLS)


def test_an_interval_is_drawn_where_there_is_one() -> None:
    sure, unsure = charts.figure(dots(dot(2.0, 1.5, 3.0)))["data"][0], dots(dot(2.0))
    assert sure["error_x"]["array"] == [1.0]
    assert sure["error_x"]["arrayminus"] == [0.5]
    assert "error_x" not in charts.figure(unsure)["data"][0]


def test_a_huge_interval_does_not_squash_the_points() -> None:
    panel = Dots(title="t", unit="u", rows=(dot(10.0, 1.0, 9000.0), dot(8.0)))
    assert panel.end == pytest.approx(26.5)
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
    panel = Dots(title=text, unit=text, rows=(dot(1.0, label=text, text=text, series=text),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png.draw(Chart(name="x", alt="", panels=(panel, plane))).startswith(b"\x89PNG")


def test_hostile_labels_are_drawn_as_they_stand() -> None:
    for chart in drawn(*hostile(ATTACKS[30:36])).values():
        assert png.draw(chart).startswith(b"\x89PNG")


def test_cases_are_named_by_what_tells_them_apart() -> None:
    found = findings(*inference(batch=1), *inference(batch=8)).of("ttft_s")
    names = Names(found)
    assert [names.label(summary) for summary in found] == ["batch=1", "batch=8"]
    assert names.shared() == "llama-infer, tiny, cpu, 1 chip, bfloat16, input_len=16"


def test_a_device_is_told_wherever_it_differs() -> None:
    other = inference(device="tpu-v6e", backend="tpu")
    found = findings(*inference(), *inference(batch=8), *other).of("ttft_s")
    names = Names(found)
    labels = [names.label(summary) for summary in found]
    assert labels == ["cpu · batch=1", "cpu · batch=8", "tpu-v6e · batch=1"]


def test_the_same_case_run_twice_is_told_apart_by_its_run() -> None:
    runs = ("20260101T000000-aaaaaa", "20260102T000000-bbbbbb")
    found = findings(*(row for run in runs for row in inference(run_id=run))).of("ttft_s")
    names = Names(found)
    assert [names.label(summary) for summary in found] == ["run aaaaaa", "run bbbbbb"]


def test_shortened_names_stay_different() -> None:
    rows = [row for n in range(3) for row in inference(preset=f"{'a' * 50}{n}{'b' * 50}")]
    found = findings(*rows).of("ttft_s")
    names = Names(found)
    labels = {names.label(summary, most=20) for summary in found}
    assert len(labels) == 3
    assert all(len(label) <= 20 for label in labels)


def test_text_is_cleaned_of_what_is_unseen_or_reorders() -> None:
    assert clean("a\x00b\u202ec\ud800\nd ") == "a\ufffdb\ufffdc\ufffd d"
    assert short("abcdefghij", 5) == "ab…ij"


@pytest.mark.parametrize("text", ["not json", "[1]", '"x"', "1e999", "[" * 5000, '{"a": NaN}'])
def test_json_columns_that_hold_no_object_do_no_harm(text: str) -> None:
    rows = [*inference(environment=text), failure(params=text, environment=text)]
    for chart in drawn(*rows).values():
        json.dumps(charts.figure(chart), allow_nan=False)


def test_hostile_numbers_in_the_environment_do_no_harm() -> None:
    work = {"prefill": {"flops": 1e308, "bytes": 1e-320, "items": "1"}, "decode": 7}
    rows = inference(environment=environment(work=work, peaks={"flop_s": True, "bytes_s": -1}))
    assert "roofline" not in drawn(*rows)

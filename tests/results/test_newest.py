"""Of a store that a page cannot draw whole, the newest run of each case is drawn, and no row more
becomes a Python object.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command_line import Call, caller
from sample_rows import make_row

from tpubench.results import newest as chosen
from tpubench.results import read_cache
from tpubench.results import store as facts
from tpubench.results.compare import compare_selected
from tpubench.results.row import Row, arrow_schema, to_table
from tpubench.results.select import narrowed, select_for_report, select_newest
from tpubench.results.store import Scan

METRICS = ("output_tok_s", "ttft_s")
DIED: dict[str, Any] = {
    "status": "failed",
    "reason": "no answer",
    **dict.fromkeys(("value", "samples", "ci_low", "ci_high")),
}


@pytest.fixture(params=["kept from an earlier read", "read now"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose rows come through DuckDB from what was kept, or from its files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(read_cache, "YOUNG_S", -60.0)
    monkeypatch.setattr(read_cache, "FEW", 1 if request.param.startswith("kept") else 10**9)
    monkeypatch.setattr(chosen, "FEW_ROWS", 8)
    return tmp_path / "store"


def run_id(number: int) -> str:
    return f"20260101T{number:06d}-aaaaaa"


def put(store: Path, number: int, repetitions: int = 1, **changes: Any) -> None:
    """A run with one case: two metrics of each repetition."""
    rows = [
        make_row(metric, run_id=run_id(number), repetition=repetition, **changes)
        for repetition in range(repetitions)
        for metric in METRICS
    ]
    name = f"case-{len(list((store / run_id(number)).glob('*')))}"
    facts.write(store, name, rows)


def drawn(store: Path) -> Scan:
    scan, _ = select_for_report(store, [])
    return scan


def of(scan: Scan, *columns: str) -> list[tuple[object, ...]]:
    """The different cells of these columns, in their order."""
    return sorted({tuple(line[name] for name in columns) for line in scan.table.to_pylist()})


def batch(size: int) -> str:
    return json.dumps({"batch": size})


def test_few_rows_are_all_drawn_and_nothing_is_said(store: Path) -> None:
    for number in range(4):
        put(store, number)
    scan = drawn(store)
    assert (scan.table.num_rows, scan.drawn) == (8, None)


def test_of_many_rows_the_newest_run_of_each_case_is_drawn(store: Path) -> None:
    for number in range(5):
        put(store, number, params=batch(1 + number % 2))
    put(store, 1, params=batch(1), device="tpu-v6e", backend="tpu")
    put(store, 3, params=batch(1), dtype="float32")
    scan = drawn(store)
    assert of(scan, "run_id", "params", "device", "dtype") == [
        (run_id(1), batch(1), "tpu-v6e", "bfloat16"),
        (run_id(3), batch(1), "cpu", "float32"),
        (run_id(3), batch(2), "cpu", "bfloat16"),
        (run_id(4), batch(1), "cpu", "bfloat16"),
    ]
    assert scan.table.num_rows == 8
    assert scan.table.schema == arrow_schema()
    words = "of 14 rows in 5 runs 8 are drawn: the newest run of each case, 4 in all"
    assert scan.drawn == words


def test_a_case_that_failed_last_shows_that_it_failed(store: Path) -> None:
    for number in range(5):
        put(store, number, device="nvidia-l4", backend="cuda")
    put(store, 2, device="cuda", backend="cuda", **DIED)
    assert of(drawn(store), "run_id", "status") == [(run_id(4), "ok")]
    put(store, 6, device="cuda", backend="cuda", **DIED)
    assert of(drawn(store), "run_id", "status") == [(run_id(4), "ok"), (run_id(6), "failed")]


def test_a_comparison_and_a_plan_take_the_newest_run_that_gave_a_figure(store: Path) -> None:
    for number in range(5):
        put(store, number)
    put(store, 5, **DIED)
    scan = select_newest(store, [])
    assert of(scan, "run_id", "status") == [(run_id(4), "ok")]
    (unreadable,) = scan.unreadable
    assert "of 12 rows in 6 runs 2 are drawn" in str(unreadable.error)


def test_a_comparison_of_many_rows_is_that_of_few(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        for device, backend in (("cpu", "cpu"), ("tpu-v6e", "tpu")):
            put(store, number, params=batch(number % 2), device=device, backend=backend)
    asked = ["device=cpu", "device=tpu-v6e"]
    sides, unreadable = compare_selected(store, asked)
    assert len(unreadable) == 2
    monkeypatch.setattr(chosen, "FEW_ROWS", 10**9)
    assert compare_selected(store, asked) == (sides, [])


def test_every_source_of_published_figures_is_drawn(store: Path) -> None:
    for number in range(5):
        put(store, number, evidence="published")
    assert len(of(drawn(store), "run_id")) == 5


def test_of_very_many_repetitions_the_first_ones_are_drawn(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "MOST_REPETITIONS", 3)
    put(store, 0)
    put(store, 1, repetitions=6)
    put(store, 2, repetitions=3, params=batch(2))
    scan = drawn(store)
    assert of(scan, "run_id", "repetition") == [
        *((run_id(1), number) for number in range(3)),
        *((run_id(2), number) for number in range(3)),
    ]
    assert scan.drawn is not None
    assert scan.drawn.endswith("of a case with more than 3 repetitions the first of them")


def test_repetitions_that_are_counted_from_elsewhere_are_drawn_too(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "MOST_REPETITIONS", 3)
    rows = [make_row(run_id=run_id(1), repetition=1000 + number) for number in range(9)]
    facts.write(store, "case", rows)
    assert of(drawn(store), "repetition") == [(1000,), (1001,), (1002,)]


def test_of_too_many_cases_some_of_every_device_are_drawn(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "MOST_ROWS", 12)
    for number in range(20):
        put(store, number, params=batch(number))
    put(store, 3, device="tpu-v6e", backend="tpu")
    scan = drawn(store)
    assert scan.table.num_rows == 12
    assert {device for (device,) in of(scan, "device")} == {"cpu", "tpu-v6e"}
    assert scan.drawn is not None
    assert "the newest run of 6 of 21 cases, some of every device" in scan.drawn


def test_what_is_drawn_comes_in_the_order_of_its_files(store: Path) -> None:
    for number in range(9):
        put(store, number, params=batch(number % 3), repetitions=2)
    whole = [line for line in narrowed(store, []).read().to_pylist() if line["run_id"] > run_id(5)]
    assert drawn(store).table.to_pylist() == whole


def test_the_page_its_json_and_the_terminal_say_what_is_drawn(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    call: Call = caller(monkeypatch, capfd)
    for number in range(9):
        put(store, number)
    words = "of 18 rows in 9 runs 2 are drawn: the newest run of each case, 1 in all"
    asked = ("report", "--store", str(store), "--out", str(tmp_path / "page"))
    assert words in " ".join(call(*asked).out.split())
    page = (tmp_path / "page" / "report.html").read_text()
    assert f"Too much to draw: {words}." in page
    assert f"Rests on:</strong> {words};" in page
    assert call(*asked, "--json").json()["answers"]["drawn"] == words
    assert "drawn" not in call(*asked, run_id(3), "--json").json()["answers"]


def test_no_more_rows_become_objects_than_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A store beyond the limit itself: 60 runs of 1,000 rows are drawn from the last one's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    some = to_table([make_row("ttft_s", repetition=number) for number in range(50)])
    field = arrow_schema().field("run_id")
    for number in range(60):
        cells = pa.array([run_id(number)] * 1000, type=field.type)
        cases = [batch(case) for case in range(20) for _ in range(50)]
        table = pa.concat_tables([some] * 20)
        for name, column in (("run_id", cells), ("params", pa.array(cases))):
            table = table.set_column(
                table.column_names.index(name), arrow_schema().field(name), column
            )
        facts.write_table(tmp_path / "store", "case", table)
    objects: list[Row] = []

    def counting(**cells: Any) -> Row:
        objects.append(Row(**cells))
        return objects[-1]

    monkeypatch.setattr(facts, "Row", counting)
    call: Call = caller(monkeypatch, capfd)
    done = call("report", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "page"))
    assert done.code == 0, done.err
    assert len(objects) == 1000
    assert {row.run_id for row in objects} == {run_id(59)}

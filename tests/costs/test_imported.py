"""Imported results as rows: device names, physical chips, provenance, and each file once."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from tpubench.costs.import_files import ImportReport, import_files, settings
from tpubench.costs.imported import Given, Origin, place, precision, to_rows
from tpubench.errors import UsageError
from tpubench.estimates.published.beyond_peak import beyond_peak
from tpubench.results.importers import Figure, Record
from tpubench.results.row import Row
from tpubench.results.store import files, iter_rows, scan
from tpubench.results.verify import verify_store

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ORIGIN = Origin(format_name="vllm-bench", file="x.json", sha256="0" * 64)
GUIDELLM = Path(__file__).parent.parent / "results" / "fixtures" / "guidellm-0.8.1.json"
RATE = Figure(metric="output_tok_s", value=800.0)


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {"workload": "llm-serving", "model": "m", "figures": (RATE,)}
    return Record(**{**fields, **changes})


def rows_of(one: Record, given: Given | None = None) -> dict[str, Row]:
    imported = to_rows([one], given or Given(), ORIGIN, run_id="r", now=NOW)
    return {row.metric: row for row in imported}


def test_what_an_earlier_version_imported_is_known_again(tmp_path: Path) -> None:
    """The name of 2026-11-28: it would change with the name of a class or a field of a record."""
    import_files("guidellm", [GUIDELLM], Given(), tmp_path, NOW)
    names = [path.name for path in tmp_path.glob("*/*.parquet")]
    assert names == ["import-6a5826d7474896b9.parquet"]


@pytest.mark.parametrize(
    ("device", "chips", "expected"),
    [
        ("v5p-128", None, ("tpu-v5p", 64)),
        ("cloud-tpu-v5p-128-maxdiffusion", None, ("tpu-v5p", 64)),
        ("cloud-tpu-trillium-512-maxtext", None, ("tpu-v6e", 512)),
        ("TPU-trillium", 512, ("tpu-v6e", 512)),
        ("v6e-8", None, ("tpu-v6e", 8)),
        ("TPU v6", 4, ("tpu-v6e", 4)),
        ("1xNVIDIA HGX B200", None, ("nvidia-b200-sxm", 8)),
        ("NVIDIA H100-SXM-80GB", 16, ("nvidia-h100-sxm", 16)),
        ("AMD Instinct MI300X 192GB HBM3", 8, ("amd-mi300x", 8)),
        ("NVIDIA H200-NVL-141GB", 8, ("nvidia-h200-nvl-141gb", 8)),
        (None, None, ("unknown", 0)),
    ],
)
def test_devices_get_canonical_names_and_physical_chips(
    device: str | None, chips: int | None, expected: tuple[str, int]
) -> None:
    assert place(record(device=device, chips=chips), Given()) == expected


def test_the_command_line_wins_over_the_file() -> None:
    given = Given(device="v5p-8", chips=None)
    assert place(record(device="NVIDIA H100-SXM-80GB", chips=8), given) == ("tpu-v5p", 4)
    assert place(record(chips=8), Given(device="h200-sxm", chips=2)) == ("nvidia-h200-sxm", 2)


def test_half_chip_devices_are_counted_as_chips() -> None:
    assert place(record(), Given(device="tpu7x", framework_devices=8)) == ("tpu-v7", 4)
    with pytest.raises(UsageError, match="no whole number of tpu-v7 chips"):
        place(record(), Given(device="tpu7x", framework_devices=3))


def test_figures_per_chip_need_a_number_of_chips() -> None:
    known = rows_of(record(chips=8))
    assert known["output_tok_s_per_chip"].value == 100.0
    unknown = rows_of(record())
    assert unknown["output_tok_s_per_chip"].value is None
    assert "chips" in (unknown["output_tok_s_per_chip"].reason or "")


def test_rows_are_published_and_keep_where_they_come_from() -> None:
    row = rows_of(record(source="a paper", stated={"ttft_p99_s": 0.5}))["output_tok_s"]
    assert (row.evidence, row.backend, row.source) == ("published", "imported", "a paper")
    origin = json.loads(row.environment)["import"]
    assert (origin["format"], origin["file"]) == ("vllm-bench", "x.json")
    assert origin["stated"] == {"ttft_p99_s": 0.5}
    assert "vllm-bench file x.json" in str(rows_of(record())["output_tok_s"].source)


def test_an_invalid_result_has_no_value() -> None:
    (row,) = rows_of(record(status="invalid", reason="MLPerf says so", figures=())).values()
    assert (row.status, row.value, row.reason) == ("invalid", None, "MLPerf says so")


@pytest.mark.parametrize(
    ("text", "spelling"),
    [("BF16", "bfloat16"), ("NVFP4", "fp4"), (None, "not-stated"), ("UNSET", "not-stated")],
)
def test_precision_has_one_spelling(text: str | None, spelling: str) -> None:
    assert precision(text) == spelling


def test_bad_additions_are_refused() -> None:
    with pytest.raises(UsageError, match="no known device"):
        Given(device="h100")
    with pytest.raises(UsageError, match="not both"):
        Given(chips=1, framework_devices=2)
    with pytest.raises(UsageError, match="count of 1"):
        Given(chips=0)
    with pytest.raises(UsageError, match="KEY=VALUE"):
        settings(["batch"])
    assert settings(["batch=8", "x=0.5", "note=a=b"]) == {"batch": 8, "x": 0.5, "note": "a=b"}


LATENCY = {"avg_latency": 1.2, "latencies": [1.0, 1.1, 1.5], "percentiles": {}}


def save(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_same_file_is_stored_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    path = save(tmp_path / "a.json", LATENCY)
    first = import_files("auto", [path], Given(), store, NOW)
    assert first.run_id is not None
    again = import_files("auto", [path], Given(), store, NOW)
    assert (again.run_id, again.already) == (None, [path])
    assert len(files(store)) == 1
    with_device = import_files("auto", [path], Given(device="v6e", chips=1), store, NOW)
    assert with_device.run_id is not None
    assert verify_store(store).ok


def test_the_same_case_in_two_files_is_two_repetitions(tmp_path: Path) -> None:
    store = tmp_path / "store"
    paths = [
        save(tmp_path / "a.json", LATENCY),
        save(tmp_path / "b.json", {**LATENCY, "latencies": [1.3, 1.2]}),
    ]
    import_files("vllm-bench", paths, Given(), store, NOW)
    rows = list(iter_rows(scan(files(store)).table))
    assert sorted(row.repetition for row in rows) == [0, 1]
    assert verify_store(store).ok


def test_nothing_is_stored_when_one_file_of_several_is_bad(tmp_path: Path) -> None:
    store = tmp_path / "store"
    bad = save(tmp_path / "bad.json", {"x": 1})
    with pytest.raises(UsageError, match=r"bad\.json"):
        import_files("auto", [save(tmp_path / "a.json", LATENCY), bad], Given(), store, NOW)
    assert not store.exists()


IMPORTS = Path(__file__).parent.parent / "results" / "fixtures" / "imports"


def report(tmp_path: Path, path: Path, **changes: Any) -> ImportReport:
    asked = {"dry_run": True, "impossible": beyond_peak, **changes}
    return import_files("auto", [path], Given(), tmp_path / "store", NOW, **asked)


def test_a_figure_beyond_the_hardware_says_so_in_its_row_and_in_a_note(tmp_path: Path) -> None:
    document = json.loads((IMPORTS / "summary_whisper.json").read_text(encoding="utf-8"))
    # What only a wrong number of chips explains.
    path = save(tmp_path / "s.json", [{**document[0], "Model": "llama2-70b-99", "a#": 1}])
    done = report(tmp_path, path)
    assert {row.metric for row in done.rows} == {"output_tok_s", "output_tok_s_per_chip"}
    assert all((row.reason or "").startswith("beyond peak: needs") for row in done.rows)
    assert done.notes[0].startswith("1 figure is more than the hardware can do")
    assert not report(tmp_path, path, impossible=lambda row: None).notes


def test_what_is_possible_is_imported_without_a_word(tmp_path: Path) -> None:
    assert not report(tmp_path, IMPORTS / "summary_whisper.json").notes


def test_devices_in_brackets_are_known_and_unknown_ones_are_named(tmp_path: Path) -> None:
    known = report(tmp_path, IMPORTS / "blackwell_v5.1" / "Acme")
    assert {(row.device, row.chips) for row in known.rows} == {("nvidia-b200-sxm", 8)}
    (entry,) = json.loads((IMPORTS / "summary_whisper.json").read_text(encoding="utf-8"))
    path = save(tmp_path / "s.json", [{**entry, "Accelerator": "NVIDIA Vera Rubin"}])
    unknown = report(tmp_path, path)
    assert {row.device for row in unknown.rows} == {"nvidia-vera-rubin"}
    assert "not in the device table, kept as written: nvidia-vera-rubin" in unknown.notes[0]


def test_a_tree_of_which_nothing_counts_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing could be imported.*compliance run"):
        report(tmp_path, IMPORTS / "tree_v5.1" / "closed" / "Acme" / "compliance")
    with pytest.raises(UsageError, match="no request succeeded"):
        report(tmp_path, IMPORTS / "guidellm_none_succeeded.json")

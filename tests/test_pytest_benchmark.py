"""pytest-benchmark's files: imported, and gated from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tpubench import cli
from tpubench.errors import UsageError
from tpubench.results.importers import read_results

MACHINE = {
    "node": "box",
    "processor": "x86_64",
    "machine": "x86_64",
    "python_implementation": "CPython",
    "python_version": "3.11.7",
    "release": "6.1.0",
    "system": "Linux",
    "cpu": {"brand_raw": "Some CPU", "count": 2},
}


def document(median: float, *, data: list[float] | None = None, **test: Any) -> dict[str, Any]:
    """The structure of a file of pytest-benchmark 5."""
    stats = {"min": median * 0.9, "median": median, "mean": median, "rounds": 5, "iterations": 1}
    return {
        "machine_info": MACHINE,
        "commit_info": {"id": "abc", "dirty": False},
        "benchmarks": [
            {
                "group": None,
                "name": "test_sort[10]",
                "fullname": "tests/test_sort.py::test_sort[10]",
                "params": {"n": 10},
                "stats": stats | ({"data": data} if data else {}),
                **test,
            }
        ],
        "datetime": "2026-01-01T00:00:00.5+00:00",
        "version": "5.3.1",
    }


def put(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_file_with_its_rounds_and_one_without(tmp_path: Path) -> None:
    with_data = read_results("auto", put(tmp_path / "a.json", document(1.0, data=[1.0, 3.0, 2.0])))
    (record,) = with_data.records
    (figure,) = record.figures
    assert (figure.metric, figure.samples, figure.value) == ("step_time_s", (1.0, 3.0, 2.0), None)
    assert record.model == "tests/test_sort.py::test_sort[10]" and record.params == {"n": 10}
    assert record.software == "CPython, 3.11.7, Linux, 6.1.0, x86_64, Some CPU"
    (record,) = read_results("auto", put(tmp_path / "b.json", document(1.5))).records
    assert record.figures[0].value == 1.5 and "rounds were not saved" in str(
        record.figures[0].reason
    )


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ({"stats": {"mean": 1.0}}, "neither data nor a median"),
        ({"stats": {"median": 0.0}}, "a time of zero"),
        ({"stats": {"median": -1.0}}, "is negative"),
        ({"stats": {"data": ["x"]}}, "is not a number"),
        ({"fullname": None, "name": None}, "has no name"),
    ],
)
def test_a_test_that_makes_no_sense_is_left_out_and_named(
    tmp_path: Path, test: dict[str, Any], reason: str
) -> None:
    imported = read_results("pytest-benchmark", put(tmp_path / "a.json", document(1.0, **test)))
    assert not imported.records
    assert reason in imported.rejected[0].reason and "benchmarks[0]" in imported.rejected[0].where


def test_another_file_is_a_clear_error(tmp_path: Path) -> None:
    for content in ({}, [], {"benchmarks": 4}):
        with pytest.raises(UsageError, match=r"a\.json"):
            read_results("pytest-benchmark", put(tmp_path / "a.json", content))


def test_an_existing_suite_gets_the_gate(tmp_path: Path, monkeypatch, capfd) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tpubench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capfd.readouterr().out

    runs = []
    for side, level in (("a", 1.0), ("b", 1.0001), ("c", 1.2)):
        files = [
            str(put(tmp_path / f"{side}{i}.json", document(level + 0.001 * i, data=None)))
            for i in range(5)
        ]
        code, out = call("import", "pytest-benchmark", *files, "--json")
        assert code == 0, out
        (run,) = {row["run_id"] for row in _rows(json.loads(out), tmp_path)} - set(runs)
        runs.append(run)
    assert call("gate", "--baseline", runs[0], "--candidate", runs[1])[0] == 0
    code, out = call("gate", "--baseline", runs[0], "--candidate", runs[2])
    assert code == 1 and "test_sort[10]" in out and "published" in out
    other = document(1.0)
    other["machine_info"] = MACHINE | {"python_version": "3.12.1"}
    files = [str(put(tmp_path / f"d{i}.json", other | {"i": i})) for i in range(5)]
    _, out = call("import", "pytest-benchmark", *files, "--json")
    (run,) = {row["run_id"] for row in _rows(json.loads(out), tmp_path)} - set(runs)
    code, out = call("gate", "--baseline", runs[0], "--candidate", run)
    assert code == 4 and "software" in out


def _rows(document: Any, tmp_path: Path) -> list[dict[str, Any]]:
    from tpubench.results import store

    table = store.scan(store.files(tmp_path / "store")).table
    return [{"run_id": run} for run in table["run_id"].to_pylist()]

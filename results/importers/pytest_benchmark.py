"""pytest-benchmark's JSON (``--benchmark-json``, ``--benchmark-autosave``), of any version so far.

A file is one run of pytest, so each test in it is one repetition of one case: several files give
the repetitions that the gate needs. With ``--benchmark-save-data`` the file keeps every round, and
the value is computed from those; without, it is the file's own median. What the file says of the
machine becomes the software that two runs must share to be gated.
(ionelmc/pytest-benchmark, documentation, read 2026-11-22; files of versions 3.0 and 5.3.)
"""

from __future__ import annotations

from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._record import Figure, Imported, Plain, Record, Rejected

FORMAT = "pytest-benchmark"
TITLE = "pytest-benchmark runs (JSON)"


def reads(path: Path) -> bool:
    try:
        root = read_json(path)
    except UsageError:
        return False
    return isinstance(root.value, dict) and {"benchmarks", "machine_info"} <= root.value.keys()


def read(path: Path) -> Imported:
    """Every test of a file; a test without a usable time is left out and named."""
    root = read_json(path)
    if not isinstance(root.value, dict) or "benchmarks" not in root.value:
        raise root.error("has no benchmarks: it is not a file of pytest-benchmark")
    records, rejected = [], []
    for test in root["benchmarks"].items():
        try:
            records.append(_record(root, test))
        except UsageError as error:
            place = f"{path}: {test.where}"
            reason = str(error).removeprefix(str(path)).lstrip(": ")
            rejected.append(Rejected(where=place, reason=reason))
    return Imported(records=tuple(records), rejected=tuple(rejected))


def _record(root: Node, test: Node) -> Record:
    name = test.first("fullname", "name").text()
    if name is None:
        raise test.error("has no name")
    stats = test["stats"]
    samples = stats["data"].numbers()
    middle = stats["median"].number()
    if not samples and middle is None:
        raise stats.error("has neither data nor a median")
    if 0.0 in (*samples, middle):
        raise stats.error("has a time of zero: it has no ratio")
    reason = None if samples else "median of the file: its rounds were not saved"
    return Record(
        workload="pytest-benchmark",
        model=name,
        params=_params(test),
        figures=(
            Figure(
                metric="step_time_s",
                value=None if samples else middle,
                reason=reason,
                samples=samples,
            ),
        ),
        dtype="not-stated",
        software=_machine(root["machine_info"]),
        started_at=root["datetime"].time(),
        stated={
            "commit": root["commit_info"]["id"].text(),
            "rounds": stats["rounds"].count(),
            "iterations": stats["iterations"].count(),
            "pytest_benchmark": root["version"].text(),
        },
    )


def _params(test: Node) -> dict[str, Plain]:
    """What tells apart the cases of a test: its parameters, where they are plain values."""
    params: dict[str, Plain] = {}
    group = test["group"].text()
    if group is not None:
        params["group"] = group
    if isinstance(test["params"].value, dict):
        for key, value in test["params"].value.items():
            if value is None or isinstance(value, str | int | float | bool):
                params[str(key)] = value
    return params


def _machine(machine: Node) -> str:
    """Interpreter, system and processor in one line: what must be equal between gated runs."""
    processor = machine["cpu"]
    brand = processor.first("brand_raw", "brand").text() if processor.value else None
    words = [
        machine["python_implementation"].text(),
        machine["python_version"].text(),
        machine["system"].text(),
        machine["release"].text(),
        machine["machine"].text(),
        brand or machine["processor"].text(),
    ]
    return ", ".join(word for word in words if word)

"""Is a gate refused, by name, for every field of a real fingerprint that differs or is missing?"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from gate_table import share

from tpubench.results import store
from tpubench.results.fingerprint import canonical_json, sha256
from tpubench.results.gate import rows as gate_rows
from tpubench.results.gate.policy import Rules
from tpubench.results.row import Row
from tpubench.suite import request, run


def refusals() -> None:
    """Every field of a real fingerprint, changed and removed: is the gate refused?"""
    asked = request.Request(
        workload="gemm", backend="fake", repeats=1, overrides={"m": ["8"], "n": ["8"], "k": ["8"]}
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = run.make_plan(
            replace(asked, preset="square-512", overrides={**asked.overrides, "dtype": ["float32"]})
        )
        rows = run.execute(plan, Path(folder), lambda event: None).rows
        assert store.files(Path(folder))
    tried, refused, names = 0, 0, []
    whole = json.loads(rows[0].environment)
    for path in _paths(whole["fingerprint"]):
        for change in ("changed", "removed"):
            altered = json.loads(rows[0].environment)
            _alter(altered["fingerprint"], path, change)
            other = [
                replace(
                    row,
                    run_id="20990101T000000-ffffff",
                    environment=canonical_json(altered),
                    fingerprint=sha256(altered["fingerprint"]),
                )
                for row in rows
            ]
            for sides in ((rows, other), (_renamed(other), rows)):
                tried += 1
                report = gate_rows.gate(*sides, Rules())
                named = all(".".join(path) in f.reason for f in report.findings)
                refused += report.exit_code == 4 and named
        names.append(".".join(path))
    print(
        f"\nmismatch refused, naming the field: {share(refused, tried)} over {len(names)} fields:"
    )
    print("  " + ", ".join(names))


def _renamed(rows: list[Row]) -> list[Row]:
    return [replace(row, run_id="20000101T000000-000000") for row in rows]


def _paths(value: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = []
    for key, item in value.items():
        inside = isinstance(item, dict) and item
        paths += _paths(item, (*above, key)) if inside else [(*above, key)]
    return [path for path in paths if not isinstance(_at(value, path[len(above) :]), dict)]


def _at(value: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _alter(value: dict[str, Any], path: tuple[str, ...], change: str) -> None:
    holder = _at(value, path[:-1])
    if change == "removed":
        del holder[path[-1]]
    else:
        holder[path[-1]] = f"not {holder[path[-1]]}"

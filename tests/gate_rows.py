"""Stored runs for tests of the gate: repetitions of a case with a real fingerprint."""

from __future__ import annotations

import json
from typing import Any

from sample_rows import make_row

from tpubench.results.fingerprint import canonical_json, sha256
from tpubench.results.row import Row

FINGERPRINT: dict[str, Any] = {
    "backend": "cpu",
    "compile_mode": "eager",
    "device": "cpu",
    "chips": 1,
    "cpu_model": "Some CPU",
    "usable_cores": 2,
    "kernel": "6.1",
    "description": {"torch": "2.13.0", "threads": 2},
    "workload": "llama-infer",
    "workload_version": 1,
    "workload_sha256": "0" * 64,
    "preset": "tiny",
    "params": {"batch": 1, "dtype": "bfloat16"},
    "shape": {},
}
BASE, NEW, LATER = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb", "20260103T000000-cccccc"


def run_of(
    values: list[float],
    run_id: str = BASE,
    metric: str = "output_tok_s",
    fingerprint: dict[str, Any] | None = None,
    samples: list[float] | None = None,
    **changes: Any,
) -> list[Row]:
    """A run with one repetition for each value of one metric."""
    match = FINGERPRINT if fingerprint is None else fingerprint
    return [
        make_row(
            metric,
            samples or [value, value],
            **{
                "run_id": run_id,
                "repetition": number,
                "fingerprint": sha256(match),
                "environment": canonical_json({"fingerprint": match}),
                **changes,
            },
        )
        for number, value in enumerate(values)
    ]


def changed(**fields: Any) -> dict[str, Any]:
    """The fingerprint with fields replaced, or removed where the value is None."""
    copy = json.loads(json.dumps(FINGERPRINT)) | fields
    return {key: value for key, value in copy.items() if value is not None}

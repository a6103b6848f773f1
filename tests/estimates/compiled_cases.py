"""Small cases that the TPU compiler is asked for in the tests, and what it said of them.

    PYTHONPATH=.import python tests/estimates/compiled_cases.py ENV/bin/python

writes the answers of the compiler in that environment beside those of other versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.estimates.compiled import CompileRequest, run
from tpubench.estimates.compiled.targets import target
from tpubench.suite import registry

BASELINE = Path(__file__).with_name("compiled-baseline.json")
"""Cycles and bytes by libtpu version: the same compiler gives the same."""

CASES: Mapping[str, tuple[str, str, int, Mapping[str, list[str]]]] = {
    "llama-infer tiny, v5e:1x1": (
        "llama-infer",
        "tiny",
        1,
        {"batch": ["2"], "input_len": ["128"], "output_len": ["128"]},
    ),
    "llama-infer tiny, v5e:1x2": (
        "llama-infer",
        "tiny",
        2,
        {"batch": ["2"], "input_len": ["128"], "output_len": ["128"]},
    ),
}


def request(
    workload: str, preset: str, chips: int, settings: Mapping[str, list[str]], **more: Any
) -> CompileRequest:
    """One case on v5e."""
    (case, *_) = registry.workload(workload).cases(preset, settings, accelerator=True)
    return CompileRequest(case=case, target=target("v5e", chips), **more)


def said(name: str, python: str, cache: Path) -> tuple[str, dict[str, Any]]:
    """The version of libtpu, and its figures for each phase of a case."""
    estimated = run(request(*CASES[name], python=python, cache=cache))
    figures = {
        phase.phase: {
            "cycles": phase.cost.cycles,
            "streaming_bytes": phase.cost.streaming_bytes,
            "prefetch_bytes": phase.cost.prefetch_bytes,
            "custom_calls": dict(phase.cost.custom_calls),
            "collectives": len(phase.cost.collectives),
            "bytes_a_device": phase.fit.needed,
        }
        for phase in estimated.phases
        if phase.cost is not None
    }
    return estimated.versions["libtpu"], figures


def main() -> None:
    known = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    for name in CASES:
        version, figures = said(name, sys.argv[1], Path(".cache"))
        known.setdefault(version, {})[name] = figures
    BASELINE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

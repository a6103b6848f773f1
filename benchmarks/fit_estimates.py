"""Fits the analytical model of ``tpubench estimate`` again, from tables in this repository.

    python benchmarks/fit_estimates.py             writes what ships, estimates/regression/
    python benchmarks/fit_estimates.py --check     fits, writes nothing, and compares; exit 1

``benchmarks/published/`` holds published figures of training and inference and measured times of
single operators, one a line with its source: figures and what is needed to read them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpubench.estimates.published import table
from tpubench.estimates.regression import features, fitting, model, operator_tables
from tpubench.estimates.regression.calibration import NORMAL_90
from tpubench.estimates.regression.facts import Fact, facts
from tpubench.estimates.regression.model import Model
from tpubench.estimates.regression.process import Fit
from tpubench.estimates.roofline import operators

TABLES = tuple(
    Path(__file__).with_name("published") / name for name in ("training.csv", "inference.csv")
)
OPERATORS = Path(__file__).with_name("published") / "operators.csv"
CLOSE = 0.02
"""Largest difference of a prediction's logarithm that another machine's arithmetic may make."""
SHOWN = ("chip", "generation", "vendor", "software", "precision", "vendor-precision",
         "architecture", "share-attention-chip", "share-experts-chip", "share-memory-chip",
         "share-link-chip", "share-weights-chip", "share-cache-chip", "share-matmul-chip",
         "share-decode-chip", "share-host-chip", "share-host", "share-weights", "share-cache",
         "share-matmul", "share-decode", "share-attention", "share-experts", "share-memory",
         "share-link", "scenario", "kind", "model")  # fmt: skip
"""Effects that are listed with their intervals, where they stayed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what ships")
    parser.add_argument("--date", default=dt.date.today().isoformat())
    given = parser.parse_args()
    groups = read()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in TABLES)).hexdigest()
    fitted = fitting.fit(groups, f"{given.date}-{digest[:8]}")
    if given.check:
        sys.exit(0 if same(fitted, groups) else 1)
    write_operators(given.date)
    summary = {
        "format": model.FORMAT,
        "version": fitted.version,
        "fitted": given.date,
        "data": [
            {"name": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in TABLES
        ],
        "rows": sum(len(f.entries) for facts in groups.values() for f in facts),
        "calibration": {
            "slower": fitted.calibration.slower,
            "faster": fitted.calibration.faster,
            "sources": fitted.calibration.sources,
        },
        "groups": {
            name: describe(fitted.fits[name], groups[name], fitted.seen[name]) for name in groups
        },
    }
    model.save(fitted.fits, summary)


def read() -> dict[str, list[Fact]]:
    """The facts of this repository's tables, by group of problems."""
    return facts([entry for path in TABLES for entry in table.read(path)])


def same(fitted: Model, groups: Mapping[str, Sequence[Fact]]) -> bool:
    """Whether a fit predicts its own facts as the shipped one does; says how far it is."""
    problems = [fact.problem for facts in groups.values() for fact in facts]
    pairs = list(zip(fitted.predict(problems), model.shipped().predict(problems), strict=True))
    worst = 0.0
    for end in ("value", "low", "high"):
        apart = [abs(np.log(getattr(a, end) / getattr(b, end))) for a, b in pairs]
        worst = max(worst, *apart)
        print(f"{end}: at most {100 * max(apart):.2f} % apart over {len(pairs)} facts")
    return worst <= CLOSE


def write_operators(date: str) -> None:
    """``operators.json``: efficiencies from a table of single operators."""
    written = {
        "source": "github.com/ai-dynamo/aiconfigurator @095f58a and"
        " github.com/AI-Hypercomputer/tpu-recipes @c8cfe2f, operator tables",
        "fitted": date,
        "sha256": hashlib.sha256(OPERATORS.read_bytes()).hexdigest(),
        "devices": operator_tables.efficiencies(OPERATORS),
    }
    target = Path(operators.__file__).with_name("operators.json")
    target.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def describe(fit: Fit, facts: Sequence[Fact], seen: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """What was learned of one group of problems, with intervals."""
    return {
        "facts": len(facts),
        "rows": sum(len(fact.entries) for fact in facts),
        "noise": [round(float(v), 6) for v in fit.noise],
        "noise_classes": list(features.NOISE[features.group(facts[0].problem)]),
        "sd": {name: round(v, 6) for name, v in fit.sd.items()},
        "effects": {
            name: {
                level: {
                    "log_speed": round(mean, 4),
                    "low": round(mean - NORMAL_90 * sd, 4),
                    "high": round(mean + NORMAL_90 * sd, 4),
                }
                for level, mean, sd in fit.effects(name)
            }
            for name in SHOWN
            if name in fit.sd and fit.sd[name] >= model.NEGLIGIBLE
        },
        "seen": {name: sorted(levels) for name, levels in seen.items()},
    }


if __name__ == "__main__":
    main()

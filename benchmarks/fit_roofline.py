"""Fits the analytical model of ``tpubench estimate`` and stores it with its accuracy.

    python benchmarks/fit_roofline.py TRAINING.csv INFERENCE.csv [--ops OPS.csv] [--out DIR]
    python benchmarks/fit_roofline.py FILES… --judge docs/estimate-accuracy.md

The files have the columns of published results (docs/estimate.md). With ``--judge`` nothing is
stored: every source is predicted by a model that was fitted, deviations included, without it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpubench.estimates.regression import features, fitting, model, operator_tables
from tpubench.estimates.regression.process import Fit
from tpubench.estimates.roofline import operators

SHOWN = ("chip", "generation", "vendor", "software", "precision", "vendor-precision",
         "architecture", "share-attention-chip", "share-experts-chip", "share-memory-chip",
         "share-link-chip", "share-weights-chip", "share-cache-chip", "share-matmul-chip",
         "share-decode-chip", "share-host-chip", "share-host", "share-weights", "share-cache",
         "share-matmul", "share-decode", "share-attention", "share-experts", "share-memory",
         "share-link", "scenario", "kind", "model")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--ops", type=Path, help="table of single operators")
    parser.add_argument("--out", type=Path, help="folder to write to, instead of estimates/")
    parser.add_argument("--judge", type=Path, help="write the accuracy on sources never seen")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--date", default=dt.date.today().isoformat())
    given = parser.parse_args()
    if given.ops:
        write_operators(given.ops, given.date)
    entries = [entry for table in given.tables for entry in table.read(table)]
    if given.judge:
        import roofline_accuracy

        roofline_accuracy.write(given.judge, entries, given.steps, given.date)
        return
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in given.tables)).hexdigest()
    groups, fits = {}, {}
    for name, facts in fitting.facts(entries).items():
        print(f"{name}: {len(facts)} facts", file=sys.stderr)
        fit = fitting.learn(name, facts, steps=given.steps)
        fits[name] = fit
        groups[name] = describe(fit, facts)
    summary = {
        "format": model.FORMAT,
        "version": f"{given.date}-{digest[:8]}",
        "fitted": given.date,
        "data": [
            {"name": p.name, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
            for p in given.tables
        ],
        "rows": sum(len(f.entries) for facts in fitting.facts(entries).values() for f in facts),
        "groups": groups,
    }
    folder = given.out or model.PARAMETERS.parent
    model.save(fits, summary, folder / model.PARAMETERS.name, folder / model.FACTS.name)


def write_operators(path: Path, date: str) -> None:
    """``operators.json``: medians of a table of single operators."""
    found = {
        "source": "github.com/ai-dynamo/aiconfigurator @095f58a and"
        " github.com/AI-Hypercomputer/tpu-recipes @c8cfe2f, operator tables",
        "fitted": date,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "devices": operator_tables.efficiencies(path),
    }
    target = Path(operators.__file__).with_name("operators.json")
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def describe(fit: Fit, facts: Sequence[fitting.Fact]) -> dict[str, Any]:
    """What was learned of one group of problems, with intervals."""
    by_source = fitting.predict_held_out(fit, [fact.source for fact in facts])
    at_random = fitting.predict_held_out(fit, fitting.folds(len(facts)))
    found = fitting.calibrate(by_source, at_random)
    return {
        "facts": len(facts),
        "rows": sum(len(fact.entries) for fact in facts),
        "calibration": {"factor": round(found.factor, 4), "floor": round(found.floor, 4)},
        "noise": [round(float(v), 6) for v in fit.noise],
        "noise_classes": list(features.NOISE[facts[0].problem.kind
                              if facts[0].problem.kind in features.GROUPS else "serving"]),
        "sd": {name: round(v, 6) for name, v in fit.sd.items()},
        "effects": {
            name: {
                level: {
                    "log_speed": round(mean, 4),
                    "low": round(mean - fitting.NORMAL_90 * sd, 4),
                    "high": round(mean + fitting.NORMAL_90 * sd, 4),
                }
                for level, mean, sd in fit.effects(name)
            }
            for name in SHOWN
            if name in fit.sd and fit.sd[name] >= model.NEGLIGIBLE
        },
        "sources": [fact.source for fact in facts],
    }  # fmt: skip


if __name__ == "__main__":
    main()

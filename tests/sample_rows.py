"""Plausible rows for tests."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from tpubench.results.metrics import METRICS
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.statistics import within


def make_row(
    metric: str = "output_tok_s", samples: list[float] | None = None, **changes: Any
) -> Row:
    """A plausible measured row; ``changes`` replace fields after value and interval are derived."""
    samples = [10.0, 11.0, 12.0] if samples is None else samples
    known = METRICS[metric]
    estimate = within(known.aggregate, samples or [1.0])
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "20260101T000000-abcdef",
        "repetition": 0,
        "started_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "evidence": "measured",
        "status": "ok",
        "reason": None,
        "workload": "llama-infer",
        "workload_version": 1,
        "preset": "tiny",
        "params": json.dumps({"batch": 1, "dtype": "bfloat16"}),
        "backend": "cpu",
        "device": "cpu",
        "chips": 1,
        "hosts": 1,
        "parallelism": "none",
        "dtype": "bfloat16",
        "metric": metric,
        "unit": known.unit,
        "better": known.better,
        "value": estimate.point,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "samples": samples or None,
        "usd_per_chip_hour": None,
        "price_id": None,
        "price_as_of": None,
        "price_sha256": None,
        "source": "tpubench test",
        "fingerprint": "f" * 64,
        "environment": "{}",
        "git_sha": None,
        "git_dirty": None,
    }
    return Row(**{**fields, **changes})

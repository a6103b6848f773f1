"""Measurements of a served model, whoever made them: which stand beside each other, and how far.

Our own have the workload ``llama-serve``, imported ones ``llm-serving``. They are alike where the
model, the precision, the lengths and the load are: a concurrency, or a rate. What else the two
sides say of the run (requests, warm-up, the shape's name, a service level) is their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tpubench.results.model_names import model_key
from tpubench.results.row import Row

OURS, IMPORTED = "llama-serve", "llm-serving"
SERVED = {OURS, IMPORTED}
ALIKE = {
    "ttft_s",
    "tpot_s",
    "itl_s",
    "e2e_s",
    *(f"{side}_tok_s{chip}" for side in ("output", "input", "total") for chip in ("", "_per_chip")),
    "requests_s",
}
"""Metrics that mean the same in both: medians over requests, and all work ÷ all time."""
WHERE_NOT = (
    "latencies of our open loop count from when a request was due, others' from when it was sent:"
    " the difference is our send_lag_s",
    "our window leaves the warm-up out and ends with the last token; others' is their tool's",
    "goodput and dollars at a service level are not compared: an imported file does not carry ours",
)
"""Where definitions part, or may."""
_LENGTHS = ("input_len", "output_len")
_LOADS = ("concurrency", "request_rate")


def load_of(row: Row, params: Mapping[str, object]) -> tuple[object, ...] | None:
    """What must be equal of two served measurements; None for one that is none, or says no load.

    Lengths are rounded to whole tokens: an imported one may be a mean over requests.
    """
    if row.workload not in SERVED or row.metric not in ALIKE:
        return None
    lengths = [_number(params.get(name)) for name in _LENGTHS]
    # "inf": all at once, which a concurrency then limits, or which is no load that we make.
    concurrency, rate = (_number(params.get(name)) for name in _LOADS)
    if None in lengths or concurrency == rate:
        return None
    rounded = [round(each) for each in lengths if each is not None]
    return (model_key(row.preset), *rounded, concurrency, rate, row.dtype, row.metric)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

"""Mean lengths of the benchmarks whose requests vary: they decide the work of a query.

Means of the MLPerf inference data sets as given in the benchmark's own task descriptions and
reference README files (github.com/mlcommons/inference, rounds 3.1 to 5.1, read 2026-11-22). They
set the scale of a prediction only; what is left goes into the fitted effect of the benchmark.
"""

from __future__ import annotations

from typing import NamedTuple


class Lengths(NamedTuple):
    """Tokens of a request; None where not stated."""

    inputs: float | None
    outputs: float | None
    kind: str
    """fixed, or variable for means of a data set."""


_MLPERF = {
    "llama-2-70b": (294.0, 294.0),  # OpenOrca sample
    "gpt-j-6b": (924.0, 69.0),  # CNN/DailyMail, summaries of up to 128 tokens
    "mixtral-8x7b": (270.0, 145.0),  # OpenOrca, GSM8K and MBXP mixed
    "llama-3.1-8b": (778.0, 73.0),  # CNN/DailyMail
    "llama-3.1-405b": (9428.0, 684.0),  # LongBench, LongDataCollections, Ruler
    "deepseek-v3": (800.0, 3880.0),  # mathematics, code and question answering with reasoning
}


BEAMS = {"gpt-j-6b": 4.0}
"""Beam width where the benchmark's rules ask for beam search: so many tokens decoded for one."""


def dataset(model: str, source: str) -> Lengths | None:
    """Mean lengths of a model's MLPerf data set; None for a model without one."""
    lengths = _MLPERF.get(model)
    return Lengths(*lengths, "variable") if lengths and "mlperf" in source.lower() else None

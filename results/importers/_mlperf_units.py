"""What MLPerf Inference's rates count, where a round's summary says it wrongly.

The submission checker takes a benchmark's figure from the log by one table and its unit by
another. Where the first names tokens and the second was not brought up to it, the summary says
"Samples/s" or "Queries/s" for tokens a second: whisper and the Interactive scenario of llama3.1-8b
in v5.1, gpt-oss-120b in v6.0. (mlcommons/inference, tools/submission/submission_checker/
constants.py, RESULT_FIELD_BENCHMARK_OVERWRITE and SPECIAL_UNIT_DICT, read 2026-11-28; the logs of
v5.1's submissions bear it out.)
"""

from __future__ import annotations

import re

from tpubench.results.importers._record import Figure

UNDER_BOUND = "served within the benchmark's latency bounds"
PERCENTILE = "the {file} has a high percentile only, which is no median"
_LATER = (1_000, 0)
_COUNTS_TOKENS = {
    # benchmark: the first and the last round in which its figure is the log's token rate
    r"llama-?2-70b.*": ((0, 0), _LATER),
    r"gpt-?j.*": ((4, 1), (5, 0)),
    r"mixtral-8x7b.*": ((0, 0), _LATER),
    r"llama-?3[._-]1-405b.*": ((0, 0), _LATER),
    r"llama-?3[._-]1-8b.*": ((0, 0), _LATER),
    r"deepseek-?r1.*": ((0, 0), _LATER),
    r"whisper.*": ((0, 0), _LATER),
    r"gpt-?oss-?120b.*": ((0, 0), _LATER),
}
"""Only gptj was there before its figure counted tokens (v3.1 and v4.0), and went after v5.0."""
_WRONG_UNIT = (
    "tokens, though the summary says {unit}: MLPerf takes this benchmark's figure from the log's"
    " tokens per second"
)
_INFERRED = "inferred by MLPerf from a SingleStream run, not measured with all samples queued"


def scenario_name(text: str) -> str:
    """One spelling of a scenario: ``Single Stream`` and ``SingleStream`` are ``singlestream``."""
    return re.sub(r"[^a-z]+", "", text.lower())


def bounded(scenario: str) -> str | None:
    """What is to know of a rate in a scenario whose latency is bounded."""
    return UNDER_BOUND if scenario in {"server", "interactive"} else None


def joined(*notes: str | None) -> str | None:
    """Remarks on a figure as one text."""
    return "; ".join(note for note in notes if note) or None


def counts_tokens(benchmark: str, round_name: str | None) -> bool:
    """Whether MLPerf's figure of a benchmark is tokens a second, queued or served."""
    number = re.search(r"(\d+)\.(\d+)", round_name or "")
    stated = (int(number[1]), int(number[2])) if number else (0, 0)
    return any(
        re.fullmatch(pattern, benchmark.lower()) and first <= stated <= last
        for pattern, (first, last) in _COUNTS_TOKENS.items()
    )


def summary_figure(
    benchmark: str,
    scenario: str,
    round_name: str | None,
    unit: str,
    value: float,
    *,
    inferred: bool,
) -> Figure:
    """The one figure of a summary's entry, in what it really counts."""
    bound = bounded(scenario)
    known = unit.lower().partition(" ")[0]
    if known not in {"tokens/s", "samples/s", "queries/s"}:
        why = PERCENTILE.format(file="summary")
        return Figure(metric="e2e_s", reason=f"{why}: {value:g} in {unit}")
    if value == 0:
        return Figure(metric="samples_s", reason="the summary gives a rate of zero")
    if inferred and scenario == "offline":
        # The checker takes a SingleStream run's queries a second, whatever the benchmark counts.
        return Figure(metric="samples_s", value=value, reason=_INFERRED)
    if known == "tokens/s":
        return Figure(metric="output_tok_s", value=value, reason=bound)
    if counts_tokens(benchmark, round_name):
        why = _WRONG_UNIT.format(unit=unit)
        return Figure(metric="output_tok_s", value=value, reason=joined(bound, why))
    return Figure(metric="samples_s", value=value, reason=bound)

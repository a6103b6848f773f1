"""From the answers of a proved load to the samples of each metric.

Only measured requests count, warm-up left out. The window begins when the first of them was due and
ends with the last token of all: what AIPerf calls the benchmark's duration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpubench.results.statistics import percentile_minimum
from tpubench.suite.serving.load import Load
from tpubench.suite.serving.log import Answer
from tpubench.suite.serving.proof import Proof
from tpubench.suite.serving.slo import PERCENTILES, Slo

MOST_GAPS = 100_000
"""Of ``itl_s``: of more, every so-manieth is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Samples by metric, and why a metric has none or what to know about it."""

    samples: Mapping[str, list[float]]
    reasons: Mapping[str, str]


def figures(load: Load, answers: Sequence[Answer], proof: Proof, slo: Slo) -> Figures:
    """Every figure of a load whose proof found no fault."""
    pairs = list(zip(answers, proof.due_s, strict=True))
    measured = sorted(
        ((due, a) for a, due in pairs if a.number >= load.warm_up), key=lambda pair: pair[0]
    )
    start = measured[0][0]
    due = [due for due, _ in measured]
    kept = [answer for _, answer in measured]
    ttft = [_known(a.first_s) - at for at, a in measured]
    e2e = [_known(a.last_s) - at for at, a in measured]
    tpot = [
        None if _count(a) < 2 else (_known(a.last_s) - _known(a.first_s)) / (_count(a) - 1)
        for a in kept
    ]
    samples = {
        "arrival_s": [at - start for at in due],
        "send_lag_s": [a.sent_s - at for at, a in measured],
        "ttft_s": ttft,
        "e2e_s": e2e,
        "tpot_s": [each for each in tpot if each is not None],
        "prompt_tokens": [float(a.input_tokens or 0) for a in kept],
        "answer_tokens": [float(_count(a)) for a in kept],
    }
    reasons: dict[str, str] = {}
    _add_gaps(samples, reasons, kept)
    _add_percentiles(samples, reasons)
    window_s = max(_known(a.last_s) for a in kept) - start
    inputs, outputs = sum(samples["prompt_tokens"]), sum(samples["answer_tokens"])
    samples["output_tok_s"] = [outputs / window_s]
    samples["input_tok_s"] = [inputs / window_s]
    samples["total_tok_s"] = [(inputs + outputs) / window_s]
    samples["requests_s"] = [len(kept) / window_s]
    _add_cached(samples, kept)
    latencies: list[dict[str, float | None]] = [
        {"ttft": one, "tpot": two, "e2e": three}
        for one, two, three in zip(ttft, tpot, e2e, strict=True)
    ]
    good = [a for a, own in zip(kept, latencies, strict=True) if slo.good(own)]
    _add_goodput(samples, reasons, good, slo, window_s)
    return Figures(samples={k: v for k, v in samples.items() if v}, reasons=reasons)


def _add_gaps(
    samples: dict[str, list[float]], reasons: dict[str, str], kept: Sequence[Answer]
) -> None:
    """Of the answers whose every chunk is a token: a server holds back what is half a character."""
    whole = [a for a in kept if len(a.gaps_s) == _count(a) - 1]
    if 2 * len(whole) < len(kept):
        reasons["itl_s"] = "a chunk is not a token here: gaps between chunks are no token's"
        return
    gaps = [gap for answer in whole for gap in answer.gaps_s]
    step = max(1, -(-len(gaps) // MOST_GAPS))
    remarks = [f"one in {step} of {len(gaps):,} gaps"] if step > 1 else []
    if len(whole) < len(kept):
        remarks.append(f"of the {len(whole)} of {len(kept)} answers whose every chunk is a token")
    if remarks:
        reasons["itl_s"] = "; ".join(remarks)
    samples["itl_s"] = gaps[::step]


def _add_percentiles(samples: dict[str, list[float]], reasons: dict[str, str]) -> None:
    for name in ("ttft", "tpot", "e2e"):
        own = samples[f"{name}_s"]
        for tail in ("p90", "p99"):
            least = percentile_minimum(PERCENTILES[tail])
            if len(own) >= least:
                samples[f"{name}_{tail}_s"] = own
            else:
                reasons[f"{name}_{tail}_s"] = f"a {tail} needs {least} requests, not {len(own)}"


def _add_cached(samples: dict[str, list[float]], kept: Sequence[Answer]) -> None:
    cached = [a.cached_tokens for a in kept]
    if all(each is not None for each in cached):
        total = sum(a.input_tokens or 0 for a in kept)
        samples["cached_share"] = [sum(each or 0 for each in cached) / total]


def _add_goodput(
    samples: dict[str, list[float]],
    reasons: dict[str, str],
    good: Sequence[Answer],
    slo: Slo,
    window_s: float,
) -> None:
    names = ("goodput_req_s", "goodput_tok_s")
    if not slo.goals:
        reasons |= dict.fromkeys(names, "no --slo given")
    elif not good:
        reasons |= dict.fromkeys(names, f"no request kept {slo}")
    else:
        samples["goodput_req_s"] = [len(good) / window_s]
        samples["goodput_tok_s"] = [sum(_count(a) for a in good) / window_s]


def _count(answer: Answer) -> int:
    return answer.output_tokens or 0


def _known(time_s: float | None) -> float:
    assert time_s is not None, "the proof asks for a first token"
    return time_s

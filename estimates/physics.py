"""One door to the closed forms: a problem's terms, and whether a value beats the hardware."""

from __future__ import annotations

from tpubench.estimates import sampled, serving, training
from tpubench.estimates.published import Problem
from tpubench.estimates.shapes import BYTES
from tpubench.estimates.terms import Terms


def terms(problem: Problem) -> Terms:
    """The physical prediction of any problem."""
    if problem.kind == "training":
        return training.terms(problem)
    if problem.kind == "samples":
        return sampled.terms(problem)
    return serving.terms(problem)


def implausible(problem: Problem, value: float) -> str | None:
    """Why no such hardware can have reached ``value``; None when it can have.

    Only what is certain counts: the model's FLOPs against the peak of the narrowest precision
    that the chip has below the stated one, and the weights of one token against the bandwidth.
    """
    chip = problem.chip
    peak = chip.peak(problem.precision) or chip.peak_flop_s["bfloat16"]
    if not problem.precision_stated:
        peak = max(chip.peak_flop_s.values())
    if problem.kind == "training":
        speed = _speed(problem, value)
        if speed is None:
            return None
        used = speed * training.flops_per_token(problem, attention="causal")
        if used > 1.02 * peak:
            return f"needs {used / 1e12:.0f} TFLOP/s a chip; its peak is {peak / 1e12:.0f}"
        return None
    if problem.kind == "samples" or problem.shape is None:
        return None
    return _serving(problem, value, peak)


def _speed(problem: Problem, value: float) -> float | None:
    """Tokens a second and chip behind a training figure."""
    if problem.metric == "time_to_train_min":
        return None
    found = terms(problem)
    nominal = 1.0 / found.total_s
    ratio = value / found.value()
    return nominal * (ratio if found.rate else 1 / ratio)


def _serving(problem: Problem, value: float, peak: float) -> str | None:
    shape, chip = problem.shape, problem.chip
    assert shape is not None
    chips = problem.tensor
    if problem.metric in {"itl_ms", "tpot_ms"}:
        steps = 1e3 / value
        read = (shape.active if not shape.experts else shape.dense_params) * BYTES.get(
            problem.precision, 0.5
        )
        if steps * read > 1.05 * chips * chip.hbm_bytes_s:
            rate = steps * read / chips / 1e12
            return f"reads weights at {rate:.1f} TB/s a chip; its HBM gives {chip.hbm_bytes_s / 1e12:.1f}"  # noqa: E501
        return None
    tokens: float | None = None
    if problem.metric.startswith("output_tokens"):
        tokens = value
    elif problem.metric == "prefill_tokens_per_s" or problem.metric.startswith("total_tokens"):
        tokens = value
    elif problem.metric in {"samples_per_s", "requests_per_s"}:
        tokens = value * (problem.output_len or 1.0)
    if tokens is None:
        return None
    if problem.metric.endswith("per_chip"):
        tokens *= problem.chips
    work = tokens
    if problem.lengths == "fixed" and problem.metric.startswith("output_tokens"):
        if problem.kind in {"offline", "static", "concurrency"} and problem.output_len:
            if problem.scenario != "prefix-cached":
                work = tokens * (1 + (problem.input_len or 0.0) / problem.output_len)
    used = 2 * shape.active * work / problem.chips
    if used > 1.05 * peak:
        return f"needs {used / 1e12:.0f} TFLOP/s a chip; its peak is {peak / 1e12:.0f}"
    return None

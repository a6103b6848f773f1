"""One door to the closed forms: a problem's terms, and whether a value beats the hardware."""

from __future__ import annotations

from tpubench.devices.precisions import width_bytes
from tpubench.estimates.problem import Images, Problem, Serving, Training
from tpubench.estimates.roofline import sampled, serving, training
from tpubench.estimates.roofline.terms import Terms


def terms(problem: Problem) -> Terms:
    """The physical prediction of any problem."""
    if isinstance(problem, Training):
        return training.terms(problem)
    if isinstance(problem, Images):
        return sampled.terms(problem)
    assert isinstance(problem, Serving)
    return serving.terms(problem)


def limit(problem: Problem) -> float | None:
    """The figure at which the hardware is used up, in the unit of the metric; None if unknown.

    Only what is certain counts: the model's FLOPs against the peak at the stated precision (the
    narrowest of the chip where none is stated), and the weights that a token must read against
    the bandwidth. A duration cannot be below it, a rate not above.
    """
    chip = problem.chip
    peak = chip.peak(problem.precision) or chip.peak_flop_s["bfloat16"]
    if not problem.precision_stated:
        peak = max(chip.peak_flop_s.values())
    if isinstance(problem, Training):
        if problem.metric == "time_to_train_s":
            return None
        own = terms(problem)
        flops = training.flops_per_token(problem, attention="causal")
        tokens_s = TOLERANCE * peak / flops
        return own.scale * tokens_s if own.rate else own.scale / tokens_s
    return _serving(problem, peak) if isinstance(problem, Serving) else None


TOLERANCE = 1.05
"""Room for rounded data sheets and boosted clocks before a figure is called impossible."""


def implausible(problem: Problem, value: float) -> str | None:
    """Why no such hardware can have reached ``value``; None when it can have."""
    most = limit(problem)
    if most is None:
        return None
    if terms(problem).rate and value > most:
        return f"{value:g} is above {most:.4g}, what the hardware's peak allows"
    if not terms(problem).rate and value < most:
        return f"{value:g} is below {most:.4g}, what the hardware's peak allows"
    return None


def _serving(problem: Serving, peak: float) -> float | None:
    shape, chip = problem.shape, problem.chip
    if problem.metric in {"itl_s", "tpot_s"}:
        params = shape.active if not shape.experts else shape.dense_params
        read_s = params * width_bytes(problem.precision) / problem.tensor / chip.hbm_bytes_s
        return read_s / TOLERANCE
    per_token = 2 * shape.active
    if problem.metric == "prefill_tok_s" or problem.metric.startswith("total_tok"):
        most = peak * problem.chips / per_token
    elif problem.metric.startswith(("output_tok", "peak_output_tok")):
        most = peak * problem.chips / per_token
        whole = problem.kind in {"offline", "static"} and not problem.variable
        if whole and problem.output_len and problem.scenario != "prefix-cached":
            most /= 1 + (problem.input_len or 0.0) / problem.output_len
    elif problem.metric in {"samples_s", "requests_s"}:
        most = peak * problem.chips / per_token / (problem.output_len or 1.0)
    else:
        return None
    if problem.metric.endswith("per_chip"):
        most /= problem.chips
    return TOLERANCE * most

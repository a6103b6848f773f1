"""Seconds of one sample (an image, a query) on one chip, by class of work."""

from __future__ import annotations

from tpubench.estimates.problem import Images
from tpubench.estimates.roofline.operators import usual
from tpubench.estimates.roofline.terms import PROGRAM, STREAM, Terms
from tpubench.estimates.roofline.training import MLPERF_SAMPLES

SERVER_SHARE = 0.92
"""Part of the offline rate that holds under a latency limit, before correction."""


def terms(problem: Images) -> Terms:
    """The prediction of a figure in samples."""
    work, chip = problem.work, problem.chip
    peak = chip.peak(problem.precision) or chip.peak_flop_s["bfloat16"]
    steps = problem.steps or work.steps
    training = problem.training
    flops = work.flops_per_step * (1.0 if work.trained else steps * (3.0 if training else 1.0))
    if training and not work.trained:
        flops = 3 * work.flops_per_step
    seconds = {"matmul": flops / (peak * usual(chip.name, problem.precision) * PROGRAM)}
    if work.bytes_per_sample:
        seconds["weights"] = work.bytes_per_sample / (chip.hbm_bytes_s * STREAM)
    chips = float(problem.chips)
    batch = problem.batch or problem.global_batch or 1.0
    metric = problem.metric
    rate = True
    if metric in {"samples_s", "queries_s", "train_tok_s"}:
        scale = chips
    elif metric.endswith("per_chip"):
        scale = flops if metric == "flop_s_per_chip" else 1.0
    elif metric == "time_to_train_s":
        scale, rate = MLPERF_SAMPLES.get(work.name, 1e6) / chips, False
    elif metric in {"mfu", "hfu"}:
        scale = flops / peak
    elif metric == "sample_time_s":
        scale, rate = 1 / chips, False
    else:  # step_time_s, batch_time_s
        scale, rate = batch / chips, False
    if problem.scenario in {"mlperf-server", "mlperf-interactive"}:
        scale *= SERVER_SHARE
    return Terms(seconds=seconds, scale=scale, rate=rate, batch=batch)

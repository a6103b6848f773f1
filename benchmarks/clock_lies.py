"""How large a lie about time must be to be caught, on scripted devices drawn at random.

    python benchmarks/clock_lies.py [--devices 20] [--only LIE …] [--since warm-up]

Each lie of ``suite/backends/_lies.py`` is told from the warm-up on, when the proof of the clock is
over, in several sizes, by devices whose costs are drawn at random. Printed: the share of the runs
that were refused, and the largest error of the rate among those that were stored. Everything is
virtual but the programs, so the table is the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Mapping

import torch

from tpubench.results.figure import SampledValue
from tpubench.suite import child, registry
from tpubench.suite.backends.fake import SCRIPT_VARIABLE
from tpubench.suite.job import Job, Outcome
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Weights

PACE = Pace(warm_up_s=0.05, window_s=0.1, most_warm_up_s=0.15, latency_s=0.0)
SIZES: Mapping[str, tuple[float, ...]] = {
    "barrier": (0.001, 0.01, 0.02, 0.05, 0.1, 0.3),
    "coherent": (0.01, 0.02, 0.05, 0.1),
    "newest": (1, 5, 10, 20, 50),
    "events": (1, 2, 5, 20),
    "pace": (0.99, 0.985, 0.98, 0.975, 0.97, 1.02, 1.03),
    "coarse": (1e-4, 1e-3),
    "late": (1e-3, 2e-3, 3e-3),
    "swapped": (1, 2, 5),
    "stale": (0.005, 0.02, 0.05, 0.2, 1),
    "skip": (50, 100, 200, 400),
    "memo": (0.1, 0.15, 0.2, 0.25, 0.3, 1),
    "coalesce": (0.2, 0.3, 1),
    "jump": (5e-4, 1e-3, 2e-3),
    "clock": (0.99, 0.97, 0.5),
    "throttle": (0.05, 0.1),
    "boost": (0.05, 0.1),
    "bursts": (1e-4, 1e-3),
    "hiccup": (1e-3, 1e-2),
}
"""Sizes in the units of ``_lies.LIES``, for a window of 0.1 s."""


def draw(chance: random.Random) -> dict[str, float]:
    """Costs of a device."""
    return {
        "host_us": chance.uniform(10, 30),
        "replay_us": chance.uniform(50, 250),
        "kernel_us": chance.uniform(10, 40),
        "flop_s": 10 ** chance.uniform(7.6, 8.3),
        "barrier_us": chance.uniform(20, 80),
        "launch_us": chance.uniform(2, 10),
    }


def run(case: Case, script: Mapping[str, object]) -> Outcome:
    os.environ[SCRIPT_VARIABLE] = json.dumps(script)
    job = Job(
        backend="fake", compile_mode="graphs", case=case, weights=Weights(), pace=PACE, repetition=0
    )
    return child.execute(job, lambda phase, expected_s: None)


def rate(case: Case, outcome: Outcome) -> float:
    workload = registry.workload(case.workload)
    metric = workload.metric(workload.primary_metric)
    assert metric is not None
    samples = workload.measure(case, outcome.windows).samples[metric.name]
    value = SampledValue.of(metric, list(samples)).value
    assert value is not None
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(SIZES))
    parser.add_argument("--since", default="warm-up")
    parser.add_argument("--marks", nargs="*", default=["device events", "lagged reads"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    workload = registry.workload("gemm")
    settings = {"m": ["48"], "n": ["16"], "k": ["48"], "dtype": ["float32"]}
    (case,) = workload.cases("square-512", settings)
    print("| marks | lie | size | refused | stored, not steady | largest error stored |")
    print("|---|---|--:|--:|--:|--:|")
    for marks in asked.marks:
        chance = random.Random(1)
        devices = [draw(chance) | {"marks": marks} for _ in range(asked.devices)]
        honest = [run(case, device) for device in devices]
        assert all(outcome.status == "ok" for outcome in honest)
        usual = [rate(case, outcome) for outcome in honest]
        for lie in asked.only:
            for size in SIZES[lie]:
                told = {"lie": lie, "lie_size": size, "lie_since": asked.since}
                outcomes = [run(case, device | told) for device in devices]
                pairs = list(zip(outcomes, usual, strict=True))
                stored = [(one, was) for one, was in pairs if one.status == "ok"]
                errors = [rate(case, one) / was - 1 for one, was in stored]
                refused = sum(one.status != "ok" for one in outcomes)
                unsteady = sum(one.steadiness != "steady" for one, _ in stored)
                worst = f"{max(errors, key=abs):+.1%}" if errors else ""
                print(f"| {marks} | {lie} | {size:g} | {refused} of {len(outcomes)}"
                      f" | {unsteady} | {worst} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

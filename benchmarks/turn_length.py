"""How long a duet's turns should be: the scatter of a half-second comparison, by their length.

    python benchmarks/turn_length.py [--seconds S] [--core N]

One process runs the programs of ``gate_programs.py`` and is compared with itself: its passes are
dealt to two sides in turns of each length, four at a time as ABBA, and the pair's figure is taken
as ``tpubench ab`` takes it (median over quads of the log ratio of block times). Both sides being
one process, all that scatters is the weather of the machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics

from gate_programs import PROGRAMS, side

from tpubench.results.duet import Pair, block_time_s, log_ratio
from tpubench.suite import registry
from tpubench.suite.prepared import prepare

LENGTHS_S = (0.0025, 0.005, 0.010, 0.020, 0.040, 0.080)
PAIR_S = 0.48
WINDOW = 50


def passes_s(program: str, seconds: float) -> list[float]:
    """Seconds of each pass, one after the other."""
    job = side("baseline", program, 20).job
    backend = registry.backend(job.backend)
    device = backend.open(job.compile_mode)
    times: list[float] = []
    with backend.running():
        ready = prepare(job, backend, device, lambda phase, expected_s: None)
        while sum(times) < seconds:
            times += ready.block(WINDOW).passes_s
    return times


def scatter(seconds: list[float], length_s: float) -> tuple[int, int, int, float]:
    """(passes a turn, quads, comparisons, standard deviation of their log ratios)."""
    usual_s = statistics.median(seconds)
    passes = max(1, math.ceil(length_s / usual_s))
    quads = max(1, round(PAIR_S / (4 * passes * usual_s)))
    turns = [seconds[i : i + passes] for i in range(0, len(seconds) - passes + 1, passes)]
    ratios = []
    for start in range(0, len(turns) - 4 * quads + 1, 4 * quads):
        times = [block_time_s(turn) for turn in turns[start : start + 4 * quads]]
        pair = Pair(
            order="ABBA" * quads,
            baseline_s=[t for i, t in enumerate(times) if i % 4 in (0, 3)],
            candidate_s=[t for i, t in enumerate(times) if i % 4 in (1, 2)],
        )
        ratios.append(log_ratio(pair))
    return passes, quads, len(ratios), statistics.stdev(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    os.sched_setaffinity(0, {asked.core})
    for program in PROGRAMS:
        seconds = passes_s(program, asked.seconds)
        print(f"{program}: {len(seconds)} passes, median {1e3 * statistics.median(seconds):.2f} ms")
        for length_s in LENGTHS_S:
            passes, quads, count, sd = scatter(seconds, length_s)
            print(
                f"  turns of {1e3 * length_s:4.1f} ms: {passes:3} passes, {quads:2} quads,"
                f" {count} comparisons: scatter {100 * sd:.2f} %"
            )


if __name__ == "__main__":
    main()

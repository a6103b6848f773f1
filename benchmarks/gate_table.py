"""What recorded gates say: verdicts, the peers' rules on the same recordings, and the promises."""

from __future__ import annotations

import math
import operator
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from gate_programs import PROGRAMS, WORK, case
from scipy import stats

from tpubench.results.duet import Pair, log_ratio
from tpubench.results.gate.looks import MDE_PAIRS, judge, minimum_detectable
from tpubench.results.gate.policy import Policy
from tpubench.suite import registry

POLICY = Policy()
BOUND = 0.95
Gate = dict[str, Any]
"""A recorded gate, as JSON."""


def verdict(one: Gate) -> tuple[str, int, float]:
    """Verdict, pairs used and reported minimum detectable effect of a recorded gate."""
    first, second = ([log_ratio(pair_of(p)) for p in one[name]] for name in ("first", "second"))
    judged = [judge(first, POLICY), judge(second, POLICY, first)]
    word = judged[0].verdict
    pairs = judged[0].pairs + judged[1].pairs
    if word == "regressed":
        word = judged[1].verdict
    return word, pairs, minimum_detectable(judged[0].sigma, POLICY)


def pair_of(recorded: Gate) -> Pair:
    return Pair(order=recorded["order"], baseline_s=recorded["a_s"], candidate_s=recorded["b_s"])


def mean_5(one: Gate) -> bool:
    a, b = one["alone"]["A"][0], one["alone"]["B"][0]
    return statistics.fmean(b) > 1.05 * statistics.fmean(a)


def u_test(one: Gate) -> bool:
    a, b = one["alone"]["A"][0], one["alone"]["B"][0]
    return bool(stats.mannwhitneyu(b, a, alternative="greater").pvalue < 0.01)


def asv_style(one: Gate) -> bool:
    a, b = ([s for run in one["alone"][side] for s in _ten(run)] for side in "AB")
    apart = statistics.median(b) > 1.05 * statistics.median(a)
    return apart and bool(stats.mannwhitneyu(b, a).pvalue < 0.002)


def _ten(run: list[float]) -> list[float]:
    """A run as ten samples, each the mean of a stretch of it."""
    size = max(1, len(run) // 10)
    return [statistics.fmean(run[i : i + size]) for i in range(0, size * min(10, len(run)), size)]


PEERS = {"pytest-benchmark mean:5%": mean_5, "U-test, one process": u_test, "asv-style": asv_style}


def share(hits: int, n: int) -> str:
    """A rate with its exact 95 % bounds (Clopper & Pearson 1934)."""
    if n == 0:
        return "-"
    bounds = stats.binomtest(hits, n).proportion_ci(BOUND, "exact")
    return f"{hits}/{n} = {100 * hits / n:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


def table(records: list[Gate]) -> None:
    by_kind: dict[str, list[Gate]] = defaultdict(list)
    for one in records:
        by_kind[one["kind"]].append(one)
    for program in PROGRAMS:
        work = [registry.workload(program).work(case(program, n)) for n in WORK.values()]
        flops, moved = (
            [w.flops / work[0].flops for w in work],
            [w.bytes / work[0].bytes for w in work],
        )
        print(
            f"work of {program}, candidate / baseline:"
            f" FLOPs {_ratios(flops)}, bytes {_ratios(moved)}"
        )
    print(
        f"\nflagged, with {BOUND:.0%} bounds (a regression is called; of +5 % and +10 % it is one)"
    )
    print(f"{'rule':26} {'identical (A/A)':32} {'+5 % of work':32} {'+10 % of work':32}")
    rules: dict[str, Callable[[Gate], bool]] = {
        "tpubench ab": lambda one: verdict(one)[0] == "regressed",
        **PEERS,
    }
    for name, rule in rules.items():
        cells = [share(sum(map(rule, by_kind[kind])), len(by_kind[kind])) for kind in WORK]
        print(f"{name:26} " + " ".join(f"{cell:32}" for cell in cells))
    promises(by_kind)
    for kind in WORK:
        for program in PROGRAMS:
            ours = [one for one in by_kind[kind] if one["program"] == program]
            if ours:
                _detail(kind, program, ours)


def promises(by_kind: dict[str, list[Gate]]) -> None:
    print(f"\n{'promise':51} {'measured':33} held")
    judged = {kind: [verdict(one) for one in by_kind[kind]] for kind in WORK}
    aa = [word == "regressed" for word, _, _ in judged["aa"]]
    _promise("A/A flagged <= 1 %", sum(aa), len(aa), lambda rate: rate <= 0.01)
    for kind, least in (("plus5", 0.95), ("plus10", 0.98)):
        able = [one for one in judged[kind] if one[2] <= 1.05]
        hits = sum(word == "regressed" and pairs <= MDE_PAIRS for word, pairs, _ in able)
        label = f"{kind} flagged >= {least:.0%} in 30 pairs, MDE <= 5 %"
        _promise(label, hits, len(able), partial(operator.le, least))
    wrong = sum(word == "ok" for word, _, _ in judged["plus5"])
    _promise("+5 % called ok <= 5 %", wrong, len(judged["plus5"]), lambda rate: rate <= 0.05)


def _promise(label: str, hits: int, n: int, holds: Callable[[float], bool]) -> None:
    state = "-" if n == 0 else "yes" if holds(hits / n) else "NO"
    print(f"{label:51} {share(hits, n):33} {state}")


def _detail(kind: str, program: str, ours: list[Gate]) -> None:
    verdicts = [verdict(one) for one in ours]
    looks = [judge([log_ratio(pair_of(p)) for p in one["first"]], POLICY) for one in ours]
    sigmas = [look.sigma for look in looks if look.sigma is not None]
    points = [statistics.median(log_ratio(pair_of(p)) for p in one["first"]) for one in ours]
    counts = {v: sum(f[0] == v for f in verdicts) for v in ("regressed", "ok", "inconclusive")}
    print(
        f"  {kind:6} {program:12} {counts};"
        f" pairs median {statistics.median(f[1] for f in verdicts):g},"
        f" sigma median {100 * statistics.median(sigmas):.2f} %, ratio median"
        f" {math.exp(statistics.median(points)):.4f}, MDE <= 5 % in"
        f" {sum(f[2] <= 1.05 for f in verdicts)}/{len(verdicts)},"
        f" {statistics.median(one['wall_s'] for one in ours):.0f} s a gate"
    )


def _ratios(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)

"""Does the model name the right winner: every TPU with every GPU that did the same work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log

from tpubench.devices.list_price import device_price
from tpubench.devices.precisions import PRECISIONS
from tpubench.estimates.problem import Images, Problem, Training
from tpubench.estimates.regression.model import Prediction

ALIKE = 1.5
"""Lengths that differ by at most this factor are comparable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedLine:
    """A published row beside its prediction."""

    line: int
    source: str
    problem: Problem
    value: float
    predicted: Prediction

    @property
    def error(self) -> float:
        """Relative error of the prediction: 0.1 is 10 % too high."""
        return self.predicted.value / self.value - 1

    @property
    def covered(self) -> bool:
        """Whether the 90 % interval holds the published value."""
        return self.predicted.low <= self.value <= self.predicted.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How often the better of two devices is named rightly."""

    pairs: int
    right: int

    @property
    def share(self) -> float | None:
        """Right ones among the pairs; None without pairs."""
        return self.right / self.pairs if self.pairs else None


def order(rows: Sequence[PredictedLine]) -> tuple[Order, Order]:
    """(faster per chip, cheaper at list prices) over all TPU–GPU pairs of comparable rows.

    Comparable: same model, kind of run and scenario, lengths within a factor of 1.5, weights of
    as many bits where both say. Pairs of equal published speed are left out, and for the cheaper
    device pairs without a current on-demand list price on both sides.
    """
    groups: dict[tuple[str, ...], list[tuple[PredictedLine, float, float]]] = defaultdict(list)
    for row in rows:
        scale = _per_chip(row)
        if scale is not None:
            problem = row.problem
            what = "target" if problem.metric == "time_to_train_s" else "rate"
            tuning = problem.tuning if isinstance(problem, Training) else ""
            key = (problem.kind, problem.model, problem.scenario, tuning, what)
            rate = row.predicted.terms.rate
            measured = scale * (row.value if rate else 1 / row.value)
            predicted = scale * (row.predicted.value if rate else 1 / row.predicted.value)
            groups[key].append((row, measured, predicted))
    faster, cheaper = [0, 0], [0, 0]
    for members in groups.values():
        tpus = [m for m in members if m[0].problem.chip.is_tpu]
        gpus = [m for m in members if not m[0].problem.chip.is_tpu]
        for a, b in product(tpus, gpus):
            if not _comparable(a[0].problem, b[0].problem) or a[1] == b[1]:
                continue
            said, true = log(a[2] / b[2]), log(a[1] / b[1])
            faster[0] += 1
            faster[1] += (said > 0) == (true > 0)
            price_a, price_b = (device_price(m[0].problem.chip.name) for m in (a, b))
            if price_a is None or price_b is None:
                continue
            dearer = log(price_a.price.usd_per_chip_hour / price_b.price.usd_per_chip_hour)
            cheaper[0] += 1
            cheaper[1] += (said - dearer > 0) == (true - dearer > 0)
    return (
        Order(pairs=faster[0], right=faster[1]),
        Order(pairs=cheaper[0], right=cheaper[1]),
    )


def _comparable(a: Problem, b: Problem) -> bool:
    stated = a.precision_stated and b.precision_stated
    if stated and PRECISIONS[a.precision].bits != PRECISIONS[b.precision].bits:
        return False
    for one, other in zip(a.lengths, b.lengths, strict=True):
        if one and other and not 1 / ALIKE <= one / other <= ALIKE:
            return False
    return True


def _per_chip(row: PredictedLine) -> float | None:
    """Factor from the figure (or its inverse) to speed per chip; None for what is not a speed."""
    problem = row.problem
    metric = problem.metric
    if metric in {"ttft_s", "itl_s", "tpot_s", "bandwidth_bytes_s_per_chip"}:
        return None
    if isinstance(problem, Training) and metric != "time_to_train_s":
        nominal, total = row.predicted.terms.value(), row.predicted.terms.total_s
        return 1 / total / (nominal if row.predicted.terms.rate else 1 / nominal)
    if metric.endswith("per_chip"):
        return 1.0
    if metric in {"step_time_s", "batch_time_s"}:
        assert isinstance(problem, Images)
        return (problem.global_batch or problem.batch or 1.0) / problem.chips
    if metric in {"mfu", "hfu"}:
        return None
    return 1.0 / problem.chips

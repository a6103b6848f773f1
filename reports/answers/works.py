"""Pieces of work that a TPU and a GPU both did, by kind of work, with who can do them for what.

Like is paired with like by :mod:`tpubench.reports.pairs`; here its pairs become contenders: a
device with the chip-hours that one unit of the work takes on it, and every way to pay for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpubench.costs.allocation.plan import Doubt
from tpubench.devices.prices import Price
from tpubench.devices.sheets import devices
from tpubench.devices.vendors import label, vendor
from tpubench.reports.answers.money import spread
from tpubench.reports.answers.ways import Way, as_run, ways_of
from tpubench.reports.pairs import RATES, TIME, UNIT_OF, DevicePair, PairSide
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.serving import SERVED
from tpubench.results.summary import Summary

KINDS = {
    "training": "Training",
    "serving": "Serving",
    "batch": "Batch inference",
    "images": "Image generation",
    "other": "Other work",
}
"""Kinds of work in the order of the first screen."""

LONE = Doubt().tok_s
"""Half-width taken for a figure without an interval: what a plan doubts of a throughput."""

_DIFFUSION = ("diffusion", "sdxl", "flux")
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One device at one piece of work."""

    device: str
    name: str
    vendor: str
    tpu: bool
    dtype: str
    chips: int
    chip_hours: float
    """Hours of one chip for one unit of the work."""
    low: float
    high: float
    """Its 95 % interval."""
    assumed: bool
    """Whether the interval is the default doubt, since the figure has none."""
    repetitions: int
    evidence: str
    rate: str
    """The figure as a reader knows it, with its unit."""
    source: str
    run_id: str
    ways: tuple[Way, ...]
    default: int | None
    """Index of the way a comparison starts from; None where there is no price."""

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of the chip-hours."""
        return spread(self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedWork:
    """One piece of work and everyone who did it in the same way."""

    kind: str
    title: str
    dtype: str
    unit: str
    evidence: str
    contenders: tuple[Contender, ...]
    differences: tuple[str, ...]
    """What still differs between TPU and GPU, of the pairs that were made."""
    pairs: int


def kind_of(row: Row, scenario: object) -> str:
    """Which kind of work a row is about."""
    preset = row.preset.lower()
    if "train" in row.workload or row.metric.startswith("train_tok_s") or row.metric == TIME:
        return "training"
    if row.workload == "image-generation" or any(word in preset for word in _DIFFUSION):
        return "images"
    if not row.metric.startswith("output_tok_s"):
        return "other"
    serving = row.workload in SERVED or str(scenario) in {"server", "interactive"}
    return "serving" if serving else "batch"


def works(pairs: list[DevicePair], table: Mapping[str, Price]) -> list[ComparedWork]:
    """The like pairs as pieces of work, the most telling first within each kind."""
    groups: dict[tuple[str, ...], list[DevicePair]] = {}
    for pair in pairs:
        row = pair.tpu.rate.first
        if pair.like and row.backend != "fake" and pair.gpu.rate.first.backend != "fake":
            key = (row.evidence, pair.metric, pair.title, row.dtype)
            groups.setdefault(key, []).append(pair)
    return sorted((_work(group, table) for group in groups.values()), key=_order)


def _work(group: list[DevicePair], table: Mapping[str, Price]) -> ComparedWork:
    first = group[0].tpu.rate
    contenders: dict[str, Contender] = {}
    for side in (side for pair in group for side in (pair.tpu, pair.gpu)):
        sides = contender(side, table)
        held = contenders.get(sides.device)
        if held is None or sides.chip_hours < held.chip_hours:
            contenders[sides.device] = sides
    return ComparedWork(
        kind=kind_of(first.first, first.params.get("scenario")),
        title=group[0].title,
        dtype=first.first.dtype,
        unit=UNIT_OF[group[0].metric],
        evidence=first.first.evidence,
        contenders=tuple(sorted(contenders.values(), key=lambda c: (not c.tpu, c.chip_hours))),
        differences=tuple(dict.fromkeys(d for pair in group for d in pair.differences)),
        pairs=len(group),
    )


def contender(side: PairSide, table: Mapping[str, Price]) -> Contender:
    """One side of a pair with its chip-hours for a unit of work and its ways to pay."""
    summary, row = side.rate, side.rate.first
    estimate = summary.estimate
    assert estimate is not None
    hours = _chip_hours(summary, estimate.point)
    ends = None
    if estimate.low is not None and estimate.high is not None and estimate.low > 0:
        ends = sorted(_chip_hours(summary, end) for end in (estimate.low, estimate.high))
    low, high = ends or (hours * (1 - LONE), hours * (1 + LONE))
    listed = ways_of(row.device, table)
    default = side.asked.price.id if side.asked is not None else None
    if side.priced is not None and (stored := as_run(side.priced)) is not None:
        if not any(way.price_id == stored.price_id for way in listed):
            listed.insert(0, stored)
        default = stored.price_id
    return Contender(
        device=row.device,
        name=label(row.device),
        vendor=vendor(row.device) or "",
        tpu=devices()[row.device].is_tpu,
        dtype=row.dtype,
        chips=row.chips,
        chip_hours=hours,
        low=low,
        high=high,
        assumed=ends is None,
        repetitions=estimate.n,
        evidence=row.evidence,
        rate=side.text,
        source=row.source or "",
        run_id=row.run_id,
        ways=tuple(listed),
        default=next((i for i, way in enumerate(listed) if way.price_id == default), None),
    )


def _chip_hours(summary: Summary, value: float) -> float:
    metric = summary.first.metric
    if metric == TIME:
        return value * summary.first.chips / _SECONDS_PER_HOUR
    return METRICS[RATES[metric][0]].usd_items / (_SECONDS_PER_HOUR * value)


def _order(work: ComparedWork) -> tuple[object, ...]:
    """By kind; then what was measured, the newest TPU, and the most devices to choose from."""
    newest = max(devices()[c.device].on_sale for c in work.contenders if c.tpu)
    measured = work.evidence != "measured"
    count = len(work.contenders)
    return ([*KINDS].index(work.kind), measured, -newest.toordinal(), -count, work.title)

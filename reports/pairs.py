"""TPU against GPU: which figures may be held against each other, and what still differs.

Like is compared with like: the same work, model, precision and lengths, at the same load, per
physical chip. Of several figures of a device the fastest stands for it, TPU and GPU alike. Where
only the precision or the load differs, the pair is kept as *near*: shown, with what differs, and
without a verdict. MLPerf results pair within a round, since its rules fix what matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeGuard

from tpubench.devices.list_price import DevicePrice
from tpubench.devices.vendors import is_gpu, is_tpu
from tpubench.reports import quantity
from tpubench.reports.findings import Findings
from tpubench.results.model_names import model_key
from tpubench.results.row import Row
from tpubench.results.serving import SERVED
from tpubench.results.summary import Summary, case_key

RATES = {
    "train_tok_s_per_chip": ("usd_per_train_mtok", "million training tokens"),
    "output_tok_s_per_chip": ("usd_per_mtok_out", "million output tokens"),
    "samples_s_per_chip": ("usd_per_ksample", "thousand samples"),
}
"""Rate per chip, by which devices are compared, to its $ metric and what that is for."""

TIME = "time_to_train_s"
"""The other way to compare: chip-hours until a training reaches its target, and their price."""
UNIT_OF = {**{rate: unit for rate, (_, unit) in RATES.items()}, TIME: "training to the target"}
_SECONDS_PER_HOUR = 3600

_LENGTHS = ("seq_len", "input_len", "output_len")
_LOAD = ("load", "batch", "concurrency", "request_rate", "scenario", "round")
_LONGEST = 1e12
"""No sequence is longer, and no arithmetic with it overflows."""
_NEAR = 0.05
"""Lengths within this share of each other pair (1000 and 1024), and the difference is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSide:
    """One device's figure of a pair. ``cost`` is dollars per unit of work at that chip-hour."""

    rate: Summary
    cost: float | None
    usd_per_chip_hour: float | None
    asked: DevicePrice | None
    """What the device costs where no price was named, and the ends of what others ask."""
    priced: Row | None = None
    """The stored $ figure of it, where a run was given its price."""

    @property
    def value(self) -> float:
        """Work of one chip in a time, whatever the unit: higher is faster."""
        return 1 / self.chip_hours if self.rate.first.metric == TIME else self._point

    @property
    def chip_hours(self) -> float:
        """For a time to train: chips × hours."""
        return self._point * self.rate.first.chips / _SECONDS_PER_HOUR

    @property
    def text(self) -> str:
        """The figure in words."""
        if self.rate.first.metric == TIME:
            return f"{quantity.number(self.chip_hours)} chip-hours"
        return quantity.quantity(self._point, self.rate.first.unit)

    @property
    def _point(self) -> float:
        return 0.0 if self.rate.estimate is None else self.rate.estimate.point


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePair:
    """A TPU and a GPU at the same work. ``like`` says whether a verdict may be given."""

    metric: str
    title: str
    tpu: PairSide
    gpu: PairSide
    differences: tuple[str, ...]
    like: bool


def pairs(findings: Findings) -> list[DevicePair]:
    """Every pair of a TPU and a GPU, like ones first, then by work."""
    matched: list[DevicePair] = []
    for metric, (usd, _) in RATES.items():
        costs = {(case_key(s.first), s.first.device): s for s in findings.of(usd)}
        groups: dict[tuple[object, ...], list[PairSide]] = {}
        for summary in findings.of(metric):
            side = _priced(
                summary, costs.get((case_key(summary.first), summary.first.device)), findings
            )
            groups.setdefault(_work(summary), []).append(side)
        for sides in groups.values():
            matched += _pairs_of(metric, sides)
    trainings: dict[tuple[object, ...], list[PairSide]] = {}
    for summary in findings.of(TIME):
        if summary.first.chips > 0:
            trainings.setdefault(_work(summary), []).append(_trained(summary, findings))
    for sides in trainings.values():
        matched += _pairs_of(TIME, sides)
    return sorted(matched, key=lambda p: (not p.like, p.metric, p.title, p.tpu.rate.first.device))


def _priced(rate: Summary, usd: Summary | None, findings: Findings) -> PairSide:
    asked = findings.device_prices.get(rate.first.device)
    if usd is None or usd.estimate is None:
        return PairSide(rate=rate, cost=None, usd_per_chip_hour=None, asked=asked)
    row = usd.first
    return PairSide(
        rate=rate,
        cost=usd.estimate.point,
        usd_per_chip_hour=row.usd_per_chip_hour,
        asked=asked,
        priced=row,
    )


def _trained(summary: Summary, findings: Findings) -> PairSide:
    """A training with the bill of its chips at their device's price."""
    asked = findings.device_prices.get(summary.first.device)
    side = PairSide(rate=summary, cost=None, usd_per_chip_hour=None, asked=asked)
    if asked is None:
        return side
    usd = asked.price.usd_per_chip_hour
    return replace(side, cost=side.chip_hours * usd, usd_per_chip_hour=usd)


def _work(summary: Summary) -> tuple[object, ...]:
    """What must be equal even for a near pair: the work and the model."""
    row, params = summary.first, summary.params
    names = ["resolution", *(("scenario", "round") if _mlperf(summary) else ())]
    # Stored parameters may be anything that JSON can hold.
    words = tuple(str(params.get(name)) for name in names)
    return (row.evidence, row.workload, model_key(row.preset), *words)


def _mlperf(summary: Summary) -> bool:
    return summary.first.workload.startswith("mlperf-")


def _pairs_of(metric: str, sides: list[PairSide]) -> list[DevicePair]:
    """The best like pair of each TPU and GPU, or failing that the best near one."""
    tpus = [side for side in sides if is_tpu(side.rate.first.device)]
    gpus = [side for side in sides if is_gpu(side.rate.first.device)]
    best: dict[tuple[str, str, str], DevicePair] = {}
    near: dict[tuple[str, str], DevicePair] = {}
    for tpu in tpus:
        for gpu in gpus:
            if not _lengths_agree(tpu.rate, gpu.rate):
                continue
            differences = _differences(tpu.rate, gpu.rate)
            like = _like(tpu.rate, gpu.rate)
            pair = DevicePair(
                metric=metric,
                title=title(tpu.rate),
                tpu=tpu,
                gpu=gpu,
                differences=differences,
                like=like,
            )
            names = (tpu.rate.first.device, gpu.rate.first.device)
            if like:
                key = (*names, tpu.rate.first.dtype)
                best[key] = _faster(best.get(key), pair)
            else:
                near[names] = _faster(near.get(names), pair)
    matched = {key[:2] for key in best}
    return [*best.values(), *(pair for key, pair in near.items() if key not in matched)]


def _faster(held: DevicePair | None, pair: DevicePair) -> DevicePair:
    """Of two pairs of the same devices, the one of their faster figures."""
    if held is None:
        return pair
    return max(held, pair, key=lambda p: p.tpu.value * p.gpu.value)


def _lengths_agree(a: Summary, b: Summary) -> bool:
    if _mlperf(a):
        return True
    for name in _LENGTHS:
        left, right = a.params.get(name), b.params.get(name)
        if left is None and right is None:
            continue
        if not _is_length(left) or not _is_length(right):
            return False
        if abs(left - right) > _NEAR * max(left, right):
            return False
    return True


def _is_length(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 < value < _LONGEST


def _like(a: Summary, b: Summary) -> bool:
    if _mlperf(a):
        return True
    same = a.first.dtype == b.first.dtype and a.first.dtype != "not-stated"
    return same and all(a.params.get(name) == b.params.get(name) for name in _LOAD)


def _differences(a: Summary, b: Summary) -> tuple[str, ...]:
    """What differs between the two, TPU first."""
    differences = []
    for name, left, right in (
        ("precision", a.first.dtype, b.first.dtype),
        ("chips", a.first.chips, b.first.chips),
        ("named", a.first.preset, b.first.preset),
        *((name, a.params.get(name), b.params.get(name)) for name in (*_LENGTHS, *_LOAD)),
        ("global batch", a.params.get("global_batch"), b.params.get("global_batch")),
        ("recipe", a.params.get("recipe"), b.params.get("recipe")),
        ("parallelism", a.first.parallelism, b.first.parallelism),
    ):
        if left != right and name != "parallelism":
            differences.append(f"{name.replace('_', ' ')} {_word(left)} ↔ {_word(right)}")
    return tuple(differences)


def _word(value: object) -> str:
    return "not stated" if value is None else str(value)


def title(summary: Summary) -> str:
    """The work in words: what, which model, which lengths."""
    row, params = summary.first, summary.params
    words = {
        "llm-training": "Training",
        "llm-offline": "Batch inference",
        **dict.fromkeys(SERVED, "Serving"),
        "llm-static": "Inference in one batch",
        "mlperf-training": "MLPerf training",
        "mlperf-inference": "MLPerf inference",
        "image-generation": "Image generation",
    }
    text = f"{words.get(row.workload, row.workload)}: {row.preset}"
    extra = [str(params[name]) for name in ("scenario", "round") if params.get(name)]
    if params.get("seq_len"):
        extra.append(f"sequence {params['seq_len']}")
    if params.get("input_len"):
        extra.append(f"{params['input_len']} in, {params.get('output_len', '?')} out")
    return f"{text}{', ' + ', '.join(extra) if extra else ''}"

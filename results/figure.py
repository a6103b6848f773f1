"""From what was seen to stored rows: the one place where a row is put together.

Measured, estimated, compiled, imported and published figures differ in where they come from. What
all figures of a case share stands in :class:`Shared`; a :class:`SampledValue` is one value with its
interval and samples; per-chip and $ figures follow from a rate by :meth:`Figure.derived`.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.results.fingerprint import GitState, canonical_json
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.statistics import within

_NO_COMMIT = GitState(sha=None, dirty=None)


def new_run_id(started: dt.datetime) -> str:
    """A name that no other run has: when it started (UTC), and six random digits."""
    return f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledValue:
    """A value in its metric's unit, its 95 % interval and its samples; None where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: Sequence[float] | None = None

    @classmethod
    def of(cls, metric: Metric, samples: Sequence[float] | None) -> SampledValue:
        """What samples give, put together as ``metric`` says; nothing where there are none."""
        if not samples:
            return cls()
        estimate = within(metric.aggregate, samples)
        return cls(value=estimate.point, low=estimate.low, high=estimate.high, samples=samples)

    def derived(self, metric: Metric, chips: int, price: Price | None = None) -> SampledValue:
        """The figure of ``metric``, which follows from this rate: per chip, or $ at ``price``.

        Sample by sample where there are samples, else value and interval. UsageError where a $
        figure has no chips, or a rate that is not above zero.
        """
        follows = derivation(metric, chips, price.usd_per_chip_hour if price else None)
        if self.samples:
            return SampledValue.of(metric, [follows(sample) for sample in self.samples])
        low, high = (None if end is None else follows(end) for end in (self.low, self.high))
        if metric.usd_of:  # the faster, the cheaper
            low, high = high, low
        value = None if self.value is None else follows(self.value)
        return SampledValue(value=value, low=low, high=high)


def derivation(
    metric: Metric, chips: int, usd_per_chip_hour: float | None = None
) -> Callable[[float], float]:
    """How ``metric`` follows from the rate that it is a figure of; see ``Metric.formula``.

    The rate is of all ``chips`` together. UsageError where the price, the chips or a rate make no
    $ figure. ValueError where ``metric`` follows from no rate.
    """
    if metric.per_chip_of:
        if not chips:
            raise UsageError("a figure per chip of no chips")
        return lambda rate: rate / chips
    if not metric.usd_of:
        raise ValueError(f"{metric.name} follows from no rate")
    if usd_per_chip_hour is None:
        raise UsageError("a price figure without its price")
    if not chips:
        raise UsageError("a price figure of no chips")

    def usd(rate: float) -> float:
        if not rate > 0:
            raise UsageError(f"a price figure of a {metric.usd_of} of {rate:g}")
        return metric.usd_items * chips * usd_per_chip_hour / (3600 * rate)

    return usd


def following(rate: str) -> list[Metric]:
    """Every metric that follows from a rate of that name, in the order of the table."""
    return [m for m in METRICS.values() if rate in {m.per_chip_of, m.usd_of}]


def derived_samples(
    samples: Mapping[str, Sequence[float]], chips: int, price: Price | None
) -> tuple[dict[str, list[float]], list[Metric]]:
    """What follows from the rates among ``samples``, and the metrics that would, but cannot be had:
    those per chip where nobody knows the chips (0), those in $ without chips or a price.
    """
    derived: dict[str, list[float]] = {}
    wanting = []
    for metric in (each for rate in samples for each in following(rate)):
        if not chips or (metric.usd_of and price is None):
            wanting.append(metric)
            continue
        follows = derivation(metric, chips, price.usd_per_chip_hour if price else None)
        rate = metric.per_chip_of or metric.usd_of
        assert rate is not None
        derived[metric.name] = [follows(sample) for sample in samples[rate]]
    return derived, wanting


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all rows of one repetition of a case share; fields are those of :class:`Row`."""

    run_id: str
    started_at: dt.datetime
    evidence: str
    workload: str
    preset: str
    params: Mapping[str, Any]
    backend: str
    device: str
    chips: int
    hosts: int
    parallelism: str
    dtype: str
    source: str
    environment: str
    """JSON."""
    fingerprint: str | None = None
    """Digest of what has to be the same for two rows to be compared; None where nobody knows."""
    repetition: int = 0
    workload_version: int = 1
    git: GitState = _NO_COMMIT
    status: str = "ok"

    def row(
        self,
        metric: Metric,
        figure: SampledValue,
        *,
        reason: str | None = None,
        price: Price | None = None,
        status: str | None = None,
        environment: str | None = None,
    ) -> Row:
        """The row of one figure. ``price`` is kept with a $ figure only."""
        price = price if metric.usd_of else None
        return Row(
            schema_version=SCHEMA_VERSION,
            run_id=self.run_id,
            repetition=self.repetition,
            started_at=self.started_at,
            evidence=self.evidence,
            status=status or self.status,
            reason=reason,
            workload=self.workload,
            workload_version=self.workload_version,
            preset=self.preset,
            params=canonical_json(dict(self.params)),
            backend=self.backend,
            device=self.device,
            chips=self.chips,
            hosts=self.hosts,
            parallelism=self.parallelism,
            dtype=self.dtype,
            metric=metric.name,
            unit=metric.unit,
            better=metric.better,
            value=figure.value,
            ci_low=figure.low,
            ci_high=figure.high,
            samples=list(figure.samples) if figure.samples else None,
            **priced_at(price),
            source=self.source,
            fingerprint=self.fingerprint,
            environment=environment or self.environment,
            git_sha=self.git.sha,
            git_dirty=self.git.dirty,
        )


def priced_at(price: Price | None) -> dict[str, Any]:
    """The columns of a row that say which price is behind it."""
    return {
        "usd_per_chip_hour": price.usd_per_chip_hour if price else None,
        "price_id": price.id if price else None,
        "price_as_of": price.as_of.isoformat() if price else None,
        "price_sha256": price.sha256 if price else None,
    }

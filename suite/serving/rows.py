"""From a load and its figures to stored rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from tpubench.devices.prices import Price
from tpubench.results import fingerprint
from tpubench.results.figure import SampledValue, Shared, derived_samples
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import Row
from tpubench.results.statistics import within
from tpubench.suite.facts import NO_PRICE
from tpubench.suite.serving.figures import Figures
from tpubench.suite.serving.generator import Generator
from tpubench.suite.serving.load import Load, Plain
from tpubench.suite.serving.server import Server
from tpubench.suite.serving.service import Service
from tpubench.suite.serving.slo import Slo

PRIMARY = "output_tok_s"
"""The metric of a row that says why there is none."""
ENERGY = "joules_per_token"
NO_CHIPS = "the server's chips are not known: give --device and --chips"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingContext:
    """What all rows of a run share."""

    run_id: str
    service: Service
    server: Server
    generator: Generator
    slo: Slo
    device: str
    chips: int
    """Physical chips of the server; 0 where nobody says."""
    dtype: str
    price: Price | None
    git: fingerprint.GitState
    launch: Mapping[str, Any] = field(default_factory=dict)
    """How the server was started, where it was started here."""
    power_w: float | None = None
    """What the server draws, as the user states it: nothing is metered here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One repetition of one load: its figures, or why it has none."""

    status: str
    reason: str | None = None
    figures: Figures | None = None
    proof: Mapping[str, Any] = field(default_factory=dict)
    generator_says: Mapping[str, float] = field(default_factory=dict)
    """Its own figures of the whole load, warm-up included, kept to be held against ours."""

    @property
    def values(self) -> dict[str, float | None]:
        """The value of each metric."""
        if self.figures is None:
            return {}
        return {
            name: within(METRICS[name].aggregate, samples).point
            for name, samples in self.figures.samples.items()
        }


def rows(
    context: ServingContext,
    params: Mapping[str, Plain],
    repetition: int,
    started_at: dt.datetime,
    measured: Measured,
) -> list[Row]:
    """Every row of one repetition; one with the reason where it failed or is invalid."""
    template = _ServedTemplate(context, params, repetition, started_at, measured)
    if measured.figures is None:
        return [template(METRICS[PRIMARY], None, measured.reason)]
    samples, reasons = dict(measured.figures.samples), dict(measured.figures.reasons)
    derived, wanting = derived_samples(samples, context.chips, context.price)
    samples |= derived
    for metric in wanting:
        priced = metric.usd_of and context.price is None
        reasons[metric.name] = NO_PRICE if priced else NO_CHIPS
    if "output_tok_s" in samples:
        _add_energy(samples, reasons, context.power_w)
    return [
        template(metric, samples.get(metric.name), reasons.get(metric.name))
        for metric in METRICS.values()
        if metric.name in samples or metric.name in reasons
    ]


def _add_energy(
    samples: dict[str, list[float]], reasons: dict[str, str], power_w: float | None
) -> None:
    """Joules of an output token: stated power ÷ measured rate, and so modelled."""
    if power_w is None:
        reasons[ENERGY] = "the server's power is not known here: --power-w W states it"
    else:
        samples[ENERGY] = [power_w / rate for rate in samples["output_tok_s"]]
        reasons[ENERGY] = f"{power_w:g} W as stated (--power-w), not metered, ÷ output_tok_s"


def case_params(load: Load, slo: Slo) -> dict[str, Plain]:
    """A load and its SLO as parameters of a case."""
    return {**load.params, **({"slo": str(slo)} if slo.goals else {})}


class _ServedTemplate:
    """Everything that the rows of one repetition share; called once for each metric."""

    def __init__(
        self,
        context: ServingContext,
        params: Mapping[str, Plain],
        repetition: int,
        started_at: dt.datetime,
        measured: Measured,
    ) -> None:
        match = _must_match(context, params)
        self.price = context.price
        self.shared = Shared(
            run_id=context.run_id,
            repetition=repetition,
            started_at=started_at,
            evidence="measured",
            status=measured.status,
            workload=context.service.name,
            workload_version=context.service.version,
            preset=context.server.model,
            params=params,
            backend=context.server.engine,
            device=context.device,
            chips=context.chips,
            hosts=1 if context.server.here else 0,
            parallelism="not-stated",
            dtype=context.dtype,
            source=f"tpubench {version('tpubench')}",
            fingerprint=fingerprint.sha256(match),
            environment=fingerprint.canonical_json(
                {
                    "fingerprint": match,
                    "host": fingerprint.host(),
                    "load": dict(measured.proof),
                    "generator_says": dict(measured.generator_says),
                    "launch": dict(context.launch),
                }
            ),
            git=context.git,
        )

    def __call__(self, metric: Metric, samples: list[float] | None, reason: str | None) -> Row:
        figure, price = SampledValue.of(metric, samples), self.price if samples else None
        row = self.shared.row(metric, figure, reason=reason, price=price)
        return replace(row, evidence="modelled") if metric.name == ENERGY and samples else row


def _must_match(context: ServingContext, params: Mapping[str, Plain]) -> dict[str, Any]:
    server = context.server
    host = fingerprint.host() if server.here else {}
    return {
        "workload": context.service.name,
        "workload_version": context.service.version,
        "workload_sha256": context.service.source_sha256(),
        "params": dict(params),
        "model": server.model,
        "server": server.engine,
        "server_version": server.version,
        "max_len": server.max_len,
        "generator": f"aiperf {context.generator.version}",
        "device": context.device,
        "chips": context.chips,
        "dtype": context.dtype,
        "cpu_model": host.get("cpu_model"),
        "usable_cores": host.get("usable_cores"),
    }

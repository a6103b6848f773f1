"""``estimate --method roofline``: rows of a workload that were predicted, not run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from tpubench.devices.list_price import NO_PRICE
from tpubench.devices.sheets import device as data_sheet
from tpubench.errors import UsageError
from tpubench.estimates.problem import OWN, Problem
from tpubench.estimates.published.cells import software_family
from tpubench.estimates.regression.calibration import NORMAL_90
from tpubench.estimates.regression.model import Model, Prediction, shipped
from tpubench.estimates.request import EstimateRequest
from tpubench.estimates.roofline import replica, shapes
from tpubench.estimates.roofline.chips import Chip, from_sheet
from tpubench.results import fingerprint
from tpubench.results.figure import Figure, Shared, following, new_run_id
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import Row
from tpubench.suite import registry

NORMAL_95 = 1.9600
TRAINING_BYTES = 18.0
"""Memory of one parameter in training: weight and gradient in 16 bit, weight and two moments of
AdamW in 32 bit, two bytes for whatever else lives as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One metric of one case; ``prediction`` None when it cannot be, and ``reason`` says why."""

    metric: str
    params: Mapping[str, int | str]
    prediction: Prediction | None
    reason: str | None = None
    factor: float = 1.0
    """From the unit of the published metric to ours (ms to s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """An estimate: its rows, as a run would store them, and the figures behind them."""

    request: EstimateRequest
    rows: tuple[Row, ...]
    figures: tuple[Predicted, ...]
    fit: str
    notes: tuple[str, ...]


def estimate(request: EstimateRequest, model: Model | None = None) -> list[Row]:
    """The rows alone: the interface that every method of estimating shares."""
    return list(examine(request, model).rows)


def examine(request: EstimateRequest, model: Model | None = None) -> Modelled:
    """Predict every case of a request; UsageError for a device or preset without figures."""
    model = model or shipped()
    chip = from_sheet(data_sheet(request.device))
    if chip is None:
        raise UsageError(
            f"{request.device}: its data sheet has no bfloat16 peak or no bandwidth to model with"
        )
    shape = shapes.find(request.preset)
    if shape is None:
        raise UsageError(
            f"no shape of {request.preset[:60]!r}; known: {', '.join(shapes.names())},"
            " or a name that says its size, e.g. 13b or 80b-a3b"
        )
    figures: list[Predicted] = []
    for params in request.cases():
        if request.workload == "llama-infer":
            figures += _serving(request, chip, shape, params, model)
        else:
            figures += _training(request, chip, shape, params, model)
    notes = [f"modelled, not measured; 90 % intervals; fit {model.version}"]
    notes += [
        f"{name}: no published row was fitted; the interval is wider"
        for name in _never_fitted(request, model)
    ]
    if not shape.known:
        notes.append(f"{request.preset}: shape derived from the size in its name")
    return Modelled(
        request=request,
        rows=tuple(_rows(request, figures, model.version)),
        figures=tuple(figures),
        fit=model.version,
        notes=tuple(notes),
    )


def _never_fitted(request: EstimateRequest, model: Model) -> list[str]:
    """Device and software of a request that the fit of its kind of run knows nothing of."""
    names = model.seen["training" if request.workload == "llama-pretrain" else "serving"]
    missing = [] if request.device in names["chip"] else [request.device]
    asked = dict.fromkeys(str(case["software"]) for case in request.cases())
    return missing + [
        f"software {name}" for name in asked if software_family(name) not in names["software"]
    ]


def _base(request: EstimateRequest, chip: Chip, shape: shapes.Shape,
          params: Mapping[str, int | str]) -> Problem:  # fmt: skip
    return Problem(
        kind="static",
        metric="",
        chip=chip,
        chips=request.chips,
        software=software_family(str(params["software"])),
        source=OWN,
        family=OWN,
        date=2025.5,  # the middle of the fitted years: no trend is extrapolated
        model=shape.name,
        shape=shape,
        precision=str(params["dtype"]),
        kv_precision="bfloat16",
        scenario="static-batch",
    )


def _serving(
    request: EstimateRequest,
    chip: Chip,
    shape: shapes.Shape,
    params: Mapping[str, int | str],
    model: Model,
) -> list[Predicted]:
    tensor = int(params["tensor"]) or request.chips
    if request.chips % tensor:
        raise UsageError(f"--set tensor={tensor} does not divide --chips {request.chips}")
    batch = max(1, int(params["batch"]))
    base = replace(
        _base(request, chip, shape, params),
        tensor=tensor,
        batch=float(batch),
        input_len=float(params["input_len"]),
        output_len=float(params["output_len"]),
    )
    settled = {**params, "tensor": tensor, "batch": batch}
    wanted = {
        "ttft_s": ("ttft_ms", 1e-3),
        "tpot_s": ("tpot_ms", 1e-3),
        "output_tok_s": ("output_tokens_per_s", 1.0),
    }
    each = replica.cache_bytes(base, replica.context(base, 1.0))
    need = replica.weight_bytes(base) + batch / replica.replicas(base) * each
    if need > replica.memory_bytes(base):
        reason = _does_not_fit(need, replica.memory_bytes(base), tensor)
        return [Predicted(metric=m, params=settled, prediction=None, reason=reason) for m in wanted]
    problems = [replace(base, metric=metric) for metric, _ in wanted.values()]
    made = model.predict(problems)
    return [
        Predicted(metric=ours, params=settled, prediction=p, factor=factor)
        for (ours, (_, factor)), p in zip(wanted.items(), made, strict=True)
    ]


def _training(
    request: EstimateRequest,
    chip: Chip,
    shape: shapes.Shape,
    params: Mapping[str, int | str],
    model: Model,
) -> list[Predicted]:
    batch = int(params["batch"]) or request.chips
    settled = {**params, "batch": batch}
    need, memory = TRAINING_BYTES * shape.params, chip.hbm_bytes * request.chips
    wanted = {"step_time_s": ("step_time_s", 1.0), "train_tok_s": ("tokens_per_s", 1.0),
              "mfu": ("mfu_pct", 1e-2)}  # fmt: skip
    if need > memory:
        reason = _does_not_fit(need, memory, request.chips)
        return [Predicted(metric=m, params=settled, prediction=None, reason=reason) for m in wanted]
    base = replace(
        _base(request, chip, shape, params),
        kind="training",
        scenario="",
        seq_len=float(params["seq_len"]),
        global_batch=float(batch),
    )
    made = model.predict([replace(base, metric=metric) for metric, _ in wanted.values()])
    return [
        Predicted(metric=ours, params=settled, prediction=p, factor=factor)
        for (ours, (_, factor)), p in zip(wanted.items(), made, strict=True)
    ]


def _does_not_fit(need: float, memory: float, chips: int) -> str:
    return (
        f"does not fit: needs {need / 1e9:.1f} GB, {chips} chip{'s have' if chips > 1 else ' has'}"
        f" {memory / 1e9:.1f} GB"
    )


def _rows(request: EstimateRequest, figures: list[Predicted], fit: str) -> list[Row]:
    started = dt.datetime.now(dt.UTC)
    run_id = new_run_id(started)
    return [row for one in figures for row in _rows_of(request, one, fit, run_id, started)]


def _rows_of(
    request: EstimateRequest, one: Predicted, fit: str, run_id: str, started: dt.datetime
) -> list[Row]:
    """One figure and those that follow from it."""
    metric, predicted = METRICS[one.metric], one.prediction
    how: dict[str, Any] = {"fit": fit, "method": "roofline"}
    if predicted is not None:
        how |= {
            "bound": predicted.bound,
            "share_of_time": {k: round(v, 4) for k, v in predicted.terms.shares().items()},
        }
    shared = Shared(
        run_id=run_id,
        started_at=started,
        evidence="modelled",
        status="ok" if predicted is not None else "skipped",
        workload=request.workload,
        workload_version=registry.workload(request.workload).version,
        preset=request.preset,
        params=one.params,
        backend="roofline",
        device=request.device,
        chips=request.chips,
        hosts=1,
        parallelism=_parallelism(request, one),
        dtype=str(one.params["dtype"]),
        source=f"tpubench {version('tpubench')}, fit {fit}",
        environment=fingerprint.canonical_json({"estimate": how}),
    )
    if predicted is None:
        return [shared.row(metric, Figure(), reason=one.reason)]

    def row(of: Metric, wide: Figure, narrow: Figure, reason: str | None) -> Row:
        ends = {"low_90": narrow.low, "high_90": narrow.high}
        environment = fingerprint.canonical_json({"estimate": how | ends})
        price = request.price
        return shared.row(of, wide, reason=reason, price=price, environment=environment)

    narrow = Figure(
        value=predicted.value * one.factor,
        low=predicted.low * one.factor,
        high=predicted.high * one.factor,
    )
    wider = NORMAL_95 / NORMAL_90
    low_95, high_95 = (
        predicted.value * one.factor * (end / predicted.value) ** wider
        for end in (predicted.low, predicted.high)
    )
    wide = replace(narrow, low=low_95, high=high_95)
    rows = [row(metric, wide, narrow, one.reason)]
    for derived in following(metric.name):
        if derived.usd_of and request.price is None:
            rows.append(shared.row(derived, Figure(), reason=NO_PRICE.format(request.device)))
            continue
        ends_95, ends_90 = (
            each.derived(derived, request.chips, request.price) for each in (wide, narrow)
        )
        reason = one.reason
        if derived.usd_of:
            rule = request.price_rule
            reason = None if rule is None else f"{derived.usd_of} at {rule}"
        rows.append(row(derived, ends_95, ends_90, reason))
    return rows


def _parallelism(request: EstimateRequest, one: Predicted) -> str:
    """In the words of a run: ``tp=4``, ``fsdp=8``, none."""
    way = registry.workload(request.workload).parallelism
    width = int(one.params.get("tensor", request.chips))
    return f"{way}={width}" if width > 1 else "none"

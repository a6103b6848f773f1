"""``tpubench estimate``: figures of a workload that were predicted, not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tpubench.devices.sheets import device as data_sheet
from tpubench.errors import UsageError
from tpubench.estimates import pass_times
from tpubench.estimates.problem import OWN, Problem, Serving, Training, fields
from tpubench.estimates.published.cells import software_family
from tpubench.estimates.regression.model import Model, shipped
from tpubench.estimates.request import EstimateRequest
from tpubench.estimates.roofline import plain, replica
from tpubench.estimates.roofline.chips import Chip, from_sheet
from tpubench.estimates.rows import Predicted, rows
from tpubench.results.row import Row
from tpubench.suite import registry
from tpubench.suite.decoder import Decoder
from tpubench.suite.workload import Case

TRAINING_BYTES = 18.0
"""Memory of one parameter in training: weight and gradient in 16 bit, weight and two moments of
AdamW in 32 bit, two bytes for whatever else lives as long."""

Params = Mapping[str, int | str]


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
    shape = registry.workload(request.workload).decoder(request.preset)
    figures: list[Predicted] = []
    for params in request.cases():
        if request.kind == "work" or shape is None:
            figures += _work(request, chip, params)
        elif request.kind == "serving":
            figures += _serving(request, chip, shape, params, model)
        else:
            figures += _training(request, chip, shape, params, model)
    return Modelled(
        request=request,
        rows=tuple(rows(request, figures, model.version)),
        figures=tuple(figures),
        fit=model.version,
        notes=tuple(_notes(request, shape, model)),
    )


def _notes(request: EstimateRequest, shape: Decoder | None, model: Model) -> list[str]:
    """What a reader must know besides the figures."""
    if request.kind == "work":
        return [
            "modelled, not measured: a plain roofline of the work that the workload states;"
            f" nothing like it was fitted, so the interval is a factor of {plain.WITHIN:g}, and"
            " more where launches count (small batches)"
        ]
    notes = [f"modelled, not measured; 90 % intervals; fit {model.version}"]
    notes += [
        f"{name}: no published row was fitted; the interval is wider"
        for name in _never_fitted(request, model)
    ]
    if shape is not None and not shape.known:
        notes.append(f"{request.preset}: shape derived from the size in its name")
    return notes


def _never_fitted(request: EstimateRequest, model: Model) -> list[str]:
    """Device and software of a request that the fit of its kind of run knows nothing of."""
    names = model.seen[request.kind]
    missing = [] if request.device in names["chip"] else [request.device]
    asked = dict.fromkeys(str(case["software"]) for case in request.cases())
    return missing + [
        f"software {name}" for name in asked if software_family(name) not in names["software"]
    ]


def _work(request: EstimateRequest, chip: Chip, params: Params) -> list[Predicted]:
    """A program of which nothing is known but the work that it states."""
    workload = registry.workload(request.workload)
    if request.chips > 1 and workload.parallelism is None:
        raise UsageError(f"{workload.name} runs on one chip: drop --chips {request.chips}")
    if workload.primary_metric in plain.LINKS:
        raise UsageError(f"{workload.name} measures links, which no data sheet says enough of")
    case = Case(
        workload=workload.name,
        workload_version=workload.version,
        preset=request.preset,
        params=params,
        shape=workload.shape(request.preset),
    )
    need, memory = workload.memory_bytes(case) or 0, chip.hbm_bytes * request.chips
    if need > memory:
        reason = _does_not_fit(need, memory, request.chips)
        return [Predicted.missing(workload.primary_metric, params, reason)]
    seconds = plain.phases(workload, case, chip, request.chips)
    terms = plain.terms(workload, case, chip, request.chips)
    samples = pass_times.laps(workload, case, seconds, "modelled").samples
    return [
        Predicted(
            metric=name,
            params=params,
            value=values[0],
            low=values[0] / plain.WITHIN,
            high=values[0] * plain.WITHIN,
            bound=terms.bound,
            shares=terms.shares(),
        )
        for name, values in samples.items()
        if values[0] > 0
    ]


def _serving(
    request: EstimateRequest, chip: Chip, shape: Decoder, params: Params, model: Model
) -> list[Predicted]:
    tensor = int(params["tensor"]) or request.chips
    if request.chips % tensor:
        raise UsageError(f"--set tensor={tensor} does not divide --chips {request.chips}")
    batch = max(1, int(params["batch"]))
    base = Serving(
        **fields(_base(request, chip, shape, params)),
        tensor=tensor,
        batch=float(batch),
        input_len=float(params["input_len"]),
        output_len=float(params["output_len"]),
    )
    settled = {**params, "tensor": tensor, "batch": batch}
    wanted = ("ttft_s", "tpot_s", "output_tok_s")
    each = replica.cache_bytes(base, replica.context(base, 1.0))
    need = replica.weight_bytes(base) + batch / replica.replicas(base) * each
    if need > replica.memory_bytes(base):
        reason = _does_not_fit(need, replica.memory_bytes(base), tensor)
        return [Predicted.missing(name, settled, reason) for name in wanted]
    return _predicted(base, wanted, settled, model)


def _training(
    request: EstimateRequest, chip: Chip, shape: Decoder, params: Params, model: Model
) -> list[Predicted]:
    batch = int(params["batch"]) or request.chips
    settled = {**params, "batch": batch}
    need, memory = TRAINING_BYTES * shape.params, chip.hbm_bytes * request.chips
    wanted = ("step_time_s", "train_tok_s", "mfu")
    if need > memory:
        reason = _does_not_fit(need, memory, request.chips)
        return [Predicted.missing(name, settled, reason) for name in wanted]
    stated = replace(_base(request, chip, shape, params), kind="training", scenario="")
    base = Training(**fields(stated), seq_len=float(params["seq_len"]), global_batch=float(batch))
    return _predicted(base, wanted, settled, model)


def _predicted(
    base: Problem, wanted: Sequence[str], params: Params, model: Model
) -> list[Predicted]:
    """Each metric of a problem."""
    predictions = model.predict([replace(base, metric=metric) for metric in wanted])
    return [
        Predicted(
            metric=name,
            params=params,
            value=each.value,
            low=each.low,
            high=each.high,
            bound=each.bound,
            shares=each.terms.shares(),
        )
        for name, each in zip(wanted, predictions, strict=True)
    ]


def _base(request: EstimateRequest, chip: Chip, shape: Decoder, params: Params) -> Problem:
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
        scenario="static-batch",
    )


def _does_not_fit(need: float, memory: float, chips: int) -> str:
    return (
        f"does not fit: needs {need / 1e9:.1f} GB, {chips} chip{'s have' if chips > 1 else ' has'}"
        f" {memory / 1e9:.1f} GB"
    )

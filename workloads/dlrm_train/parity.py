"""Checks of a training step of DLRM together; docs/parity.md says what each of them catches.

- ``float32 twin``: the same code, compiled the same way, as the ``tiny`` model in float32: losses
  and every gradient of three steps, each at the weights the program had, and Adagrad as below.
- ``loss``, ``gradient`` and ``every sample``: of the program itself at its first weights.
- ``optimizer``: what it made of its own gradients in three steps.
- ``timed loss`` and ``timed step``: of one more pass after the window, from what that left.
- ``other rows``: rows that no sample took are what they began as.

Weights come from their source and not from the program, so whatever a backend does to them shows.
Of the tables only the rows taken are brought to the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tpubench.suite.workload import (
    Case,
    Checks,
    Means,
    Parity,
    largest,
    move_error,
    relative_l2,
)
from tpubench.workloads.dlrm_train import reference
from tpubench.workloads.dlrm_train.reference import Gradients, Taken
from tpubench.workloads.dlrm_train.step import (
    SETTINGS,
    DlrmTrainStep,
    initial_model,
    initial_rows,
)

if TYPE_CHECKING:
    from tpubench.workloads.dlrm_train import DlrmTrain

STEPS = 3
"""Steps that are watched, from the first weights: sums of squares show from the second on."""
TWIN_TOLERANCE = 1e-4
"""A correct twin errs by 1e-6 in the worst gradient."""
EAGER_SHARE = 1.5
"""How much more than a run as written in the same precision may err."""
LEAST = {"float32": 1e-4, "tf32": 2e-3, "bfloat16": 5e-3}
CAP, SAMPLE_CAP = 0.35, 0.6
"""Allowed of a gradient at least, by the precision of the products, and at most: of a weight's, and
of one sample's. bfloat16 turns the sign of one in some hundred units before a ReLU, and with it the
whole gradient of that unit: MLPerf's sizes err by 0.17 and 0.26 as they are written."""
EXACT_LOSS, LOSS = 1e-4, 5e-3
"""Relative error allowed of a loss in float32, and in less: rounding averages out."""
UPDATE_TOLERANCE = 1e-3
"""A weight of one moves by 5e-3 a step, and float32 rounds it to 6e-8."""
TIMED_STEP = 0.03
"""A device may add in another order at each pass."""
UNMOVED = 1e-6
"""A row that nothing moved is what it was, bit for bit."""
_WEIGHTS, _ROWS, _COLUMNS = 256, 2048, 256
"""Elements of each weight, rows, and elements of each sample's gradient that are compared at most,
evenly spaced."""


def checks(step: DlrmTrainStep, means: Means) -> Checks:
    """The checks of a built step, to be called once its window has closed."""

    def run() -> list[Parity]:
        rows = reference.taken(step.on_host.ids, step.model.lookup.hot)
        timed = _timed(step, rows, means)
        others = _other_rows(step, rows)
        watched = _watched(step, rows)
        return [_twin(step.workload, step.case, means), *_judged(step, watched.first, rows, means),
                _optimizer(watched.update_error), *timed, others]  # fmt: skip

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Elements of what Adagrad moves: weights and sums of squares, float64 on the CPU.

    The layers' weights first, then the rows that are watched.
    """

    weight: tuple[Tensor, Tensor]
    square: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Steps from the first weights: gradients of the first of them, and Adagrad's worst error."""

    first: Gradients
    update_error: float


def _watched(step: DlrmTrainStep, rows: Taken) -> Watched:
    counted, passes = _steps_taken(step), len(step.losses)
    step.start_again(rows.rows)
    chosen = _evenly(torch.arange(len(rows.rows)), _ROWS)
    before = state = _state(step, rows, chosen)
    first: Gradients | None = None
    for _ in range(STEPS):
        given = _given(step)
        first = given if first is None else first
        state = _moved(state, _gradients(given, rows, chosen))
        step.update()
        step.barrier()
    assert first is not None
    error = _of_moves(before, _state(step, rows, chosen), state, STEPS)
    return Watched(first=first, update_error=error if counted == passes else math.inf)


def _timed(step: DlrmTrainStep, rows: Taken, means: Means) -> list[Parity]:
    chosen = _evenly(torch.arange(len(rows.rows)), _ROWS)
    wanted = reference.loss(_weights(step), _rows(step, rows), rows, step.on_host)
    before = _state(step, rows, chosen)
    given = _given(step)
    step.forget_gradients()
    step.run(lambda *_: None)
    loss = float(step.losses[-1].cpu())
    step.barrier()
    right = _moved(before, _gradients(given, rows, chosen))
    return [
        Parity(
            name="timed loss",
            # A batch that was learnt by heart has a loss near nothing: then it is the error itself.
            error=abs(loss - wanted) / max(wanted, 1.0),
            tolerance=_loss_tolerance(step.case, means),
            what="relative error of the loss at the weights that the timed passes left",
        ),
        Parity(
            name="timed step",
            error=_of_moves(before, _state(step, rows, chosen), right, steps=1),
            tolerance=TIMED_STEP,
            what="relative L2 error of what one more pass makes of weights and sums of squares",
        ),
    ]


def _judged(step: DlrmTrainStep, given: Gradients, rows: Taken, means: Means) -> Iterable[Parity]:
    """Loss and gradients at the first weights."""
    dtype = _rounds_to(step.case, means)
    right, written = _recalled(step, rows, dtype, means)
    seen = _sampled(given)
    costs = (0.0, 0.0) if written is None else _errors(right, written)[:2]
    stated = _stated(step.case, means)
    weight_error, sample_error, name = _errors(right, seen)
    allowed = [
        min(max(EAGER_SHARE * cost, LEAST[stated]), most)
        for cost, most in zip(costs, (CAP, SAMPLE_CAP), strict=True)
    ]
    yield Parity(
        name="gradient",
        error=weight_error,
        tolerance=allowed[0],
        what=f"relative L2 error of the worst gradient ({name}) against float32"
        f" (a run as written: {costs[0]:.3g})",
    )
    yield Parity(
        name="every sample",
        error=sample_error,
        tolerance=allowed[1],
        what="relative L2 error of what the worst sample gives its rows as gradient"
        f" (a run as written: {costs[1]:.3g})",
    )
    yield Parity(
        name="loss",
        error=abs(float(seen["loss"] / right["loss"]) - 1),
        tolerance=_loss_tolerance(step.case, means),
        what="relative error of the loss at the first weights",
    )


def _recalled(
    step: DlrmTrainStep, rows: Taken, dtype: torch.dtype | None, means: Means
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]:
    """Samples of what float32 gives at the first weights, and of what a run as written does."""
    workload, case = step.workload, step.case

    def recalled(label: str, compute: torch.dtype | None) -> Mapping[str, Tensor]:
        key: dict[str, object] = {
            "workload": workload.source_sha256(),
            "params": dict(case.params),
            "shape": dict(case.shape),
            "run": label,
        }
        known = means.references.recall(key)
        if known is not None:
            return known
        model = initial_model(workload, case, "cpu")
        first = initial_rows(workload.sizes(case), case.number("seed"), rows.rows)
        if compute is None:
            weights = {name: value.detach() for name, value in model.named_parameters()}
            answer = reference.gradients(weights, first, rows, step.on_host)
        else:
            model.dtype = compute
            answer = reference.as_written(model, first, rows, step.on_host)
        sampled = _sampled(answer)
        means.references.keep(key, sampled)
        return sampled

    return recalled("float32", None), None if dtype is None else recalled(str(dtype), dtype)


def _optimizer(error: float) -> Parity:
    return Parity(
        name="optimizer",
        error=error,
        tolerance=UPDATE_TOLERANCE,
        what="relative L2 error of what Adagrad makes of the program's own gradients",
    )


def _other_rows(step: DlrmTrainStep, rows: Taken) -> Parity:
    """Rows and sums of squares of some that no sample took."""
    table = step.model.lookup.table
    free = torch.ones(len(table), dtype=torch.bool)
    free[rows.rows] = False
    others = _evenly(free.nonzero().squeeze(1), _ROWS)
    error = 0.0
    if len(others):
        sizes, seed = step.workload.sizes(step.case), step.case.number("seed")
        at = others.to(table.device)
        moved = relative_l2(initial_rows(sizes, seed, others), table[at].cpu())
        error = max(moved, float(step.squares_RW[at].abs().max().cpu()))
    return Parity(
        name="other rows",
        error=error,
        tolerance=UNMOVED,
        what="relative L2 distance of rows that no sample took from what they began as",
    )


def _twin(workload: DlrmTrain, case: Case, means: Means) -> Parity:
    """The twin's losses and gradients, each step's at the weights that it had then."""
    errors = [0.0]
    with means.exact_float32():
        step = means.build(workload.twin(case))
        assert isinstance(step, DlrmTrainStep)
        rows = reference.taken(step.on_host.ids, step.model.lookup.hot)
        chosen = torch.arange(len(rows.rows))
        step.run(lambda *_: None)
        step.start_again(rows.rows)
        sizes, seed = step.workload.sizes(step.case), step.case.number("seed")
        weights: Mapping[str, Tensor] = dict(
            initial_model(step.workload, step.case, "cpu").named_parameters()
        )
        live = initial_rows(sizes, seed, rows.rows)
        for _ in range(STEPS):
            before, given = _state(step, rows, chosen), _given(step)
            right = reference.gradients(weights, live, rows, step.on_host)
            errors.append(abs(float(given.loss / right.loss) - 1))
            errors += _errors(_sampled(right), _sampled(given))[:2]
            moved = _moved(before, _gradients(given, rows, chosen))
            step.update()
            step.barrier()
            update_error = _of_moves(before, _state(step, rows, chosen), moved, steps=1)
            errors.append(update_error * TWIN_TOLERANCE / UPDATE_TOLERANCE)
            weights, live = _weights(step), _rows(step, rows)
    return Parity(
        name="float32 twin",
        error=largest(errors),
        tolerance=TWIN_TOLERANCE,
        what="relative error of losses and gradients of a small model in float32",
    )


def _given(step: DlrmTrainStep) -> Gradients:
    """What the program itself gives now, on the CPU; its gradients stay for an update."""
    loss = step.loss_and_gradients()
    step.barrier()
    pooled = step.shift_BP.grad
    return Gradients(
        loss=loss.cpu(),
        # A weight that the loss never reached has no gradient: a wrong one, not an error.
        weights={
            name: torch.zeros(p.shape) if p.grad is None else p.grad.cpu().float().clone()
            for name, p in step.model.named_parameters()
        },
        pooled=torch.zeros(step.shift_BP.shape) if pooled is None else pooled.cpu().clone(),
    )


def _gradients(given: Gradients, rows: Taken, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Of the elements of a state."""
    layers = torch.cat([_evenly(value, _WEIGHTS) for value in given.weights.values()])
    return layers.double(), reference.of_rows(given.pooled, rows, chosen)


def _state(step: DlrmTrainStep, rows: Taken, chosen: Tensor) -> State:
    table, squares = step.model.lookup.table, step.squares_RW
    at = rows.rows[chosen].to(table.device)
    layers = list(step.model.parameters())
    sums = [step.optimizer.state[p]["sum"] for p in layers]

    def together(values: Iterable[Tensor]) -> Tensor:
        return torch.cat([_evenly(value.detach().cpu(), _WEIGHTS) for value in values]).double()

    return State(
        weight=(together(layers), table[at].cpu().double()),
        square=(together(sums), squares[at].cpu().double()),
    )


def _moved(state: State, gradients: tuple[Tensor, Tensor]) -> State:
    """The state after a step of Adagrad by its formula."""
    layers, rows = (
        reference.adagrad_step(weight, square, gradient, SETTINGS)
        for weight, square, gradient in zip(state.weight, state.square, gradients, strict=True)
    )
    return State(weight=(layers[0], rows[0]), square=(layers[1], rows[1]))


def _of_moves(before: State, after: State, right: State, steps: int) -> float:
    """The worst relative L2 error of a move, of layers and of rows, of weights and of squares."""
    return largest(
        move_error(start, given, wanted, steps)
        for kind in ("weight", "square")
        for start, given, wanted in zip(
            *(getattr(state, kind) for state in (before, after, right)), strict=True
        )
    )


def _weights(step: DlrmTrainStep) -> dict[str, Tensor]:
    return {name: p.detach().cpu().float().clone() for name, p in step.model.named_parameters()}


def _rows(step: DlrmTrainStep, rows: Taken) -> Tensor:
    table = step.model.lookup.table
    return table[rows.rows.to(table.device)].cpu()


def _sampled(given: Gradients) -> dict[str, Tensor]:
    """What is compared of loss and gradients."""
    layers = {f"weight {name}": _evenly(value, 4096) for name, value in given.weights.items()}
    every = max(1, given.pooled.shape[1] // _COLUMNS)
    return {**layers, "samples": given.pooled[:, ::every].clone(), "loss": given.loss}


def _errors(right: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[float, float, str]:
    """Of the worst weight, and of the worst sample; and which weight it is."""
    weights = {
        name.removeprefix("weight "): relative_l2(value, given[name])
        for name, value in right.items()
        if name.startswith("weight ")
    }
    weights["the tables"] = relative_l2(right["samples"], given["samples"])
    name = max(weights, key=lambda name: (math.isnan(weights[name]), weights[name]))
    wanted, seen = right["samples"].double(), given["samples"].double()
    worst = ((seen - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-300)).max()
    return weights[name], float(worst), name


def _evenly(tensor: Tensor, most: int) -> Tensor:
    """At most so many of its elements, evenly spaced."""
    flat = tensor.reshape(-1)
    return flat[:: max(1, len(flat) // most)][:most]


def _steps_taken(step: DlrmTrainStep) -> int:
    """Steps by the optimizer's own count; the fewest where weights differ."""
    return min(int(step.optimizer.state[p]["step"]) for p in step.model.parameters())


def _stated(case: Case, means: Means) -> str:
    return means.float32_precision if case.dtype == "float32" else case.dtype


def _rounds_to(case: Case, means: Means) -> torch.dtype | None:
    """Precision of a run as written that says what rounding costs; None where it costs nothing.

    A GPU's TF32 has no counterpart on the host: it is allowed what is least.
    """
    return torch.bfloat16 if _stated(case, means) == "bfloat16" else None


def _loss_tolerance(case: Case, means: Means) -> float:
    return EXACT_LOSS if _stated(case, means) == "float32" else LOSS

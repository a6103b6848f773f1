"""Checks of a training step of any model together; docs/parity.md says what each of them catches.

- ``float32 twin``: the same code, compiled the same way, as the small model in float32: losses and
  every gradient of three steps, each at the weights the program had, and the optimizer as below.
- ``loss`` and ``gradient``: of the program itself at its first weights, the whole batch; allowed is
  twice what the same module errs when it is run as written in that precision.
- ``optimizer``: what it made of its own gradients in three steps, against the same optimizer in
  float64 on the host, element by element.
- ``timed loss`` and ``timed step``: of one more pass after the window, from what that left.

The reference is the library's own module on the host in float32, which nothing has compiled, with
weights from their source, so whatever a backend does to them shows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tpubench.suite.workload import (
    Case,
    Checks,
    Means,
    Parity,
    largest,
    move_error,
    relative_l2,
)
from tpubench.workloads.forward.identity import program_sha256
from tpubench.workloads.forward.training.step import (
    Scored,
    TrainingStep,
    initial_model,
)

if TYPE_CHECKING:
    from tpubench.suite.workload import Step
    from tpubench.workloads.forward.training import Training

STEPS = 3
"""Steps that are watched, from the first weights: an optimizer's moments show from the second."""
TWIN_TOLERANCE = 1e-4
"""A correct twin errs by 1e-6 in the worst gradient."""
EAGER_SHARE = 2.0
"""How much more than a run as written in the same precision may err: libraries sum a bias's
gradient in different precisions."""
LEAST = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 3e-2}
"""Allowed of a gradient at least, by the precision of the products; at most, see ``Training``."""
EXACT_LOSS, LOSS, LOSS_SHARE, LOSS_CAP = 1e-4, 5e-3, 3.0, 0.05
"""Relative error allowed of a loss in float32, and at least in less: rounding averages out over a
batch. Of two images it does not, so that it is allowed three times what a run as written errs, at
most a twentieth."""
UPDATE_TOLERANCE = 1e-3
TIMED_STEP = 0.03
"""A device may add in another order at each pass."""
FLOORS = {"float32": 0.01, "tf32": 0.3, "bfloat16": 0.3}
"""A gradient is taken for at least so much of the usual one, by the precision of the products: that
of a bias before a softmax or a batch norm is nothing but rounding."""
_GRADIENTS, _ELEMENTS = 4096, 256
"""Elements of each weight whose gradients, and whose moves, are compared at most, evenly spaced."""


def checks(workload: Training, case: Case, step: Step, means: Means) -> Checks:
    """The checks of a built step, called before it is compiled."""
    assert isinstance(step, TrainingStep)
    identity = program_sha256(workload, step.model)

    def run() -> list[Parity]:
        timed = _timed(step, means)
        watched = _watched(step)
        judged = list(_judged(step, watched.first, means, identity))
        return [_twin(workload, case, means), *judged, _optimizer(watched.update_error), *timed]

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Elements of every weight, and of what the optimizer keeps of it, float64 on the CPU; all of
    them as they are where they do not move by themselves."""

    weights: dict[str, Tensor]
    states: dict[str, dict[str, Any]]
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Steps from the first weights: loss and gradients of the first of them, and the worst error of
    the optimizer."""

    first: Mapping[str, Tensor]
    update_error: float


def _watched(step: TrainingStep) -> Watched:
    missed = step.updates != len(step.losses)
    step.start_again()
    before = state = _state(step)
    first: Mapping[str, Tensor] | None = None
    for _ in range(STEPS):
        given = _given(step)
        first = first or _sampled(given, _GRADIENTS)
        state = _advanced(step.workload, state, given)
        step.update()
        step.barrier()
    assert first is not None
    error = _of_moves(before, _state(step), state, STEPS)
    return Watched(first=first, update_error=math.inf if missed else error)


def _timed(step: TrainingStep, means: Means) -> list[Parity]:
    wanted, written = (
        float(_on_host(step, _model_now(step), dtype, backward=False)["loss"])
        for dtype in (torch.float32, getattr(torch, step.case.dtype))
    )
    size = max(abs(wanted), 1.0)
    before = _state(step)
    given = _given(step)
    step.optimizer.zero_grad(set_to_none=True)
    step.run(lambda *_: None)
    loss = float(step.losses[-1].cpu())
    step.barrier()
    right = _advanced(step.workload, before, given)
    return [
        Parity(
            name="timed loss",
            # A batch that was learnt by heart has a loss near nothing: then it is the error itself.
            error=abs(loss - wanted) / size,
            tolerance=_loss_tolerance(step.case, means, abs(written - wanted) / size),
            what="relative error of the loss at the weights that the timed passes left",
        ),
        Parity(
            name="timed step",
            error=_of_moves(before, _state(step), right, steps=1),
            tolerance=TIMED_STEP,
            what="relative L2 error of what one more pass makes of weights and moments",
        ),
    ]


def _judged(
    step: TrainingStep, seen: Mapping[str, Tensor], means: Means, identity: str
) -> Iterable[Parity]:
    """Loss and gradients at the first weights."""
    right = _recalled(step, torch.float32, means, identity)
    stated, cost, loss_cost = _stated(step.case, means), 0.0, 0.0
    if stated == "bfloat16":
        written = _recalled(step, torch.bfloat16, means, identity)
        cost, _ = _worst_gradient(right, written, stated)
        loss_cost = abs(float(written["loss"] / right["loss"]) - 1)
    error, name = _worst_gradient(right, seen, stated)
    yield Parity(
        name="gradient",
        error=error,
        tolerance=min(max(EAGER_SHARE * cost, LEAST[stated]), step.workload.gradient_cap),
        what=f"relative L2 error of the worst gradient ({name}) against float32"
        f" (a run as written: {cost:.3g})",
    )
    yield Parity(
        name="loss",
        error=abs(float(seen["loss"] / right["loss"]) - 1),
        tolerance=_loss_tolerance(step.case, means, loss_cost),
        what="relative error of the loss at the first weights",
    )


def _optimizer(error: float) -> Parity:
    return Parity(
        name="optimizer",
        error=error,
        tolerance=UPDATE_TOLERANCE,
        what="relative L2 error of what the optimizer makes of the program's own gradients",
    )


def _twin(workload: Training, case: Case, means: Means) -> Parity:
    """The twin's losses and gradients, each step's at the weights that it had then."""
    errors = [0.0]
    with means.exact_float32():
        step = means.build(workload.twin(case))
        assert isinstance(step, TrainingStep)
        step.run(lambda *_: None)
        step.start_again()
        model = initial_model(workload, step.case, "cpu")
        for _ in range(STEPS):
            before, given = _state(step), _given(step)
            right = _on_host(step, model, torch.float32)
            errors.append(abs(float(given["loss"] / right["loss"]) - 1))
            errors.append(_worst_gradient(right, given, "float32")[0])
            errors += _of_statistics(model, step.model)  # which both passes have moved by now
            moved = _advanced(workload, before, given)
            step.update()
            step.barrier()
            update_error = _of_moves(before, _state(step), moved, steps=1)
            errors.append(update_error * TWIN_TOLERANCE / UPDATE_TOLERANCE)
            model = _model_now(step)
    return Parity(
        name="float32 twin",
        error=largest(errors),
        tolerance=TWIN_TOLERANCE,
        what="relative error of losses and gradients of a small model in float32",
    )


def _recalled(
    step: TrainingStep, dtype: torch.dtype, means: Means, identity: str
) -> Mapping[str, Tensor]:
    """Loss and samples of the gradients that the module gives on the host at its first weights."""
    key: dict[str, object] = {
        "workload": step.workload.source_sha256(),
        "program": identity,
        "params": dict(step.case.params),
        "shape": dict(step.case.shape),
        "run": str(dtype),
    }
    known = means.references.recall(key)
    if known is None:
        model = initial_model(step.workload, step.case, "cpu")
        known = _sampled(_on_host(step, model, dtype), _GRADIENTS)
        means.references.keep(key, known)
    return known


def _on_host(
    step: TrainingStep, model: nn.Module, dtype: torch.dtype, *, backward: bool = True
) -> dict[str, Tensor]:
    """Loss and, where asked for, every gradient of a model on the host, as its library has it."""
    scored = Scored(step.workload, step.case, model)
    scored.dtype = dtype
    with torch.set_grad_enabled(backward):
        loss: Tensor = scored(*step.given_on_host)
    if not backward:
        return {"loss": loss}
    loss.backward()  # type: ignore[no-untyped-call]
    return {"loss": loss.detach(), **_gradients(model)}


def _given(step: TrainingStep) -> dict[str, Tensor]:
    """Loss and gradients of the program itself now, on the CPU; they stay for an update."""
    loss = step.loss_and_gradients()
    step.barrier()
    return {"loss": loss.cpu(), **_gradients(step.model)}


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    """On the CPU, by name; none of a weight that the loss never reached."""
    named = [(name, p.grad) for name, p in model.named_parameters()]
    return {name: g.detach().cpu().float().clone() for name, g in named if g is not None}


def _model_now(step: TrainingStep) -> nn.Module:
    """The model with the weights that the program has, on the host."""
    model = initial_model(step.workload, step.case, "cpu")
    held = {name: value.detach().cpu() for name, value in step.model.state_dict().items()}
    model.load_state_dict(held)
    return model


def _state(step: TrainingStep) -> Moved:
    """Weights and what the optimizer keeps, as they are now."""
    weights, states, whole = {}, {}, step.whole
    for name, parameter in step.model.named_parameters():
        weights[name] = _watched_of(parameter, whole)
        states[name] = {
            kind: value
            if not isinstance(value, Tensor)
            else _watched_of(value, whole)
            if whole or value.shape == parameter.shape
            else value.detach().cpu().clone()
            for kind, value in step.optimizer.state.get(parameter, {}).items()
        }
    return Moved(weights=weights, states=states, whole=whole)


def _watched_of(tensor: Tensor, whole: bool) -> Tensor:
    if not whole:
        return _evenly(tensor, _ELEMENTS)
    return tensor.detach().cpu().clone()  # float32, on which some choose their least divisor


def _advanced(workload: Training, state: Moved, gradients: Mapping[str, Tensor]) -> Moved:
    """The state after a step of the same optimizer, in float64 and one weight after another."""
    named = [(name, nn.Parameter(value.clone())) for name, value in state.weights.items()]
    optimizer = workload.optimizer(named)
    for group in optimizer.param_groups:
        group.update({kind: False for kind in ("fused", "foreach") if kind in group})
    for name, parameter in named:
        if name in gradients:  # a weight without one stays
            parameter.grad = _watched_of(gradients[name], state.whole)
        kept = state.states[name]
        if kept:
            optimizer.state[parameter] = {
                kind: value.clone() if isinstance(value, Tensor) else value
                for kind, value in kept.items()
            }
    optimizer.step()
    return Moved(
        weights={name: parameter.detach() for name, parameter in named},
        states={name: dict(optimizer.state[parameter]) for name, parameter in named},
        whole=state.whole,
    )


def _of_moves(before: Moved, after: Moved, right: Moved, steps: int) -> float:
    """The worst relative L2 error: of how all weights moved, and of each kind of what is kept."""
    names = list(before.weights)

    def together(moved: Moved) -> Tensor:
        return torch.cat([moved.weights[name].flatten() for name in names])

    errors = [move_error(together(before), together(after), together(right), steps)]
    kinds = {kind for state in right.states.values() for kind, v in state.items() if _kept(v)}
    for kind in kinds:
        holding = [name for name in names if _kept(right.states[name].get(kind))]
        if not all(_kept(after.states[name].get(kind)) for name in holding):
            return math.inf
        wanted, given = (
            torch.cat([moved.states[name][kind].flatten() for name in holding])
            for moved in (right, after)
        )
        errors.append(relative_l2(wanted, given))
    return largest(errors)


def _kept(value: object) -> bool:
    """Whether it is a value of each element, and no count of steps."""
    return isinstance(value, Tensor) and value.ndim > 0


def _of_statistics(right: nn.Module, given: nn.Module) -> list[float]:
    """Relative L2 error of each buffer that is no weight: a batch norm's means and variances, which
    nothing reads while a model trains."""
    held = dict(given.named_buffers())
    named = [(name, value) for name, value in right.named_buffers() if value.is_floating_point()]
    return [relative_l2(value, held[name]) for name, value in named]


def _worst_gradient(
    right: Mapping[str, Tensor], given: Mapping[str, Tensor], stated: str
) -> tuple[float, str]:
    """The worst relative L2 error of a weight's gradient, and which weight it is.

    Of one that only the one or the other has, the other's is nothing.
    """
    sizes = {n: float(g.double().square().mean().sqrt()) for n, g in right.items() if n != "loss"}
    least = FLOORS[stated] * statistics.median(sizes.values())
    errors = {}
    for name in {*sizes, *given} - {"loss"}:
        one, other = given.get(name), right.get(name)
        nothing = torch.zeros(())
        apart = (nothing if one is None else one.double()) - (
            nothing if other is None else other.double()
        )
        size = max(sizes.get(name, 0.0), least, 1e-300)
        errors[name] = float(apart.square().mean().sqrt()) / size
    name = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    return errors[name], name


def _sampled(given: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """What is compared of a loss and gradients."""
    return {name: _evenly(value, most).float() for name, value in given.items()}


def _evenly(tensor: Tensor, most: int) -> Tensor:
    """At most so many of its elements, evenly spaced: float64 on the CPU."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // most)][:most].cpu().double().clone()


def _stated(case: Case, means: Means) -> str:
    stated = means.float32_precision if case.dtype == "float32" else case.dtype
    if stated == "float32" and means.device.torch_device.startswith("cuda"):
        return "tf32"  # cuDNN's convolutions, unless they are told otherwise
    return stated


def _loss_tolerance(case: Case, means: Means, cost: float) -> float:
    """cost: what a run as written errs in the precision of the case."""
    if _stated(case, means) == "float32":
        return EXACT_LOSS
    return min(max(LOSS, LOSS_SHARE * cost), LOSS_CAP)

"""Checks of a training program together; docs/parity.md says what each of them catches.

- ``float32 twin``: the same code, compiled the same way, four layers deep in float32: losses and
  every gradient, each step judged at the weights the program had.
- ``gradient`` and ``loss``: of the program itself, every layer, at the initial weights.
- ``optimizer``: what it made of its own gradients, element by element.
- ``frozen base``, where there is one: no weight of it moved.
- ``timed loss`` and ``timed step``: of one more pass after the window, from the weights and the
  moments that the timed passes left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Checks, Means, Parity, largest, sha256_of
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.parity import judged_routes
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.recall import eager, floor, place
from tpubench.workloads.llama.weights import whole
from tpubench.workloads.llama_pretrain import reference as reference
from tpubench.workloads.llama_pretrain.model import IGNORED
from tpubench.workloads.llama_pretrain.observed import (
    frozen_error,
    one_more,
    pieces,
    sampled,
    watch,
    weights_now,
    worst_over_ranks,
)
from tpubench.workloads.llama_pretrain.step import TrainStep

TWIN_LAYERS, TWIN_LENGTH, TWIN_BATCH, TWIN_VOCAB = 4, 256, 2, 8192
TWIN_PARTS = 2
"""Parts of a batch, where gradients accumulate."""
TWIN_TOLERANCE = 1e-4
"""A correct twin errs by 5e-6 in the worst gradient."""
EAGER_RATIO = 1.5
"""How much more than an eager run in the same precision the worst gradient may err."""
CAP = 0.1
"""The most that a gradient may err, whatever an eager run does."""
EXACT_LOSS, LOSS, MANY = 1e-4, 5e-3, 16
"""Relative error allowed of a mean loss in float32, and in less: rounding averages out over as many
tokens, and over fewer as the root of how many there are."""
TIMED_STEP = 0.03
"""A device may add in another order at each pass, which moves a gradient by a hundredth at most;
the weakest defect of docs/parity.md moves the step by 0.08."""
UPDATE_TOLERANCE = 1e-3
"""A weight of one moves by 3e-4 a step, and float32 rounds it to 6e-8."""
FROZEN = 1e-6
"""A weight that nothing moved is what it was, bit for bit."""
_REGRET = "regret of routes"


def checks(case: Case, step: TrainStep, means: Means) -> Checks:
    """The checks of a built step, to be called once its window has closed.

    With many ranks all of them run the programs, and each the float32 loss of its own sequences;
    rank 0 alone computes gradients.
    """

    def run() -> list[Parity]:
        timed, routes = _timed(case, step, means)
        seen: dict[str, Tensor] = {}

        def keep(number: int, loss: Tensor, named: Iterator[tuple[str, Tensor]]) -> None:
            judged = pieces(step.model.config, named, step.judged_ids_RL)
            samples = {name: sampled(tensor) for name, tensor in judged}  # on every rank
            routing = step.routing()
            if number == 0:
                seen.update(samples, loss=loss.to("cpu", torch.float32, copy=True))
                if routing is not None:
                    span = step.judged_ids_RL.shape[1]
                    seen["routing"] = routing[step.judged_rows, :span]

        frozen = [_frozen(frozen_error(step))] if step.frozen() else []
        updates = watch(step, step.judged_BL, step.judged_scale, lambda number: None, keep)
        update_error = worst_over_ranks(step, updates.error())
        twin = _twin(case, means)
        if means.device.rank > 0:
            return []
        judged = list(_judged(case, step, seen, means, routes))
        return [
            twin,
            *judged,
            _optimizer(update_error),
            *timed,
            *frozen,
            *judged_routes(routes, 0.1 if eager(case, means) is None else 1.0),
        ]

    return run


def _timed(case: Case, step: TrainStep, means: Means) -> tuple[list[Parity], list[Tensor]]:
    """The checks, and by how much each route of the timed kind is wrong, where there are any."""
    where = place(means)
    summed: list[Tensor] = []
    regrets: list[Tensor] = []

    def judge(routing: Tensor | None) -> None:
        get = step.plain_weights(weights_now(step, where.device))
        mixing = step.mixing(step.own_rows(routing), step.targets_BL, where.device)
        summed.append(
            reference.loss(step.model.config, get, step.tokens_BL, step.targets_BL, where, mixing)
        )
        if mixing is not None:
            regrets.append(mixing.regret())

    more = one_more(step, judge)
    (expected,) = summed
    if step.device.ranks > 1:
        expected = expected.to(step.device.torch_device)
        torch.distributed.all_reduce(expected)
    tokens = case.number("batch") * case.number("seq_len")
    wanted = float(expected.cpu()) / tokens
    checks = [
        Parity(
            name="timed loss",
            # A batch that was learnt by heart has a loss near nothing: then it is the error itself.
            error=abs(more.loss - wanted) / max(wanted, 1.0),
            tolerance=_loss_tolerance(case, means, tokens),
            what="relative error of the loss at the weights that the timed passes left",
        ),
        Parity(
            name="timed step",
            error=worst_over_ranks(step, more.error()),
            tolerance=TIMED_STEP,
            what="relative L2 error of what one more pass makes of weights and moments",
        ),
    ]
    return checks, regrets


def _judged(
    case: Case,
    step: TrainStep,
    seen: Mapping[str, Tensor],
    means: Means,
    routes: list[Tensor],
) -> Iterator[Parity]:
    """The gradient's checks; ``routes`` is told those of the judged tokens."""
    routing = seen.get("routing")
    truth, regret = _recalled(step, torch.float32, True, means, routing)
    routes += [] if regret is None else [regret]
    allowed, against, measured = floor(case, means), "float32", eager(case, means)
    if measured is not None:
        cost = worst_gradient(truth, _recalled(step, *measured, means, routing)[0])[0]
        allowed = min(CAP, max(allowed, EAGER_RATIO * cost))
        against = f"float32 (an eager run: {cost:.3g})"
    error, name = worst_gradient(truth, seen, few=2.0)
    yield Parity(
        name="gradient",
        error=error,
        tolerance=allowed,
        what=f"relative L2 error of the worst gradient ({name}) against {against}",
    )
    yield Parity(
        name="loss",
        error=abs(float(seen["loss"] / truth["loss"]) - 1),
        tolerance=_loss_tolerance(case, means, _targets(step)),
        what="relative error of the loss at the initial weights",
    )


def _optimizer(error: float) -> Parity:
    return Parity(
        name="optimizer",
        error=error,
        tolerance=UPDATE_TOLERANCE,
        what="relative L2 error of what AdamW makes of the program's own gradients",
    )


def _frozen(error: float) -> Parity:
    return Parity(
        name="frozen base",
        error=error,
        tolerance=FROZEN,
        what="relative L2 distance of the worst frozen weight from what it began as",
    )


def _twin(case: Case, means: Means) -> Parity:
    """The twin's losses and gradients, each step's at the weights that it had then."""
    errors = [0.0]
    where = place(means)
    with means.exact_float32():
        step = means.build(twin_case(case, means.device.ranks))
        assert isinstance(step, TrainStep)
        config, first = step.model.config, means.device.rank == 0
        ids_BL = step.all_tokens_BL
        step.run(lambda *_: None)
        weights: dict[str, Tensor] = {}

        def remember(number: int) -> None:
            live = weights_now(step, where.device)
            for name, _ in step.model.named_parameters():
                weights[name] = live(name).clone()
            if number == 0:  # what it should begin with
                weights.update({n: _initial(step, n, where.device) for n in weights})

        def compare(number: int, loss: Tensor, named: Iterator[tuple[str, Tensor]]) -> None:
            given = {n: g.to("cpu", torch.float32) for n, g in pieces(config, named, ids_BL)}
            mixing = step.mixing(step.routing(), ids_BL[:, 1:], where.device)
            if not first:
                return
            pending = reference.gradients(
                config,
                step.plain_weights(weights.__getitem__),
                ids_BL[:, :-1],
                ids_BL[:, 1:],
                scale=1 / ids_BL[:, 1:].numel(),
                dtype=torch.float32,
                place=where,
                mixing=mixing,
            )
            pending = step.own_gradients(weights.__getitem__, pending, where)
            _, expected = next(pending)
            errors.append(abs(float(loss.cpu() / expected.cpu()) - 1))
            errors.extend([] if mixing is None else [float(mixing.regret().max())])
            wanted = {n: g.to("cpu", torch.float32) for n, g in pieces(config, pending, ids_BL)}
            errors.append(worst_gradient(wanted, given)[0])

        updates = watch(step, step.targets_BL, step.scale, remember, compare)
    update_error = worst_over_ranks(step, updates.error())
    errors.append(update_error * TWIN_TOLERANCE / UPDATE_TOLERANCE)
    return Parity(
        name="float32 twin",
        error=largest(errors),
        tolerance=TWIN_TOLERANCE,
        what=f"relative error of losses and gradients with {config.n_layers} layers in float32",
    )


def twin_case(case: Case, ranks: int) -> Case:
    """The case as its float32 twin runs it: as wide, few layers, few tokens."""
    config = LlamaConfig.from_json(case.shape)
    layers = min(case.number("layers") or config.n_layers, TWIN_LAYERS)
    config = replace(config, n_layers=layers, vocab=min(config.vocab, TWIN_VOCAB * ranks))
    parts = min(case.number("accumulate"), TWIN_PARTS)
    sequences = max(1, case.number("batch") // (ranks * parts))  # a rank and part
    params: dict[str, int | str] = {
        **case.params,
        "batch": ranks * parts * min(TWIN_BATCH, sequences),
        "accumulate": parts,
        "seq_len": min(case.number("seq_len"), TWIN_LENGTH),
        "layers": layers,
        "dtype": "float32",
    }
    return replace(case, params=params, shape=config.to_json())


def worst_gradient(
    expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], few: float = 0.0
) -> tuple[float, str]:
    """Relative L2 error of the worst weight's gradient, and its name; NaN is the worst of all.

    few: rounding's share in n elements varies by some 1/√n, a norm over a head has hardly more than
    a few: an error counts less by 1 + few/√n.
    """
    errors = {
        name: float((actual[name].double() - wanted.double()).norm() / wanted.double().norm())
        / (1 + few / math.sqrt(wanted.numel()))
        for name, wanted in expected.items()
        if name != "loss"
    }
    name = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    return errors[name], name


def _recalled(
    step: TrainStep, dtype: torch.dtype, exact: bool, means: Means, routing: Tensor | None
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Loss, and samples of every gradient at the initial weights, of the judged tokens; and by how
    much their routes are wrong."""
    config, where = step.model.config, place(means)
    ids_RL, targets_RL = step.judged_ids_RL, step.judged_targets_RL
    mixing = step.mixing(routing, targets_RL, where.device, step.judged_rows)
    if not exact:
        where = replace(where, exact=nullcontext)
    key: dict[str, object] = {
        "source": sha256_of(type(step)),
        "weights": step.weights.identity(),
        "device": torch.device(where.device).type,
        "dtype": str(dtype),
        "precision": "exact" if exact else means.float32_precision,
        "tokens": ids_RL.tolist(),
        "targets": targets_RL.tolist(),
        **({} if mixing is None else mixing.identity()),
    }
    known = means.references.recall(key)
    if known is not None:
        regret = known.pop(_REGRET, None)
        return known, regret

    def get(name: str) -> Tensor:
        return _initial(step, name, where.device)

    gradients = reference.gradients(
        config,
        step.plain_weights(get),
        ids_RL,
        targets_RL,
        scale=1 / _targets(step),
        dtype=dtype,
        place=where,
        mixing=mixing,
    )
    gradients = step.own_gradients(get, gradients, where)
    _, loss = next(gradients)
    answer = {name: sampled(tensor) for name, tensor in pieces(config, gradients, ids_RL)}
    answer["loss"] = loss.to("cpu", torch.float32)
    regret = None if mixing is None else mixing.regret()
    means.references.keep(key, answer if regret is None else {**answer, _REGRET: regret})
    return answer, regret


def _initial(step: TrainStep, name: str, device: str) -> Tensor:
    return whole(step.weights, name, held=FLOAT32, device=device)


def _targets(step: TrainStep) -> int:
    """How many are judged."""
    return int((step.judged_targets_RL != IGNORED).sum())


def _loss_tolerance(case: Case, means: Means, tokens: int) -> float:
    if eager(case, means) is None:
        return EXACT_LOSS
    return LOSS * max(1.0, math.sqrt(MANY / tokens))

"""Faults that a training step of a recommender can have, put into a built one on purpose.

As ``forward_defects.py`` has them for a pass: each changes a step in place, and the twin that the
checks build has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast
from unittest import mock

import torch
from limits_defects import rounded
from llama_defects import around
from llama_train_defects import loss_read_too_early, stale_loss
from torch import Tensor, nn

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.dlrm_train import step as program
from tpubench.workloads.dlrm_train.model import AdagradSettings, RowMoves, row_moves
from tpubench.workloads.dlrm_train.step import SETTINGS, DlrmTrainStep

COLUMNS = (
    "float32 twin",
    "gradient",
    "every sample",
    "loss",
    "optimizer",
    "timed loss",
    "timed step",
    "other rows",
)
_BATCH = 6
Defect = Callable[[DlrmTrainStep], None]


def case(dtype: str = "bfloat16") -> Case:
    """The small model; samples share rows of its small tables, and leave rows of the large ones."""
    workload = registry.workload("dlrm-train")
    (chosen,) = workload.cases("tiny", {"batch": [str(_BATCH)], "dtype": [dtype]})
    return workload.prepare(chosen, Weights())


def _forward(change: Callable[..., tuple[Tensor, ...]]) -> Defect:
    """The model is given other inputs: features, rows, answers, shift."""
    return lambda step: around(
        step.model, "forward", lambda plain, *inputs: plain(*change(*inputs))
    )


def _layer(step: DlrmTrainStep, name: str) -> Any:
    return step.model.get_submodule(name)


def _projection_left_out(step: DlrmTrainStep) -> None:
    around(_layer(step, "cross.1.up"), "forward", lambda plain, x: torch.zeros_like(plain(x)))


def _bias_left_out(step: DlrmTrainStep) -> None:
    layer = _layer(step, "top.0")
    around(layer, "forward", lambda plain, x: plain(x) - layer.bias.to(x.dtype))


def _no_residual(step: DlrmTrainStep) -> None:
    around(_layer(step, "cross.1"), "forward", lambda plain, x, first: plain(x, first) - x)


def _rows_averaged(step: DlrmTrainStep) -> None:
    """A table's rows are averaged instead of summed."""
    hot = torch.tensor(step.model.lookup.hot).repeat_interleave(step.model.lookup.table.shape[1])
    around(step.model.lookup, "forward", lambda plain, ids: plain(ids) / hot)


def _hashed(step: DlrmTrainStep) -> None:
    """Every other row is read in the place of the one after it."""
    around(step.model.lookup, "forward", lambda plain, ids: plain(ids // 2 * 2))


def _repeated_rows_once(step: DlrmTrainStep) -> None:
    """A row that a sample takes twice counts once."""
    lookup = step.model.lookup

    def forward(plain: Callable[[Tensor], Tensor], ids_BI: Tensor) -> Tensor:
        earlier = torch.ones(ids_BI.shape[1], ids_BI.shape[1]).tril(-1).bool()
        again = ((ids_BI.unsqueeze(2) == ids_BI.unsqueeze(1)) & earlier).any(dim=2, keepdim=True)
        lost_BIW = lookup.table[ids_BI] * again
        lost = [part.sum(dim=1) for part in torch.split(lost_BIW, list(lookup.hot), dim=1)]
        return plain(ids_BI) - torch.cat(lost, dim=1)

    around(lookup, "forward", forward)


def _labels_shifted(step: DlrmTrainStep) -> None:
    _forward(lambda x, ids, labels, shift: (x, ids, labels.roll(1), shift))(step)


def _half_of_the_batch(step: DlrmTrainStep) -> None:
    """The first half stands for all."""
    half = _BATCH // 2
    _forward(lambda x, ids, labels, shift: (x[:half], ids[:half], labels[:half], shift[:half]))(
        step
    )


def _loss_summed(step: DlrmTrainStep) -> None:
    around(step.model, "forward", lambda plain, *inputs: plain(*inputs) * _BATCH)


def _one_sample_without_gradient(step: DlrmTrainStep) -> None:
    def hook(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[_BATCH // 2] = 0
        return gradient

    step.shift_BP.register_hook(hook)  # type: ignore[no-untyped-call]


def _on_gradient(name: str, change: Callable[[Tensor], Tensor]) -> Defect:
    def defect(step: DlrmTrainStep) -> None:
        step.model.get_parameter(name).register_hook(change)  # type: ignore[no-untyped-call]

    return defect


def _weights_rounded(bits: int) -> Defect:
    """Layers multiply by weights of so many bits."""

    def defect(step: DlrmTrainStep) -> None:
        for layer in step.model.modules():
            if isinstance(layer, nn.Linear):
                around(
                    layer,
                    "forward",
                    lambda plain, x, layer=layer: torch.nn.functional.linear(
                        x,
                        (layer.weight + (rounded(layer.weight, bits) - layer.weight).detach()).to(
                            x.dtype
                        ),
                        None if layer.bias is None else layer.bias.to(x.dtype),
                    ),
                )

    return defect


def _idle(method: str) -> Defect:
    """What moves the weights does nothing."""

    def defect(step: DlrmTrainStep) -> None:
        owner = step if method == "move_rows" else step.optimizer
        around(owner, method, lambda plain: None)

    return defect


def _idle_in_the_window(method: str) -> Defect:
    """Right in the checks' steps, and nothing in the timed ones."""

    def defect(step: DlrmTrainStep) -> None:
        owner = step if method == "move_rows" else step.optimizer

        def run(plain: Callable[..., None], mark: Any) -> None:
            with mock.patch.object(owner, method, lambda: None):
                plain(mark)

        around(step, "run", run)

    return defect


def _gradients_accumulate(step: DlrmTrainStep) -> None:
    around(step, "forget_gradients", lambda plain: None)


def _hasty(step: DlrmTrainStep) -> None:
    step.optimizer.param_groups[0]["lr"] *= 1.2


def _slightly_hasty(step: DlrmTrainStep) -> None:
    step.optimizer.param_groups[0]["lr"] *= 1.02


def _sums_lost(step: DlrmTrainStep) -> None:
    """Each step begins without them."""

    def update(plain: Callable[[], None]) -> None:
        for state in step.optimizer.state.values():
            state["sum"].zero_()
        step.squares_RW.zero_()
        plain()

    around(step, "update", update)


def _weights_in_bfloat16(step: DlrmTrainStep) -> None:
    def update(plain: Callable[[], None]) -> None:
        plain()
        with torch.no_grad():
            for weight in (*step.model.parameters(), step.model.lookup.table):
                weight.copy_(weight.bfloat16())

    around(step, "update", update)


def _every_row_decays(step: DlrmTrainStep) -> None:
    around(step, "move_rows", lambda plain: (step.model.lookup.table.mul_(1 - 1e-4), plain()))


def _rows_by(moves: Callable[..., RowMoves]) -> Defect:
    """Rows are moved otherwise: called with what ``row_moves`` is."""

    def defect(step: DlrmTrainStep) -> None:
        def move(plain: Callable[[], None]) -> None:
            with mock.patch.object(program, "row_moves", moves):
                plain()

        around(step, "move_rows", move)

    return defect


def _once_a_sample(ids: Tensor, bag: Tensor, gradient: Tensor, *rest: Any) -> RowMoves:
    """A row that samples share moves once for each of them."""
    squares, _, settings = rest
    width = squares.shape[1]
    each = gradient.view(len(ids), -1, width).index_select(1, bag).view(-1, width)
    root = (squares[ids.reshape(-1)] + each.square()).sqrt()
    change = each / (root + settings.eps) * -settings.lr
    return RowMoves(row=ids.reshape(-1), square=each.square(), change=change)


def _last_sample_alone(ids: Tensor, bag: Tensor, gradient: Tensor, *rest: Any) -> RowMoves:
    """Of a row that samples share, one sample's gradient counts."""
    flat = ids.reshape(-1)
    last = {int(row): place for place, row in enumerate(flat)}
    keep = torch.zeros(len(flat), 1)
    keep[list(last.values())] = 1.0
    moves = _once_a_sample(ids, bag, gradient, *rest)
    return replace(moves, square=moves.square * keep, change=moves.change * keep)


def _other_settings(**settings: float) -> Callable[..., RowMoves]:
    other, plain = replace(SETTINGS, **settings), cast("Callable[..., RowMoves]", row_moves)
    return lambda *given: plain(*given[:-1], other)


def _plain_descent(*given: Any) -> RowMoves:
    """Without sums of squares."""
    moves = row_moves(*given)
    change = -SETTINGS.lr * moves.square.sqrt() * -moves.change.sign()
    return replace(moves, change=change)


def _one_sum_a_row(*given: Any) -> RowMoves:
    """Row-wise Adagrad: the mean of squares over a row stands for each of them."""
    squares, settings = given[3], given[5]
    moves = row_moves(*given)
    square = moves.square.mean(dim=1, keepdim=True).expand_as(moves.square)
    gradient = moves.square.sqrt() * -moves.change.sign()
    root = (squares[moves.row] + square).sqrt()
    change = gradient / (root + settings.eps) * -settings.lr
    return replace(moves, square=square, change=change)


def _the_row_before(*given: Any) -> RowMoves:
    """What is added to a row goes to the one before it."""
    moves = row_moves(*given)
    return replace(moves, row=(moves.row - 1).clamp_min(0))


def _rows_of_another_table(
    ids: Tensor,
    bag: Tensor,
    gradient: Tensor,
    squares: Tensor,
    slot: Tensor,
    settings: AdagradSettings,
) -> RowMoves:
    """Each row has the gradient of another table's sums."""
    return row_moves(ids, bag.flip(0), gradient, squares, slot, settings)


DEFECTS: Mapping[str, Defect] = {
    "a projection left out": _projection_left_out,
    "a bias left out": _bias_left_out,
    "a crossing without its own input": _no_residual,
    "rows averaged": _rows_averaged,
    "rows of the neighbours": _forward(
        lambda x, ids, labels, shift: (x, (ids - 1).clamp_min(0), labels, shift)
    ),
    "answers of another sample": _labels_shifted,
    "half of the batch for all": _half_of_the_batch,
    "loss summed": _loss_summed,
    "rows hashed together": _hashed,
    "a repeated row counts once": _repeated_rows_once,
    "stale loss": stale_loss,
    "loss read too early": loss_read_too_early,
    "weights with 7 bits (int8)": _weights_rounded(6),
    "weights with 3 bits (fp8)": _weights_rounded(3),
    "gradient of a layer zeroed": _on_gradient("top.0.weight", torch.zeros_like),
    "gradient 1.1 times": _on_gradient("cross.0.down.weight", lambda gradient: 1.1 * gradient),
    "gradient rounded to bfloat16": _on_gradient(
        "top.1.weight", lambda gradient: gradient.bfloat16().float()
    ),
    "one sample without gradient": _one_sample_without_gradient,
    "gradients accumulate": _gradients_accumulate,
    "idle optimizer": _idle("step"),
    "idle optimizer in the window": _idle_in_the_window("step"),
    "rows never moved": _idle("move_rows"),
    "rows not moved in the window": _idle_in_the_window("move_rows"),
    "hasty optimizer": _hasty,
    "sums of squares lost": _sums_lost,
    "weights kept in bfloat16": _weights_in_bfloat16,
    "a shared row moved for each sample": _rows_by(_once_a_sample),
    "a shared row moved by one sample": _rows_by(_last_sample_alone),
    "the row before moved": _rows_by(_the_row_before),
    "gradients of another table": _rows_by(_rows_of_another_table),
    "rows by plain descent": _rows_by(_plain_descent),
    "rows by one sum a row": _rows_by(_one_sum_a_row),
    "rate two hundredths higher": _slightly_hasty,
    "hasty rows": _rows_by(_other_settings(lr=0.006)),
    "another ε of rows": _rows_by(_other_settings(eps=1e-4)),
    "every row decays": _every_row_decays,
}

"""What a training program does, step by step: losses, gradients and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tpubench.suite.workload import largest
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.weights import whole
from tpubench.workloads.llama_pretrain.reference import (
    AdamWSettings,
    AdamWState,
    adamw,
    adamw_step,
)
from tpubench.workloads.llama_pretrain.step import TrainStep, gathered

STEPS = 3
"""Steps that are watched, from the initial weights: AdamW's moments show from the second on."""
SAMPLES = 4096
"""Elements of each weight's gradient that are compared at most, evenly spaced."""
_UPDATED = 256
"""Elements of each weight whose updates are followed, evenly spaced."""

Before = Callable[[int], None]
Gradients = Callable[[int, Tensor, Iterator[tuple[str, Tensor]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """Elements of every weight over the steps watched, on the CPU: float32 of shape [n] each.

    gradients: one for each step, as clipping by its formula leaves them. counted: steps that the
    optimizer says it had taken in the timed passes; passes: how many there were.
    """

    before: Tensor
    gradients: list[Tensor]
    after: Tensor
    counted: int
    passes: int
    settings: AdamWSettings

    def error(self) -> float:
        """How far the weights moved from where AdamW moves them, relative to how far it does.

        Infinite when the optimizer missed one of the timed passes.
        """
        if self.counted != self.passes:
            return float("inf")
        start = self.before.double()
        wanted = adamw(start, self.gradients, self.settings) - start
        return _of_move(start, self.after.double() - start, wanted, len(self.gradients))


def watch(
    step: TrainStep, targets_BL: Tensor, scale: Tensor, before: Before, look: Gradients
) -> Updates:
    """STEPS steps from the initial weights on these targets.

    before: told the number of each step, while the weights are as it will find them. look: told
    that number, the loss and every gradient. All ranks must watch together.
    """
    counted, passes = _steps_taken(step), len(step.losses)
    step.start_again()
    start = _elements(step, lambda parameter: parameter.detach())
    gradients = []
    for number in range(STEPS):
        before(number)
        loss = _mean_over_ranks(step, step.loss_and_gradients(targets_BL, scale))
        step.barrier()
        named = ((name, gathered(_gradient(p))) for name, p in step.trained())
        look(number, loss, named)
        gradients.append(_elements(step, _gradient) * _kept(step))
        step.update()
        step.barrier()
    return Updates(
        before=start,
        gradients=gradients,
        after=_elements(step, lambda parameter: parameter.detach()),
        counted=counted,
        passes=passes,
        settings=step.settings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OneMore:
    """One more pass of the timed kind: its loss, and elements of the state around it.

    gradient: what the program itself gives for this pass, computed apart from it, as clipping by
    its formula leaves it. silent: tokens of the batch, all of which some loss comes after, that
    have none.
    """

    loss: float
    before: AdamWState
    gradient: Tensor
    after: AdamWState
    settings: AdamWSettings
    silent: int

    def error(self) -> float:
        """Of how far the weights moved, and of both moments: the worst relative L2 error.

        Infinite where part of the batch has no gradient.
        """
        if self.silent:
            return float("inf")
        wanted = adamw_step(self.before, self.gradient, self.settings)
        start = self.before.weight.double()
        pairs = ((wanted.mean, self.after.mean), (wanted.square, self.after.square))
        errors = [float((given - right).norm() / right.norm()) for right, given in pairs]
        errors.append(_of_move(start, self.after.weight - start, wanted.weight - start, 1))
        return largest(errors)


def one_more(step: TrainStep, judge: Callable[[Tensor | None], None]) -> OneMore:
    """One more pass from the weights and moments that the timed ones left.

    judge: told the experts that tokens took, while the weights are still those.
    """
    step.loss_and_gradients(step.targets_BL, step.scale)
    step.barrier()
    judge(step.routing())
    gradient = _elements(step, _gradient) * _kept(step)
    silent = _silent_tokens(step)
    step.optimizer.zero_grad(set_to_none=True)
    before = _state(step)
    step.run(lambda *_: None)
    loss = _mean_over_ranks(step, step.losses[-1])
    step.barrier()
    return OneMore(
        loss=float(loss.cpu()),
        before=before,
        gradient=gradient,
        after=_state(step),
        settings=step.settings,
        silent=silent,
    )


def _silent_tokens(step: TrainStep) -> int:
    """Tokens of the whole batch whose embedding has no gradient; all ranks must ask together.

    None where the embedding is frozen, or is the head too and so has a gradient in every row.
    """
    table = dict(step.trained()).get("embedding.weight")
    if step.model.config.tied or table is None:
        return 0
    ids = torch.unique(step.all_tokens_BL[:, :-1]).to(step.device.torch_device)
    rows = gathered(_gradient(table))[ids].to("cpu", torch.float32)
    return int((rows.abs().amax(dim=1) == 0).sum())


def _of_move(start: Tensor, moved: Tensor, wanted: Tensor, steps: int) -> float:
    """Relative L2 error of a move, less what float32 explains: at each step the decay's factor and
    the sum are rounded, each by half a unit in the last place at most. Of a learning rate that has
    hardly begun to rise, a step may be no larger than that."""
    rounding = 2 * 2.0**-24 * steps * start.norm()
    return float(((moved - wanted).norm() - rounding).clamp_min(0.0) / wanted.norm())


def _kept(step: TrainStep) -> float:
    """What clipping should multiply the gradients by that the parameters hold now."""
    if step.settings.clip is None:
        return 1.0
    squares = [_local(_gradient(p)).float().square().sum() for _, p in step.trained()]
    total = torch.stack(squares).sum()
    if step.device.ranks > 1:
        torch.distributed.all_reduce(total)
    return step.settings.kept(math.sqrt(float(total.cpu())))


def worst_over_ranks(step: TrainStep, error: float) -> float:
    """The largest error of any rank, each of which holds weights of its own; NaN is infinite."""
    error = float("inf") if math.isnan(error) else error
    if step.device.ranks == 1:
        return error
    errors = torch.tensor(error, device=step.device.torch_device)
    torch.distributed.all_reduce(errors, op=torch.distributed.ReduceOp.MAX)
    return float(errors)


def frozen_error(step: TrainStep) -> float:
    """Relative L2 distance of the worst frozen weight from its source; all ranks together."""
    errors = [0.0]
    for name, parameter in step.frozen():
        held = gathered(parameter.detach()).to("cpu", torch.float32)
        right = whole(step.weights, name, held=FLOAT32, device="cpu")
        errors.append(float((held - right).norm() / right.norm()))
    return largest(errors)


def weights_now(step: TrainStep, device: str) -> Callable[[str], Tensor]:
    """The program's own weights by name: whole, in float32. All ranks must ask together."""
    parameters = dict(step.model.named_parameters())

    def get(name: str) -> Tensor:
        return gathered(parameters[name].detach()).to(device, torch.float32)

    return get


def pieces(
    config: LlamaConfig, named: Iterable[tuple[str, Tensor]], ids: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Query, key, value, gate and up apart: one would hide the errors of another.

    Of an embedding that is no head, the rows of ``ids``: all others have no gradient.
    """
    q, k = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for name, tensor in named:
        parts: Sequence[Tensor]
        if name.endswith(".a"):  # of an adapter: as many rows for each of them
            parts = torch.chunk(tensor, 3 if ".qkv." in name else 2 if ".gate_up." in name else 1)
        elif "attention.qkv." in name:
            parts = torch.split(tensor, [q, k, k])
        elif "ffn.gate_up." in name and config.has_experts(int(name.split(".")[1])):
            assert config.experts is not None
            each_E2FD = tensor.view(config.experts.routed, 2, -1, tensor.shape[1])
            parts = each_E2FD.unbind(1)
        elif "gate_up." in name:
            parts = torch.chunk(tensor, 2)
        elif name == "embedding.weight" and not config.tied:
            parts = (tensor[torch.unique(ids).to(tensor.device)],)
        else:
            parts = (tensor,)
        for number, part in enumerate(parts):
            yield f"{name} {number}", part


def sampled(tensor: Tensor, most: int = SAMPLES) -> Tensor:
    """At most so many of its elements, evenly spaced: float32 on the CPU."""
    flat = tensor.reshape(-1)
    return flat[:: max(1, len(flat) // most)][:most].to("cpu", torch.float32, copy=True)


def _elements(step: TrainStep, of: Callable[[nn.Parameter], Tensor]) -> Tensor:
    """The same few elements of every trained weight that this process holds."""
    return torch.cat([sampled(_local(of(p)), _UPDATED) for _, p in step.trained()])


def _state(step: TrainStep) -> AdamWState:
    def moment(name: str) -> Callable[[nn.Parameter], Tensor]:
        def of(parameter: nn.Parameter) -> Tensor:
            held = step.optimizer.state.get(parameter)
            return held[name] if held else torch.zeros_like(parameter)

        return of

    return AdamWState(
        weight=_elements(step, lambda parameter: parameter.detach()),
        mean=_elements(step, moment("exp_avg")),
        square=_elements(step, moment("exp_avg_sq")),
        steps=_steps_taken(step),
    )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _gradient(parameter: nn.Parameter) -> Tensor:
    # A weight that the loss never reached has no gradient: a wrong one, not an error.
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _steps_taken(step: TrainStep) -> int:
    """Steps by the optimizer's own count; the fewest where weights differ."""
    states = [step.optimizer.state.get(p) for _, p in step.trained()]
    return min(int(state["step"]) if state else 0 for state in states)


def _mean_over_ranks(step: TrainStep, loss: Tensor) -> Tensor:
    if step.device.ranks > 1:
        loss = loss.clone()
        torch.distributed.all_reduce(loss)
        loss /= step.device.ranks
    return loss

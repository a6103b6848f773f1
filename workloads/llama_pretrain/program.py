"""The training step that a compiler is given: forward, backward and AdamW, on the meta device.

The model is that of ``model.py``. Its step is traced to a graph of plain operations, gradients
included, because what exports a program knows no autograd. Weights and moments are buffers that
the program replaces, as an optimizer does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from tpubench.suite.workload import Case, Program, UsageError
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama_pretrain.model import TrainedLlama, loss_of
from tpubench.workloads.llama_pretrain.reference import PLAIN, AdamWSettings, settings_of
from tpubench.workloads.llama_pretrain.step import scheduled

State = list[Tensor]
"""Every weight, then every first moment, then every second one, in the model's order."""


class Traced(TrainedLlama):
    """A model as it is traced: what is computed again stays apart from what was there.

    A compiler merges equal operations on equal inputs. Here the second run of a block reads its
    input plus the incoming gradient times ``nought``, a zero that only the caller knows: it is
    another input to the compiler, and one that is not there before the backward pass gets there.
    """

    nought: Tensor

    def __init__(
        self, config: LlamaConfig, length: int, dtype: torch.dtype, *, recompute: bool, **more: Any
    ) -> None:
        super().__init__(config, length, dtype, recompute=recompute, **more)
        if recompute:
            self.register_buffer("nought", torch.zeros((), dtype=dtype))

    def recomputed(self, block: nn.Module, *inputs: Tensor) -> Any:
        names = [name for name, _ in block.named_parameters()]
        x_BLD, *others = inputs

        def run(x_BLD: Tensor, weights: Sequence[Tensor]) -> Any:
            live = dict(zip(names, weights, strict=True))
            return functional_call(block, live, (x_BLD, *others))

        return _Recomputed.apply(run, self.nought, x_BLD, *block.parameters())  # type: ignore[no-untyped-call]


class TracedLlama(Traced):
    """The model of ``llama-pretrain`` as it is traced."""


class _Recomputed(torch.autograd.Function):
    """A block that keeps its input and weights, and runs again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, run: Callable[..., Any], nought: Tensor, x: Tensor, *weights: Tensor
    ) -> Any:
        ctx.run = run
        ctx.save_for_backward(nought, x, *weights)
        return run(x, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        nought, x, *weights = (tensor.detach() for tensor in ctx.saved_tensors)
        inputs = [each.requires_grad_() for each in (x + nought * gradients[0], *weights)]
        with torch.enable_grad():
            given = ctx.run(inputs[0], inputs[1:])
        outputs = [given] if isinstance(given, Tensor) else given
        # What a block notes beside its output may have no gradient.
        pairs = [pair for pair in zip(outputs, gradients, strict=True) if pair[0].requires_grad]
        ends, incoming = zip(*pairs, strict=True)
        return None, None, *torch.autograd.grad(ends, inputs, incoming)


class TracedStep(nn.Module):
    """One training step as a module: tokens and targets in, the mean loss out.

    A call advances the buffers: ``weight.NAME``, ``mean.NAME`` and ``square.NAME`` (the optimizer's
    moments), and ``count.steps``. ``table.NAME`` are the model's own buffers and ``frozen.NAME``
    the weights that are not trained, which stay.
    """

    def __init__(
        self,
        model: TrainedLlama,
        tokens_BL: Tensor,
        settings: AdamWSettings = PLAIN,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
        self.names, weights = list(trained), list(trained.values())
        zeros = [[torch.zeros_like(weight) for weight in weights] for _ in range(2)]
        for group, tensors in zip(("weight", "mean", "square"), (weights, *zeros), strict=True):
            self.add_module(group, Buffers(dict(zip(self.names, tensors, strict=True))))
        self.add_module("table", Buffers(dict(model.named_buffers())))
        self.add_module("frozen", Buffers({name: p.detach() for name, p in frozen.items()}))
        self.still = [*dict(model.named_buffers()), *frozen]
        steps = torch.zeros((), device=tokens_BL.device)
        self.add_module("count", Buffers({"steps": steps}))
        state = [*weights, *zeros[0], *zeros[1]]
        step = _step(model, self.names, settings, accumulate)
        targets_BL = torch.zeros_like(tokens_BL)  # given twice, one would be traced as one input
        self.graph = graph_of(step, (state, steps, self._still(), tokens_BL, targets_BL))

    def _still(self) -> dict[str, Tensor]:
        """What no step changes, by its name in the model."""
        held = [b for group in ("table", "frozen") for b in self.get_submodule(group).buffers()]
        return dict(zip(self.still, held, strict=True))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        state = [
            tensor
            for group in ("weight", "mean", "square")
            for tensor in self.get_submodule(group).buffers()
        ]
        (steps,) = self.get_submodule("count").buffers()
        loss: Tensor
        loss, next_steps, *advanced = self.graph(state, steps, self._still(), tokens, targets)
        for old, new in zip((*state, steps), (*advanced, next_steps), strict=True):
            old.copy_(new)
        return loss


class Buffers(nn.Module):
    """Tensors as buffers, by names in which a dot is written as a dash."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "-"), tensor)


def _step(
    model: TrainedLlama, names: Sequence[str], settings: AdamWSettings, accumulate: int
) -> Callable[..., list[Tensor]]:
    """One step, forward and backward and update, from tensors to tensors."""

    def step(
        state: State, steps: Tensor, still: dict[str, Tensor], tokens: Tensor, targets: Tensor
    ) -> list[Tensor]:
        n = len(names)
        weights = [weight.detach().requires_grad_() for weight in state[:n]]
        live = dict(zip(names, weights, strict=True))
        parts = [slice(part, None, accumulate) for part in range(accumulate)]
        losses = [
            loss_of(functional_call(model, {**live, **still}, (tokens[rows], targets[rows])))
            / tokens.numel()
            for rows in parts
        ]
        gradients = list(torch.autograd.grad(losses[0], weights))
        for loss in losses[1:]:
            more = torch.autograd.grad(loss, weights)
            gradients = [one + two for one, two in zip(gradients, more, strict=True)]
        loss = torch.stack(losses).sum() if accumulate > 1 else losses[0]
        if settings.clip is not None:
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
            kept = (settings.clip / (norm + 1e-6)).clamp(max=1.0)
            gradients = [gradient * kept for gradient in gradients]
        steps = steps + 1
        rate = scheduled(settings, steps)
        advanced = [
            _adamw(weight.detach(), gradient, mean, square, steps, rate, settings)
            for weight, gradient, mean, square in zip(
                weights, gradients, state[n : 2 * n], state[2 * n :], strict=True
            )
        ]
        return [
            loss.detach(),
            steps,
            *(new for group in zip(*advanced, strict=True) for new in group),
        ]

    return step


def graph_of(step: Callable[..., list[Tensor]], given: tuple[Any, ...]) -> GraphModule:
    """The graph of a step that was given these tensors, no two of which may be the same."""
    graph: GraphModule = make_fx(step)(*given)
    for node in graph.graph.nodes:
        # A cast names the device that it was traced on; the program is for another one. What has
        # no input has to name one, which whoever lowers the program replaces.
        if "device" in node.kwargs and node.all_input_nodes:
            node.kwargs = {key: v for key, v in node.kwargs.items() if key != "device"}
    graph.recompile()
    return graph


def _adamw(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    steps: Tensor,
    rate: Tensor,
    settings: AdamWSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and moments after the update (Loshchilov and Hutter, 2019, algorithm 2)."""
    s = settings
    mean = s.beta1 * mean + (1 - s.beta1) * gradient
    square = s.beta2 * square + (1 - s.beta2) * gradient * gradient
    denominator = (square / (1 - s.beta2**steps)).sqrt() + s.eps
    update = mean / (1 - s.beta1**steps) / denominator
    return weight * (1 - rate * s.weight_decay) - rate * update, mean, square


def program(
    case: Case,
    config: LlamaConfig,
    *,
    chips: int,
    traced: Callable[..., Traced] = TracedLlama,
    change: Callable[[TrainedLlama], object] = lambda model: None,
) -> Program:
    """One step of ``config``'s layers; over ``chips`` by fully sharded data parallelism.

    traced: what builds the model. change: what makes the model of another workload of it, in place.

    Every weight and moment is cut along its first dimension, where that divides, and the batch by
    sequences. UsageError for what cannot be exported.
    """
    batch, length = case.number("batch"), case.number("seq_len")
    parts = case.number("accumulate")
    if batch % (chips * parts):
        inside = "" if parts == 1 else f", in {parts} parts each"
        raise UsageError(
            f"batch={batch} does not divide among {chips} devices{inside}:"
            f" --set batch={chips * parts}"
        )
    with torch.device("meta"):
        recompute = case.params["recompute"] == "full"
        model = traced(config, length, getattr(torch, case.dtype), recompute=recompute)
        change(model)
        tokens_BL = torch.empty(batch, length, dtype=torch.int64)
    module = TracedStep(model, tokens_BL, settings_of(case), parts)
    split: dict[str, int] = {}
    if chips > 1:
        split = {"tokens": 0, "targets": 0}
        for name, tensor in module.named_buffers():
            if not name.startswith("table.") and tensor.ndim and tensor.shape[0] % chips == 0:
                split[name] = 0
    return Program(module=module, inputs=(tokens_BL, torch.empty_like(tokens_BL)), split=split)

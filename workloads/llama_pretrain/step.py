"""The timed program of ``llama-pretrain``: a model, an optimizer, a batch and one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Step, UsageError
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place
from tpubench.workloads.llama.weights import Drawn, Source, whole
from tpubench.workloads.llama_pretrain.model import IGNORED, TrainedLlama, loss_of
from tpubench.workloads.llama_pretrain.reference import (
    DECAY_STEPS,
    LEAST,
    PLAIN,
    AdamWSettings,
    Get,
    Mixing,
    settings_of,
)

PARITY_TOKENS, PARITY_SPAN = 64, 256
"""Targets that carry a loss in the parity check, half of them in the first sequence and half in the
last, and over how many tokens they are spread. Being causal, they need nothing of what follows
them, so the reference computes only these; the program under test runs its full shape, with every
other target ignored."""


class TrainStep(Step):
    """Forward, backward and AdamW on one batch of random tokens, the same at each step.

    One batch again and again makes the loss fall fast, so an optimizer that does nothing, or the
    wrong thing, shows in the losses of the parity check.
    """

    marks = ("step",)
    trains = True

    def __init__(
        self,
        model: TrainedLlama,
        tokens_BL: Tensor,
        device: Device,
        weights: Source,
        settings: AdamWSettings = PLAIN,
        accumulate: int = 1,
    ) -> None:
        """tokens_BL: the whole batch on the CPU, one token longer than the sequence.

        weights: those that the model begins with. accumulate: parts of the batch that pass one
        after another before the optimizer moves.
        """
        self.settings, self.accumulate = settings, accumulate
        self.module = self.model = model
        self.device, self.weights, self.all_tokens_BL = device, weights, tokens_BL
        batch, length = tokens_BL.shape[0], tokens_BL.shape[1] - 1
        rows = batch // device.ranks
        mine = slice(device.rank * rows, (device.rank + 1) * rows)
        targets_BL = tokens_BL[:, 1:]
        self.judged_rows = sorted({0, batch - 1})
        judged_BL = torch.full_like(targets_BL, IGNORED)
        span = min(PARITY_SPAN, length)
        at = _spread(span, PARITY_TOKENS // len(self.judged_rows))
        for row in self.judged_rows:
            judged_BL[row, at] = targets_BL[row, at]
        judged = len(self.judged_rows) * len(at)
        self.judged_ids_RL = tokens_BL[self.judged_rows, :span]
        self.judged_targets_RL = judged_BL[self.judged_rows, :span]

        def here(values: Tensor) -> Tensor:
            return values.contiguous().to(device.torch_device)

        self.tokens_BL = here(tokens_BL[mine, :-1])
        self.targets_BL, self.judged_BL = here(targets_BL[mine]), here(judged_BL[mine])
        self.batch = (self.tokens_BL, self.targets_BL, self.judged_BL)
        # Gradients are averaged over ranks, and ranks may hold different numbers of targets: each
        # divides by the targets of all and counts for as many ranks as there are.
        self.scale = here(torch.tensor(device.ranks / (batch * length)))
        self.judged_scale = here(torch.tensor(device.ranks / judged))
        self.optimizer = adamw((p for _, p in self.trained()), settings)
        # On the device, or a compiler that traces the step would find another constant each time.
        self.taken = here(torch.zeros(()))
        if settings.schedule != "constant" or settings.warmup:
            (group,) = self.optimizer.param_groups
            group["lr"] = here(torch.tensor(settings.rate(1)))
        self.losses: list[Tensor] = []
        """Loss of each pass, on the device; of this rank's share, times the ranks."""

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Name and parameter of what the optimizer moves; all others are frozen."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def frozen(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if not p.requires_grad]

    def plain_weights(self, get: Get) -> Get:
        """The weights of a plain Llama that computes the same, from this model's own."""
        return get

    def own_gradients(
        self, get: Get, named: Iterator[tuple[str, Tensor]], place: Place
    ) -> Iterator[tuple[str, Tensor]]:
        """Gradients of what is trained here, from those of ``plain_weights``; "loss" as it is."""
        del get, place
        return named

    def routing(self) -> Tensor | None:
        """Experts that each token of the batch took when gradients were last computed, of all ranks
        together, [B, L, layers with experts, k] on the CPU; None where there are no experts."""
        return None

    def own_rows(self, values: Tensor | None) -> Tensor | None:
        """Of what is known of the whole batch, this rank's share."""
        rows = len(self.tokens_BL)
        first = self.device.rank * rows
        return None if values is None else values[first : first + rows]

    def mixing(
        self,
        routing: Tensor | None,
        targets_BL: Tensor,
        device: str,
        rows: Sequence[int] | None = None,
    ) -> Mixing | None:
        """What a reference on ``device`` has to know of experts, for these sequences of the batch
        (None: the first ones); None where there are none."""
        del routing, targets_BL, device, rows
        return None

    def splits(self) -> list[tuple[Tensor, int]]:
        """The batch, by sequences; the weights are spread by ``Device.shard``."""
        return [(self.tokens_BL, 0), (self.targets_BL, 0), (self.judged_BL, 0)]

    def run(self, mark: Mark) -> None:
        loss = self.loss_and_gradients(self.targets_BL, self.scale)
        self.losses.append(loss)
        self.update()
        mark(loss)

    def loss_and_gradients(self, targets_BL: Tensor, scale: Tensor) -> Tensor:
        """Loss of this rank's share, times the ranks; gradients are left in the parameters.

        Of a batch in n parts, part i is every nth sequence from i on: a batch that one process has
        spread over its devices is then spread in each part too.
        """
        losses = []
        for part in range(self.accumulate):
            rows = slice(part, None, self.accumulate)
            loss = self.summed_loss(self.tokens_BL[rows], targets_BL[rows]) * scale
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach().clone())  # the next replay writes into its own
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def summed_loss(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Sum of the losses of one part, as the model gives it."""
        loss: Tensor = self.model(tokens_BL, targets_BL)
        return loss

    def update(self) -> None:
        """One step of the optimizer; no gradient is left."""
        if self.settings.clip is not None:
            self.clip(self.settings.clip)
        rate = self.optimizer.param_groups[0]["lr"]
        if isinstance(rate, Tensor):
            self.set_rate(rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def clip(self, most: float) -> None:
        """Scale all gradients together so that their norm is at most this."""
        nn.utils.clip_grad_norm_([parameter for _, parameter in self.trained()], most)

    def set_rate(self, rate: Tensor) -> None:
        """Count a step, and put its learning rate in ``rate``, a scalar on the device."""
        self.taken += 1
        rate.copy_(scheduled(self.settings, self.taken))

    def start_again(self) -> None:
        """Weights and optimizer as they were before the first step, in place."""
        where = self.device.torch_device
        for name, parameter in self.trained():
            place_values(parameter, whole(self.weights, name, held=FLOAT32, device=where))
        with torch.no_grad():
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
        self.taken.zero_()
        self.losses = []
        self.barrier()


def _spread(span: int, most: int) -> Tensor:
    """At most so many of the first ``span`` places, evenly spaced, the last of them included."""
    count = min(span, most)
    return (torch.arange(1, count + 1) * span) // count - 1


def scheduled(settings: AdamWSettings, taken: Tensor) -> Tensor:
    """Learning rate of the step with this number, computed on its device: a float32 scalar."""
    rate = torch.full_like(taken, settings.lr)
    if settings.warmup:
        rate = rate * (taken / settings.warmup).clamp(max=1.0)
    if settings.schedule == "cosine":
        done = ((taken - settings.warmup) / DECAY_STEPS).clamp(0.0, 1.0)
        rate = rate * (LEAST + (1 - LEAST) / 2 * (1 + torch.cos(math.pi * done)))
    return rate


def adamw(parameters: Iterable[nn.Parameter], settings: AdamWSettings) -> torch.optim.AdamW:
    """torch's AdamW in the form that suits the device.

    One fused kernel where torch has it; elsewhere with its step count on the device, so that a
    compiler that traces the step finds no constant that changes from one step to the next.
    """
    weights = list(parameters)
    where = weights[0].device.type
    return torch.optim.AdamW(
        weights,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=where in {"cpu", "cuda"},
        capturable=where not in {"cpu", "cuda", "meta"},
    )


def build(case: Case, config: LlamaConfig, device: Device) -> TrainStep:
    """Model, optimizer and batch of ``case`` on ``device``: seeded random weights and tokens.

    Each decoder layer is created, filled and, with many chips, sharded before the next one is.
    """
    tokens_BL = drawn_tokens(case, config, device)
    with torch.device("meta"):
        model = plain_model(case, config)
    weights = Drawn(config, case.number("seed"), device.torch_device)
    fill(model, weights, device)
    accumulate = case.number("accumulate")
    return TrainStep(model, tokens_BL, device, weights, settings_of(case), accumulate)


def fill(model: TrainedLlama, weights: Source, device: Device) -> None:
    """Give a model on the meta device its memory and weights, its layers one after another."""
    where = device.torch_device
    for unit, prefix in [*((b, f"blocks.{i}.") for i, b in enumerate(model.blocks)), (model, "")]:
        materialise(unit, where)
        if unit is model:
            model.tie()
        for name, parameter in own_parameters(unit):
            values = whole(weights, prefix + name, held=FLOAT32, device=where)
            place_values(parameter, values)
        if device.shard is not None:
            device.shard(unit)
    model.place_tables(torch.device(where))


def drawn_tokens(case: Case, config: LlamaConfig, device: Device) -> Tensor:
    """The whole batch, one token longer than the sequence, on the CPU.

    UsageError when it does not divide among the ranks, and each share into its parts.
    """
    batch, length = case.number("batch"), case.number("seq_len")
    parts = case.number("accumulate")
    if batch % (device.ranks * parts):
        inside = "" if parts == 1 else f" in {parts} parts each"
        raise UsageError(f"batch={batch} does not divide among {device.ranks} ranks{inside}")
    generator = torch.Generator().manual_seed(case.number("seed"))
    return torch.randint(0, config.vocab, (batch, length + 1), generator=generator)


def plain_model(case: Case, config: LlamaConfig) -> TrainedLlama:
    return TrainedLlama(
        config,
        case.number("seq_len"),
        getattr(torch, case.dtype),
        recompute=case.params["recompute"] == "full",
    )


def materialise(unit: nn.Module, device: str) -> None:
    """Uninitialised memory on ``device`` for the parameters of ``unit`` that have none."""
    for module in unit.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device=device)
                setattr(module, name, nn.Parameter(empty, parameter.requires_grad))


@torch.no_grad()
def place_values(parameter: nn.Parameter, values: Tensor) -> None:
    """Copy whole values into a parameter; each rank its part, where it is sharded."""
    if not hasattr(parameter, "full_tensor"):
        parameter.copy_(values.to(parameter.device))
        return
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    values = values.to(parameter.to_local().device)
    mesh, placements = parameter.device_mesh, parameter.placements
    parameter.copy_(distribute_tensor(values, mesh, placements, src_data_rank=None))


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor; all ranks together, where it is sharded."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def own_parameters(unit: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of a layer, or of the model without its layers."""
    return (
        (name, parameter)
        for name, parameter in unit.named_parameters()
        if not name.startswith("blocks.")
    )


def count(case: Case, config: LlamaConfig) -> Mapping[str, int]:
    """FLOPs and bytes of one step, counted on meta tensors; nothing is allocated.

    torch counts attention as if it were not causal. Bytes: see ``train_bytes``.
    """
    with torch.device("meta"):
        return count_of(plain_model(case, config), case)


def count_of(model: TrainedLlama, case: Case) -> Mapping[str, int]:
    """The same of a model on the meta device."""
    with torch.device("meta"):
        tokens_BL = torch.empty(case.number("batch"), case.number("seq_len"), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss = loss_of(model(tokens_BL, tokens_BL))
        loss.backward()  # type: ignore[no-untyped-call]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adamw(trained, AdamWSettings())
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    weights = sum(p.nbytes for p in trained)
    optimizer.step()
    moments = sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim
    )
    tokens = tokens_BL.numel() // case.number("accumulate")
    read = sum(p.numel() for p in model.parameters()) - model.config.unread_params(tokens)
    if not model.config.tied:
        read -= model.embedding.weight.numel()  # looked up, not read
    return {
        "flops": counter.get_total_flops(),
        "bytes": 2 * read * model.dtype.itemsize + 2 * (gradients + weights + moments),
    }

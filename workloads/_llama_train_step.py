"""The timed program of ``llama-pretrain``: a model, an optimizer, a batch and one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Step, UsageError
from tpubench.workloads._llama_config import LlamaConfig
from tpubench.workloads._llama_train import IGNORED, TrainedLlama
from tpubench.workloads._llama_train_reference import AdamWSettings, train

PARITY_STEPS = 3
"""Losses compared with the reference; the optimizer has run between them."""
PARITY_TOKENS = 64
"""Tokens of the first sequence that carry a loss in the parity check. Being causal, they need
nothing of what follows them, so the reference computes only these; the program under test runs
its full shape, with every other target ignored."""
SAMPLES = 4096
"""Elements of each weight's gradient that are compared, evenly spaced."""


class TrainStep(Step):
    """Forward, backward and AdamW on one batch of random tokens, the same at each step.

    One batch again and again makes the loss fall fast, so an optimizer that does nothing, or the
    wrong thing, shows in the losses of the parity check.
    """

    marks = ("step",)
    trains = True

    def __init__(self, model: TrainedLlama, tokens_BL: Tensor, device: Device, seed: int) -> None:
        """tokens_BL: the whole batch on the CPU, one token longer than the sequence."""
        self.module = self.model = model
        self.device, self.seed = device, seed
        batch, length = tokens_BL.shape[0], tokens_BL.shape[1] - 1
        rows = batch // device.ranks
        mine = slice(device.rank * rows, (device.rank + 1) * rows)
        targets_BL = tokens_BL[:, 1:]
        judged = min(PARITY_TOKENS, length)
        judged_BL = torch.full_like(targets_BL, IGNORED)
        judged_BL[0, :judged] = targets_BL[0, :judged]
        self.judged_tokens_L = tokens_BL[0, : judged + 1]

        def here(values: Tensor) -> Tensor:
            return values.contiguous().to(device.torch_device)

        self.tokens_BL = here(tokens_BL[mine, :-1])
        self.targets_BL, self.judged_BL = here(targets_BL[mine]), here(judged_BL[mine])
        self.batch = (self.tokens_BL, self.targets_BL, self.judged_BL)
        # Gradients are averaged over ranks, and ranks may hold different numbers of targets: each
        # divides by the targets of all and counts for as many ranks as there are.
        self.scale = here(torch.tensor(device.ranks / (batch * length)))
        self.judged_scale = here(torch.tensor(device.ranks / judged))
        self.optimizer = adamw(model.parameters(), AdamWSettings())
        self.loss: Tensor | None = None
        """Loss of the last step, on the device; of this rank's share, times the ranks."""

    def splits(self) -> list[tuple[Tensor, int]]:
        """The batch, by sequences; the weights are spread by ``Device.shard``."""
        return [(self.tokens_BL, 0), (self.targets_BL, 0), (self.judged_BL, 0)]

    def run(self, mark: Mark) -> None:
        self.loss = self._loss_and_gradients(self.targets_BL, self.scale)
        self._update()
        mark(self.loss)

    def _loss_and_gradients(self, targets_BL: Tensor, scale: Tensor) -> Tensor:
        loss: Tensor = self.model(self.tokens_BL, targets_BL) * scale
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().clone()  # the next replay writes into its own

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def probe(self) -> Tensor:
        """From the initial weights: losses, then gradient samples: [1 + pieces, SAMPLES].

        Row 0 begins with the PARITY_STEPS losses; each further row is one weight matrix or norm
        of the first decoder layer, its gradient in the first step.
        """
        self._start_again()
        losses, rows = [], []
        for step in range(PARITY_STEPS):
            losses.append(self._loss_and_gradients(self.judged_BL, self.judged_scale))
            if step == 0:
                first = self.model.blocks[0].named_parameters()
                gradients = ((name, _gradient(parameter)) for name, parameter in first)
                pieces = _pieces(self.model.config, gradients)
                rows = [_sample(piece).clone() for piece in pieces]  # overwritten by the next step
            self._update()
            self.barrier()
        loss_S = torch.stack(losses)
        if self.device.ranks > 1:
            torch.distributed.all_reduce(loss_S)
            loss_S /= self.device.ranks
        host = [tensor.to("cpu", torch.float32) for tensor in (loss_S, *rows)]
        return _table(host)

    def reference(self) -> Tensor:
        """The same in float32 on the CPU from the model's initial weights."""
        config, tokens_L = self.model.config, self.judged_tokens_L
        layers = [_on_host(block.named_parameters()) for block in self.model.blocks]
        losses, gradients = train(
            config,
            layers,
            _on_host(_own_parameters(self.model)),
            tokens_L[:-1],
            tokens_L[1:],
            steps=PARITY_STEPS,
            settings=AdamWSettings(),
        )
        return _table([losses, *(_sample(p) for p in _pieces(config, gradients.items()))])

    def _start_again(self) -> None:
        """Weights and optimizer as they were before the first step, in place."""
        normals = Normals(self.seed)
        for unit in (*self.model.blocks, self.model):
            initialise(unit, normals)
        with torch.no_grad():
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
        self.barrier()


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
    batch, length = case.number("batch"), case.number("seq_len")
    if batch % device.ranks:
        raise UsageError(f"batch={batch} does not divide among {device.ranks} ranks")
    with torch.device("meta"):
        model = _model(case, config)
    seed = case.number("seed")
    normals = Normals(seed)
    for unit in (*model.blocks, model):
        materialise(unit, device.torch_device)
        if unit is model:
            model.tie()
        initialise(unit, normals)
        if device.shard is not None:
            device.shard(unit)
    model.place_tables(torch.device(device.torch_device))
    generator = torch.Generator().manual_seed(seed)
    tokens_BL = torch.randint(0, config.vocab, (batch, length + 1), generator=generator)
    return TrainStep(model, tokens_BL, device, seed)


def _model(case: Case, config: LlamaConfig) -> TrainedLlama:
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
                setattr(module, name, nn.Parameter(torch.empty_like(parameter, device=device)))


class Normals:
    """An endless stream of N(0, 0.02²) values: the same on every device and for any sharding.

    Drawn on the CPU, because not every device draws the same values again from the same seed. It
    repeats itself after PERIOD values, a prime, so that no two rows of a matrix are alike: drawing
    each value of 8 billion would take minutes.
    """

    PERIOD = 4_194_301

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(self.PERIOD, generator=generator) * 0.02
        self.taken = 0

    def take(self, shape: torch.Size) -> Tensor:
        """The next values, on the CPU."""
        start, n = self.taken % self.PERIOD, shape.numel()
        self.taken += n
        return self.table.repeat(-(-(start + n) // self.PERIOD))[start : start + n].view(shape)


def initialise(unit: nn.Module, normals: Normals) -> None:
    """Random weights in place, norms at one; not those of ``unit``'s own decoder layers."""
    with torch.no_grad():
        for name, parameter in _own_parameters(unit):
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.copy_(_placed_as(parameter, normals.take(parameter.shape)))


def _placed_as(parameter: Tensor, values: Tensor) -> Tensor:
    """``values`` on the device of ``parameter``; sharded as it is, when it is."""
    if not hasattr(parameter, "full_tensor"):
        return values.to(parameter.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    values = values.to(parameter.to_local().device)
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(values, mesh, placements, src_data_rank=None)


def _own_parameters(unit: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return (
        (name, parameter)
        for name, parameter in unit.named_parameters()
        if not name.startswith("blocks.")
    )


def _gradient(parameter: nn.Parameter) -> Tensor:
    # A weight that the loss never reached has no gradient: a wrong one, not an error.
    return _whole(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _on_host(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """Float32 copies on the CPU, which may be changed."""
    return {
        name: _whole(parameter.detach()).to("cpu", torch.float32, copy=True)
        for name, parameter in named
    }


def _pieces(config: LlamaConfig, named: Iterable[tuple[str, Tensor]]) -> Iterator[Tensor]:
    """Query, key, value, gate and up apart: one would hide the errors of another."""
    q, k = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for name, tensor in named:
        if name.startswith("attention.qkv."):
            yield from torch.split(tensor, [q, k, k])
        elif name.startswith("ffn.gate_up."):
            yield from torch.split(tensor, config.d_ffn)
        else:
            yield tensor


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES]


def _table(rows: list[Tensor]) -> Tensor:
    padded = [nn.functional.pad(row, (0, SAMPLES - len(row))) for row in rows]
    return torch.stack(padded)


def count(case: Case, config: LlamaConfig) -> Mapping[str, int]:
    """FLOPs and bytes of one step, counted on meta tensors; nothing is allocated.

    torch counts attention as if it were not causal. Bytes: see ``train_bytes``.
    """
    with torch.device("meta"):
        model = _model(case, config)
        tokens_BL = torch.empty(case.number("batch"), case.number("seq_len"), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss: Tensor = model(tokens_BL, tokens_BL)
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer = adamw(model.parameters(), AdamWSettings())
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    weights = sum(p.nbytes for p in model.parameters())
    optimizer.step()
    moments = sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim
    )
    read = sum(p.numel() for p in model.parameters())
    if not config.tied:
        read -= model.embedding.weight.numel()  # looked up, not read
    return {
        "flops": counter.get_total_flops(),
        "bytes": 2 * read * model.dtype.itemsize + 2 * (gradients + weights + moments),
    }

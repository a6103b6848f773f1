"""The timed program of ``moe-pretrain``: the step of ``llama-pretrain``, noting its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Device
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.weights import Drawn
from tpubench.workloads.llama_pretrain.reference import settings_of
from tpubench.workloads.llama_pretrain.step import TrainStep, count_of, drawn_tokens, fill
from tpubench.workloads.moe_pretrain.balance import UNBALANCED, Balance
from tpubench.workloads.moe_pretrain.model import TrainedMoe
from tpubench.workloads.moe_pretrain.reference import Routed


class MoeStep(TrainStep):
    """Forward, backward and AdamW; which experts each token took is kept beside the losses."""

    model: TrainedMoe

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]
        self.routes: list[Tensor] = []
        """Of each part of the batch that passed, on the device: [B, L, M, k]."""

    def loss_and_gradients(self, targets_BL: Tensor, scale: Tensor) -> Tensor:
        self.routes = []
        return super().loss_and_gradients(targets_BL, scale)

    def summed_loss(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        loss, routing = self.model(tokens_BL, targets_BL)
        self.routes.append(routing.detach().clone())  # the next replay writes into its own
        return loss  # type: ignore[no-any-return]

    def routing(self) -> Tensor:
        parts = torch.stack(self.routes, dim=1)  # part i is every nth sequence from i on
        own = parts.flatten(0, 1)
        if self.device.ranks > 1:
            every = [torch.empty_like(own) for _ in range(self.device.ranks)]
            torch.distributed.all_gather(every, own.contiguous())
            own = torch.cat(every)
        return own.cpu()

    def mixing(
        self,
        routing: Tensor | None,
        targets_BL: Tensor,
        device: str,
        rows: Sequence[int] | None = None,
    ) -> Routed:
        assert routing is not None
        share = len(self.tokens_BL)
        parts = [
            number // share * self.accumulate + number % share % self.accumulate
            for number in (range(len(routing)) if rows is None else rows)
        ]
        return Routed(self.model.config, self.model.balance, routing, targets_BL, parts, device)


def build(case: Case, config: LlamaConfig, device: Device) -> MoeStep:
    """Model, optimizer and batch of ``case`` on ``device``, all from its seed."""
    tokens_BL = drawn_tokens(case, config, device)
    with torch.device("meta"):
        model = plain_model(case, config)
    weights = Drawn(config, case.number("seed"), device.torch_device)
    fill(model, weights, device)
    accumulate = case.number("accumulate")
    return MoeStep(model, tokens_BL, device, weights, settings_of(case), accumulate)


def plain_model(case: Case, config: LlamaConfig) -> TrainedMoe:
    """The model of ``case``, to be made on the meta device."""
    return TrainedMoe(
        config,
        case.number("seq_len"),
        getattr(torch, case.dtype),
        recompute=case.params["recompute"] == "full",
        balance=balance_of(case),
    )


def balance_of(case: Case) -> Balance:
    """The auxiliary loss that a case asks for."""
    kind = str(case.params["balance"])
    if kind == "none":
        return UNBALANCED
    return Balance(kind=kind, weight=float(str(case.params["balance_weight"])))


def count(case: Case, config: LlamaConfig) -> Mapping[str, int]:
    """FLOPs and bytes of one step, counted on meta tensors; attention as if not causal."""
    with torch.device("meta"):
        return count_of(plain_model(case, config), case)

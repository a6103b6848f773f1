"""Faults that a program training adapters can have, put into one on purpose.

As ``llama_train_defects.py`` has them for a program that trains all of a model; those of its
defects that need no trained base are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import llama_train_defects as full
import torch
from llama_defects import around
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama_lora.model import Adapted
from tpubench.workloads.llama_pretrain.step import TrainStep

_KEPT = (
    "missing layer",
    "last layer missing",
    "missing layer when deep",
    "rope backwards",
    "not causal",
    "norm eps wrong",
    "loss not shifted",
    "last target left out",
    "loss of the first sequence alone",
    "stale loss",
    "detached layer",
    "gradients clipped",
    "gradients accumulate",
    "gradients accumulate in the window",
    "idle optimizer",
    "idle optimizer in the window",
    "no learning rate in the window",
    "hasty optimizer",
    "forgetful optimizer",
    "moments lost",
    "no weight decay",
)


def case(depth: int, width: int, *, tied: bool = False, **settings: int | str) -> Case:
    """``llama-lora`` of a model with so many layers."""
    return full.case(depth, width, tied=tied, name="llama-lora", **settings)


def adapted(step: TrainStep, kind: type[Adapted] = Adapted) -> list[Adapted]:
    return [module for module in step.model.modules() if isinstance(module, kind)]


def adapters_left_out(step: TrainStep) -> None:
    """The frozen model alone; adapters get no gradient."""
    for module in adapted(step):
        module.scale = 0.0


def adapter_left_out_when_deep(step: TrainStep) -> None:
    if step.model.config.n_layers > 4:
        adapted(step)[len(adapted(step)) // 2].scale = 0.0


def scale_is_alpha(step: TrainStep) -> None:
    """Not divided by the rank."""
    for module in adapted(step):
        module.scale *= module.rank


def scale_of_twice_the_rank(step: TrainStep) -> None:
    for module in adapted(step):
        module.scale /= 2


def adapters_of_gate_and_up_swapped(step: TrainStep) -> None:
    for block in full.blocks(step):
        around(block.ffn.gate_up, "forward", partial(_swapped, block.ffn.gate_up))


def _swapped(module: Any, plain: Callable[..., Tensor], x: Tensor) -> Tensor:
    base = torch.nn.functional.linear(x, module.weight.to(x.dtype))
    gate, up = (plain(x) - base).chunk(2, dim=-1)
    return base + torch.cat((up, gate), dim=-1)


def one_adapter_for_query_key_and_value(step: TrainStep) -> None:
    """All three take the A of the query."""
    for block in full.blocks(step):
        module: Any = block.attention.qkv

        def forward(plain: Callable[..., Tensor], x: Tensor, module: Any = module) -> Tensor:
            own, first = module.a, module.a[: module.rank].repeat(3, 1)
            del module._parameters["a"]
            module.a = first
            y = plain(x)
            del module.a
            module.a = own
            return y

        around(module, "forward", forward)


def b_alone_is_trained(step: TrainStep) -> None:
    """A gets no gradient, as in a variant that freezes it (LoRA-FA)."""
    for module in adapted(step):
        full.on_gradient(module.a, torch.zeros_like)


def base_moves_in_the_window(step: TrainStep) -> None:
    """One projection of it, by a hundredth a pass."""
    module = adapted(step)[0]

    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        with torch.no_grad():
            module.weight.mul_(0.99)

    around(step, "run", run)


def no_gradient_through_the_base(step: TrainStep) -> None:
    """What comes back from a layer is what went through its adapters alone."""

    def forward(module: Adapted, plain: Callable[..., Tensor], x: Tensor) -> Tensor:
        base = torch.nn.functional.linear(x, module.weight.to(x.dtype))
        return plain(x) - base + base.detach()

    for module in adapted(step):
        around(module, "forward", partial(forward, module))


def adapters_kept_in_bfloat16(step: TrainStep) -> None:
    def update(plain: Callable[[], None]) -> None:
        plain()
        with torch.no_grad():
            for _, parameter in step.trained():
                parameter.copy_(parameter.bfloat16())

    around(step, "update", update)


def alpha_left_out(step: TrainStep) -> None:
    """The scale is one over the rank."""
    for module in adapted(step):
        module.scale = 1 / module.rank


def half_of_the_rank_unused(step: TrainStep) -> None:
    """As of adapters that were made for half of it."""
    for module in adapted(step):
        keep = (torch.arange(module.rank) < module.rank // 2).float()
        around(
            module,
            "forward",
            lambda plain, x, m=module, keep=keep: _with_b(m, plain, x, keep * m.b),
        )


def _with_b(module: Any, plain: Callable[..., Tensor], x: Tensor, b: Tensor) -> Tensor:
    own = module.b
    del module._parameters["b"]
    module.b = b
    y = plain(x)
    del module.b
    module.b = own
    return y


def merged_in_bfloat16(step: TrainStep) -> None:
    """Adapters are added to the weights, and the sum is rounded: what they add is hardly there."""

    def forward(module: Any, plain: Callable[..., Tensor], x: Tensor) -> Tensor:
        pairs = zip(
            torch.split(module.a, module.rank), torch.split(module.b, module.parts), strict=True
        )
        added = module.scale * torch.cat([b @ a for a, b in pairs])
        merged = (module.weight + added).bfloat16()
        return torch.nn.functional.linear(x, merged.to(x.dtype))

    for module in adapted(step):
        around(module, "forward", partial(forward, module))


def b_learns_faster(step: TrainStep) -> None:
    """Sixteen times, as a variant has it (LoRA+)."""
    (group,) = step.optimizer.param_groups
    bs = [module.b for module in adapted(step)]
    group["params"] = [p for p in group["params"] if all(p is not b for b in bs)]
    step.optimizer.add_param_group({**group, "params": bs, "lr": 16 * group["lr"]})


_OWN = (
    alpha_left_out,
    half_of_the_rank_unused,
    merged_in_bfloat16,
    b_learns_faster,
    adapters_left_out,
    adapter_left_out_when_deep,
    scale_is_alpha,
    scale_of_twice_the_rank,
    adapters_of_gate_and_up_swapped,
    one_adapter_for_query_key_and_value,
    b_alone_is_trained,
    base_moves_in_the_window,
    no_gradient_through_the_base,
    adapters_kept_in_bfloat16,
)
DEFECTS: dict[str, Callable[[TrainStep], None]] = {
    **{name: full.DEFECTS[name] for name in _KEPT},
    **{defect.__name__.replace("_", " "): defect for defect in _OWN},
}

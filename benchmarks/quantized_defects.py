"""Faults of projections that are held in one byte a value, put into a generating program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import llama_defects
import torch
from llama_defects import Defect, around, blocks
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama.quantized import QuantizedLinear
from tpubench.workloads.llama.step import LlamaStep

KINDS = ("fp8", "int8")


def case(kind: str) -> Callable[..., Case]:
    """Cases of ``llama-infer`` in this precision."""
    return partial(llama_defects.case, dtype=kind)


def projections(step: LlamaStep) -> list[QuantizedLinear]:
    return [m for block in blocks(step) for m in block.modules() if isinstance(m, QuantizedLinear)]


def one_scale_off(step: LlamaStep) -> None:
    """By a tenth."""
    projections(step)[5].scale.data *= 1.1


def one_scale_left_out(step: LlamaStep) -> None:
    projections(step)[5].scale.data.fill_(1.0)


def scales_of_the_next_row(step: LlamaStep) -> None:
    for module in projections(step):
        module.scale.data = module.scale.roll(1)


def scales_in_bfloat16(step: LlamaStep) -> None:
    for module in projections(step):
        module.scale.data = module.scale.bfloat16().float()


def noisy_scales(step: LlamaStep) -> None:
    """Off by a fiftieth at random."""
    add_noise(step, 0.02)


def add_noise(step: LlamaStep, share: float) -> None:
    """Every scale is off by so much of itself at random."""
    generator = torch.Generator().manual_seed(0)
    for module in projections(step):
        noise = torch.randn(module.scale.shape, generator=generator)
        module.scale.data *= 1 + share * noise


def largest_clipped(step: LlamaStep) -> None:
    """Values beyond half of a row's range are saturated."""
    for module in projections(step):
        wide = module.weight.float()
        limit = 0.5 * wide.abs().amax(dim=1, keepdim=True)
        module.weight.data = wide.clamp(-limit, limit).to(module.weight.dtype)


def one_scale_for_all_rows(step: LlamaStep) -> None:
    """The largest of a whole projection: small rows keep few bits."""
    for module in projections(step):
        narrow = module.weight.dtype
        wide = module.weight.float() * module.scale.unsqueeze(1)
        most = 448.0 if narrow.is_floating_point else 127.0
        scale = wide.abs().amax() / most
        scaled = wide / scale
        scaled = scaled if narrow.is_floating_point else scaled.round()
        module.weight.data = scaled.to(narrow)
        module.scale.data = torch.full_like(module.scale, float(scale))


def activations_with_two_bits(step: LlamaStep) -> None:
    """e5m2 where e4m3 was meant, or where nothing was to be rounded."""
    for module in projections(step):
        around(module, "forward", lambda plain, x: plain(x.to(torch.float8_e5m2).to(x.dtype)))


def bias_of_rounding(step: LlamaStep) -> None:
    """int8 rounded towards zero, fp8 likewise: every value is a little too small."""

    def towards_zero(weight: Tensor) -> Tensor:
        return weight - weight.sign() * (weight.abs() > 1)

    for module in projections(step):
        narrow = module.weight.dtype
        module.weight.data = towards_zero(module.weight.float()).to(narrow)


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        one_scale_off,
        one_scale_left_out,
        scales_of_the_next_row,
        scales_in_bfloat16,
        noisy_scales,
        largest_clipped,
        one_scale_for_all_rows,
        activations_with_two_bits,
        bias_of_rounding,
    )
}

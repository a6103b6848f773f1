"""``dtype=int8`` and ``dtype=fp8``: what is held, what is computed, and who notices a fault.

torch's own scaled product, which a GPU runs, and its product with int8 weights are the independent
ones here: neither is what the module computes on a CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import case, none, outcome
from quantized_defects import DEFECTS, add_noise

from tpubench.suite import registry
from tpubench.suite.backends._cpu_compile import PackedInt8, pack_linears
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Device
from tpubench.workloads.llama import ranks
from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.quantized import (
    Held,
    QuantizedLinear,
    dequantized,
    quantize,
    row_scales,
)
from tpubench.workloads.llama.step import LlamaStep
from tpubench.workloads.llama.weights import Drawn, fill

KINDS = ["int8", "fp8"]
SIZES = {"batch": 3, "input_len": 16, "output_len": 8}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(kind: str, weight_RD: Tensor, *, dtype: torch.dtype) -> QuantizedLinear:
    module = QuantizedLinear(weight_RD.shape[1], len(weight_RD), bias=False, dtype=dtype, kind=kind)
    scale_R = row_scales(weight_RD, kind)
    module.scale.data = scale_R
    module.weight.data = quantize(weight_RD, scale_R, kind)
    return module


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("int8", 127), ("fp8", 8)],  # half a step of the largest; e4m3 has eight between powers of two
)
def test_a_weight_is_off_by_half_a_step_at_most(kind: str, steps: int) -> None:
    weight_RD = normal(64, 256) * torch.logspace(-3, 3, 64).unsqueeze(1)
    error = (dequantized(weight_RD, kind) - weight_RD).abs()
    largest = weight_RD.abs().amax(dim=1, keepdim=True)
    near = largest if kind == "int8" else weight_RD.abs().clamp_min(1e-4 * largest)
    assert bool((error <= 0.5001 * near / steps).all())
    assert dequantized(torch.zeros(2, 4), kind).abs().max() == 0


def test_fp8_is_the_product_that_torch_makes_of_fp8_operands() -> None:
    weight_RD, x_MD = normal(48, 64).bfloat16(), (3 * normal(5, 64, seed=1)).bfloat16()
    module = linear("fp8", weight_RD, dtype=torch.bfloat16)
    token_scale = x_MD.float().abs().amax(dim=1, keepdim=True) / 448
    one = torch.ones(())  # torch 2.11 takes no more than one scale for each operand on a CPU
    theirs = torch._scaled_mm(
        (x_MD.float() / token_scale).to(torch.float8_e4m3fn),
        module.weight.t(),
        scale_a=one,
        scale_b=one,
        out_dtype=torch.float32,
    )
    theirs = (theirs * token_scale * module.scale).bfloat16()
    torch.testing.assert_close(module(x_MD), theirs, rtol=2e-2, atol=1e-2)
    exact = x_MD.double() @ weight_RD.double().T
    assert 0.01 < (module(x_MD).double() - exact).norm() / exact.norm() < 0.06


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_int8_is_the_same_packed_for_a_cpu_and_as_written(rows: int, dtype: torch.dtype) -> None:
    weight_RD, x_MD = normal(48, 64).to(dtype), normal(rows, 64, seed=1).to(dtype)
    module = torch.nn.Sequential(linear("int8", weight_RD, dtype=dtype))
    expected = x_MD.double() @ dequantized(weight_RD, "int8").double().T
    written = module(x_MD)
    pack_linears(module)
    assert isinstance(module[0], PackedInt8)
    for y in (written, module(x_MD)):
        error = (y.double() - expected).norm() / expected.norm()
        assert error < (1e-6 if dtype is torch.float32 else 5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_a_case_are_those_of_its_tensors(kind: str) -> None:
    workload = registry.workload("llama-infer")
    (one, *_) = workload.cases("llama-3.1-8b", {"batch": ["2"], "dtype": [kind]})
    (plain, *_) = workload.cases("llama-3.1-8b", {"batch": ["2"]})
    with torch.device("meta"):
        held, wide = (
            sum(p.nbytes for p in Llama(PRESETS["llama-3.1-8b"], 8, torch.bfloat16, q).parameters())
            for q in (kind, None)
        )
    needed = [getattr(workload, "memory_bytes")(c) for c in (one, plain)]  # noqa: B009
    assert needed[1] - needed[0] == wide - held
    assert 0.56 < held / wide < 0.58, "6.98 of 8.03 B parameters in one byte"
    saved = [workload.work(c).phases["prefill"].bytes for c in (plain, one)]
    assert saved[0] - saved[1] == wide - held
    counted = workload.count(one)  # type: ignore[attr-defined]
    assert counted["prefill_bytes"] == workload.work(one).phases["prefill"].bytes


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_hold_exactly_the_values_of_one(kind: str) -> None:
    config = PRESETS["tiny"]
    whole = Llama(config, 8, torch.bfloat16, kind)
    fill(whole, Drawn(config, 0))
    parts = [
        ranks.build(
            config,
            8,
            Held(dtype=torch.bfloat16, quantized=kind),
            Device(torch_device="cpu", rank=rank, ranks=2),
            Drawn(config, 0),
        )
        for rank in range(2)
    ]
    down = [part.blocks[1].ffn.down.part for part in parts]
    together = torch.cat([d.weight.float() for d in down], dim=1)
    assert torch.equal(whole.blocks[1].ffn.down.weight.float(), together)
    for d in down:
        assert torch.equal(d.scale, whole.blocks[1].ffn.down.scale)
    queries = config.n_heads * config.head_dim
    mine = torch.cat([part.blocks[0].attention.qkv.scale[: queries // 2] for part in parts])
    assert torch.equal(mine, whole.blocks[0].attention.qkv.scale[:queries])


def judged(
    kind: str, defect: Callable[[LlamaStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    small_case = case(6, 64, dtype=kind, **SIZES)
    return {p.name: p for p in outcome(registry.workload("llama-infer"), small_case, defect, cache)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_correct_program_passes_and_says_what_quantising_cost(
    kind: str, cache: ReferenceCache
) -> None:
    checks = judged(kind, none, cache)
    for check in checks.values():
        assert check.ok, check.fault()
    top1, kl = checks["top1_vs_bfloat16"], checks["kl_vs_bfloat16"]
    assert not top1.judges and not kl.judges
    assert 0.7 < top1.error <= 1 and 0 < kl.error < (1e-3 if kind == "int8" else 3e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_wrong_scale_or_weight_is_caught(kind: str, name: str, cache: ReferenceCache) -> None:
    assert not judged(kind, DEFECTS[name], cache)["float32 twin"].ok


@pytest.mark.parametrize("kind", KINDS)
def test_figures_against_bfloat16_move_with_what_is_lost(kind: str, cache: ReferenceCache) -> None:
    """Scales off by more and more: the next token's probabilities move further away each time, and
    fewer tokens are those that bfloat16 would have chosen."""
    seen = []
    for share in (0.0, 0.05, 0.2, 0.8):
        checks = judged(kind, partial(add_noise, share=share), cache)
        seen.append((checks["kl_vs_bfloat16"].error, checks["top1_vs_bfloat16"].error))
    divergence, agreement = zip(*seen, strict=True)
    assert all(after > 2 * before for before, after in pairwise(divergence))
    assert agreement[0] > agreement[2] > agreement[3] and agreement[3] < 0.5

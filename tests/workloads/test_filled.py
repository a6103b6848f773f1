"""Attention over the filled blocks alone: its logits are the masked attention's, one program serves
every step, and, compiled for the CPU as a GPU's mode compiles it, nothing else is read.

What is traced and not compiled computes every score, and is quick; what is compiled is nightly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import case, outcome

from tpubench.suite import registry
from tpubench.suite.backends import _dynamo
from tpubench.suite.backends.cpu import Cpu, has_compiler
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Device, Weights
from tpubench.workloads.llama import model
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.filled import Filled, attend, filled, slots_read
from tpubench.workloads.llama.observed import poison
from tpubench.workloads.llama.step import LlamaStep

PROMPT, OUTPUT = 124, 12
"""A pass that goes from one block of 128 slots into the next, where its cache ends."""


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    _dynamo.forget()
    yield
    _dynamo.forget()


def steps(dtype: str, batch: int, group: int) -> list[LlamaStep]:
    """The same program twice, with ``group`` query heads a key/value head."""
    config = LlamaConfig(
        d_model=64,
        n_layers=2,
        n_heads=2 * group,
        n_kv_heads=2,
        head_dim=16,
        d_ffn=96,
        vocab=256,
        tied=False,
        rope_theta=10_000.0,
    )
    workload = registry.workload("llama-infer")
    settings = {"batch": batch, "input_len": PROMPT, "output_len": OUTPUT, "dtype": dtype}
    texts = {name: [str(value)] for name, value in settings.items()}
    (tiny,) = workload.cases("tiny", texts)
    tiny = replace(workload.prepare(tiny, Weights()), shape=config.to_json())
    built = [workload.build(tiny, Device(torch_device="cpu"), Weights()) for _ in range(2)]
    return [step for step in built if isinstance(step, LlamaStep)]


def traced(step: LlamaStep) -> None:
    """As the mode does, but for the code that is made of it."""
    step.static_shapes = step.reads_filled = True
    assert step.module is not None
    _dynamo.compile_parts(step.module, backend="eager")


def by_inductor(step: LlamaStep) -> None:
    Cpu().compile(step, "flex")


def agrees(dtype: str, batch: int, group: int, prepare: Callable[[LlamaStep], None]) -> None:
    """Every step's logits, over filled blocks, against those of the program as written."""
    compiled, plain = steps(dtype, batch, group)
    prepare(compiled)
    assert compiled.reads_filled
    plain.static_shapes = True  # the masked attention over the whole cache
    generator = torch.Generator().manual_seed(1)
    given = torch.randint(0, 256, (OUTPUT - 1, batch, 1), generator=generator)
    programs = []
    allowed = {"float32": 1e-5, "bfloat16": 0.02}[dtype]
    with torch.no_grad():
        close(compiled.prefill(), plain.prefill(), allowed)
        for index, tokens_B1 in enumerate(given):
            close(compiled.decode(tokens_B1, index), plain.decode(tokens_B1, index), allowed)
            programs.append(_dynamo.graphs())
    assert set(programs) == {programs[0]}, "a step was compiled again"
    assert _dynamo.graph_breaks() == 0


def close(actual: Tensor, expected: Tensor, allowed: float) -> None:
    error = (actual.float() - expected.float()).norm() / expected.float().norm()
    assert float(error) <= allowed


@pytest.mark.parametrize(
    ("dtype", "batch", "group"), [("float32", 3, 3), ("bfloat16", 1, 4), ("float32", 1, 1)]
)
def test_every_step_gives_the_logits_of_the_masked_attention_by_one_program(
    dtype: str, batch: int, group: int
) -> None:
    agrees(dtype, batch, group, traced)


@pytest.mark.nightly
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("group", [1, 3, 4, 8])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_so_it_does_once_compiled(dtype: str, batch: int, group: int) -> None:
    agrees(dtype, batch, group, by_inductor)


@pytest.fixture(scope="module")
def compiled_attend() -> Callable[..., Tensor]:
    return torch.compile(attend, fullgraph=True, dynamic=False)


@pytest.mark.nightly
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("capacity", [300, 40], ids=["blocks of 128", "blocks of 16"])
def test_what_is_read_is_what_the_closed_form_says(
    capacity: int, compiled_attend: Callable[..., Tensor]
) -> None:
    """A value that is no number shows in the output exactly if its slot was read."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 16, generator=generator) for n in (4, capacity, capacity))

    def reads(slot: int, position: int) -> bool:
        spoilt = v.index_fill(2, torch.tensor([slot]), float("nan"))
        y = compiled_attend(q, k, spoilt, filled(torch.tensor([position]), capacity))
        return bool(y.isnan().any())

    for position in (0, 15, 16, capacity // 2, capacity - 1):
        slots = sum(reads(slot, position) for slot in range(capacity))
        assert slots == slots_read(position, capacity)
        assert position < slots <= capacity


@pytest.mark.nightly
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_nothing_behind_the_newest_token_matters() -> None:
    """Beyond the filled blocks nothing is read at all; within the last one the mask holds."""
    step, _ = steps("float32", batch=2, group=4)
    by_inductor(step)
    token_B1 = torch.full((2, 1), 7)
    with torch.no_grad():
        step.prefill()
        expected = step.decode(token_B1, 0).clone()
        poison(step.cache, PROMPT + 1)
        assert slots_read(PROMPT, step.cache.capacity) == 128 < step.cache.capacity
        for buffer in step.cache.buffers():
            buffer[:, :, 128:] = float("nan")
        torch.testing.assert_close(step.decode(token_B1, 0), expected, rtol=0, atol=0)


def one_block_fewer(position_1: Tensor, capacity: int) -> Filled:
    right = filled(position_1, capacity)
    return right._replace(blocks=right.blocks - 1)


@pytest.mark.nightly
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("correct", [True, False], ids=["correct", "one block fewer"])
def test_the_checks_tell_whether_every_filled_block_is_read(
    correct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not correct:
        monkeypatch.setattr(model, "filled", one_block_fewer)
    asked = case(2, 128, dtype="bfloat16", batch=2, input_len=PROMPT, output_len=OUTPUT)
    workload = registry.workload("llama-infer")
    checks = outcome(workload, asked, by_inductor, ReferenceCache(tmp_path))
    assert {check.name: check.ok for check in checks}["float32 twin"] == correct
    assert all(check.ok for check in checks) == correct

"""The programs that are exported compute what the workload computes, also laid out for chips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from tpubench.suite import registry  # noqa: E402
from tpubench.suite.workload import UsageError  # noqa: E402
from tpubench.workloads.llama import program  # noqa: E402
from tpubench.workloads.llama.config import PRESETS  # noqa: E402
from tpubench.workloads.llama.model import Llama  # noqa: E402
from tpubench.workloads.llama.quantized import FLOAT32  # noqa: E402
from tpubench.workloads.llama.weights import Drawn, fill  # noqa: E402


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sharded_rows(fused: torch.Tensor, parts: list[int], shards: int) -> torch.Tensor:
    """Rows of a fused projection, part after part, laid out shard after shard."""
    pieces = [part.chunk(shards) for part in fused.split(parts)]
    return torch.cat([piece[shard] for shard in range(shards) for piece in pieces])


@pytest.mark.parametrize("length", [6, 1])
def test_the_layout_for_chips_computes_the_same(one_thread: None, length: int) -> None:
    config, shards = PRESETS["tiny"], 2
    plain = program.Greedy(config, 2, 16, FLOAT32).eval()
    fill(plain.model, Drawn(config, 0))
    plain.model.embedding.weight.data.normal_(0, 1)
    laid = program.Greedy(config, 2, 16, FLOAT32).eval()
    laid.load_state_dict(plain.state_dict())
    split = program._spread(laid, shards)
    heads = [config.n_heads * config.head_dim, *[config.n_kv_heads * config.head_dim] * 2]
    for block in laid.model.blocks:
        block.attention.qkv.weight.data = sharded_rows(
            block.attention.qkv.weight.data, heads, shards
        )
        block.ffn.gate_up.weight.data = sharded_rows(
            block.ffn.gate_up.weight.data, [config.d_ffn] * 2, shards
        )
    tokens = torch.randint(0, config.vocab, (2, length))
    positions = torch.arange(length)
    with torch.no_grad():
        expected = Llama.forward(plain.model, tokens, positions, plain.cache, length)
        logits = Llama.forward(laid.model, tokens, positions, laid.cache, length)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    names = {name for name, _ in [*laid.named_parameters(), *laid.named_buffers()]}
    assert {name for name in split if name not in names} <= {
        "model.head.weight",  # tied
        *(f"model.blocks.{i}.attention.qkv.bias" for i in range(config.n_layers)),
    }


def test_a_shape_that_does_not_divide_is_an_error() -> None:
    workload = registry.workload("llama-infer")
    (case, *_) = workload.cases("tiny", {})
    with pytest.raises(UsageError, match="does not divide among 3 chips"):
        workload.program(case, "decode", depth=1, chips=3)


def test_more_chips_than_key_value_heads_hold_each_head_several_times() -> None:
    workload = registry.workload("llama-infer")
    (case, *_) = workload.cases("tiny", {"batch": ["2"]})
    program = workload.program(case, "decode", depth=1, chips=4)
    caches = dict(program.module.named_buffers())
    assert caches["cache.layers.0.keys"].shape[1] == 4  # the model has two
    assert all(tensor.device.type == "meta" for tensor in caches.values())


def test_workloads_without_layers_offer_their_programs_too() -> None:
    for name in ("gemm", "hbm"):
        workload = registry.workload(name)
        for case in workload.cases(next(iter(workload.presets)), {})[:3]:
            (phase,) = workload.phases(case)
            program = workload.program(case, phase, depth=1, chips=1)
            assert program.module(*program.inputs).device.type == "meta"

"""What ranks hold together is the model, once; what they make of it adds up to what one makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tpubench.errors import UsageError
from tpubench.suite.workload import Device
from tpubench.workloads.llama import config as dense
from tpubench.workloads.llama import experts_config, ranks
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.division import by_columns, by_rows
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.weights import Drawn, fill

CONFIGS = {
    "llama": dense.PRESETS["tiny"],
    **{name: experts_config.PRESETS[name] for name in ("tiny", "tiny-latent", "tiny-grouped")},
}


def parts_of(config: LlamaConfig, size: int) -> tuple[Llama, list[Llama]]:
    """The whole model, and what each of so many ranks holds of it."""
    stored = Drawn(config, 3)
    whole = Llama(config, 8, torch.float32)
    fill(whole, stored)
    devices = [Device(torch_device="cpu", rank=rank, ranks=size) for rank in range(size)]
    return whole, [ranks.build(config, 8, FLOAT32, device, stored) for device in devices]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_value_of_a_weight_is_on_one_rank_or_on_all(name: str) -> None:
    config = CONFIGS[name]
    whole, parts = parts_of(config, 2)
    held = [
        {key.replace("part.", "").replace("linear.", ""): p for key, p in part.named_parameters()}
        for part in parts
    ]
    table = whole.embedding.weight
    for key, weight in {"head.weight": table, **dict(whole.named_parameters())}.items():
        mine = [part[key] for part in held]
        divided = key == "head.weight" or _divided(key, config)
        if divided:
            together = torch.cat([part.flatten() for part in mine])
            assert torch.equal(_sorted(together), _sorted(weight)), key
            assert all(2 * part.numel() == weight.numel() for part in mine), key
        else:
            assert all(torch.equal(part, weight) for part in mine), key


def _divided(key: str, config: LlamaConfig) -> bool:
    if not key.startswith("blocks."):
        return False
    _, layer, rest = key.split(".", 2)
    projection = rest.rpartition(".")[0]
    return projection in {**by_rows(config, int(layer)), **by_columns(config, int(layer))}


def _sorted(values: Tensor) -> Tensor:
    return values.flatten().sort().values


@pytest.mark.parametrize(
    ("name", "size"), [("tiny", 2), ("tiny-latent", 2), ("tiny-latent", 4), ("tiny-grouped", 4)]
)
def test_parts_of_a_mixture_add_up(name: str, size: int) -> None:
    whole, parts = parts_of(CONFIGS[name], size)
    x_BLD, positions_L = torch.randn(2, 5, 64), torch.arange(5)
    layer = whole.blocks[1].ffn
    k = layer.experts.top_k
    records = [torch.zeros(2, 1, 5, k, dtype=torch.int32) for _ in range(size + 1)]
    with torch.no_grad():
        expected = layer(x_BLD, records[0], positions_L)
        made = [
            part.blocks[1].ffn.part(x_BLD, record, positions_L)
            for part, record in zip(parts, records[1:], strict=True)
        ]
    torch.testing.assert_close(sum(made), expected, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(record, records[0]) for record in records), "all route alike"
    assert (made[0] - made[1]).norm() > 0.1 * expected.norm(), "each makes a part of its own"


def test_an_expert_that_does_not_divide_is_named() -> None:
    # 16 heads and 10,944 features of the dense layer do, 1,408 of an expert do not.
    config = replace(experts_config.PRESETS["deepseek-moe-16b"], vocab=102400 * 3, n_heads=48)
    config = replace(config, n_kv_heads=48)
    with pytest.raises(UsageError, match="1408 features of an expert do not divide among 48 chips"):
        ranks.share(config, 48)

"""Group-limited routing: what transformers' DeepSeek-V3 computes, and no fault that goes unseen."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from their_experts import CONFIG, SIZES_OF_LATENT, Theirs
from tiny_checkpoints import greedy, random_model, reference_greedy
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from grouped_defects import DEFECTS, case
from llama_defects import none, outcome

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case
from tpubench.workloads.llama import experts as forms
from tpubench.workloads.llama.config import Experts, Latent, LlamaConfig
from tpubench.workloads.llama.experts import gates
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama.experts_reference import mixture
from tpubench.workloads.llama.model import KVCache
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place, Task, force
from tpubench.workloads.llama.step import LlamaStep

EXPERTS = Experts(
    routed=16, top_k=4, d_ffn=40, shared=2, dense_layers=1, scoring="sigmoid", groups=4,
    top_groups=2, scale=2.5,
)  # fmt: skip
GROUPED = replace(
    CONFIG,
    n_kv_heads=4,
    norm_eps=1e-6,
    experts=EXPERTS,
    latent=Latent(kv_rank=24, rope_dim=8, q_rank=32),
)
SIZES = {"batch": 3, "input_len": 16, "output_len": 8}
DEPTH, WIDTH = 6, 64


def theirs() -> Any:
    """A small DeepSeek-V3, whose corrections are not nothing."""
    sizes = {k: v for k, v in SIZES_OF_LATENT.items() if k != "topk_method"}
    model = random_model(
        **{
            **sizes, "kind": "DeepseekV3", "n_routed_experts": 16, "num_experts_per_tok": 4,
            "norm_topk_prob": True, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5,
            "q_lora_rank": 32,
        }
    )  # fmt: skip
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(0.0, 0.15)
    return model


@pytest.mark.parametrize("form", ["blocks", "every expert"])
def test_a_model_computes_what_transformers_does(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "product_form", lambda *_: form)
    model = theirs()
    prompt = torch.randint(0, 257, (60,), generator=torch.manual_seed(1)).tolist()
    expected_tokens, expected = reference_greedy(model, prompt, 16)
    tokens, logits = greedy(Theirs(GROUPED, model).model(), prompt, 16)
    assert tokens == expected_tokens
    assert ((logits - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-4


def test_its_tokens_take_the_experts_that_transformers_chooses() -> None:
    model, chosen = theirs(), []
    gate = model.model.layers[1].mlp.gate
    gate.register_forward_hook(lambda module, given, answer: chosen.append(answer[2]))
    ids = torch.randint(0, 257, (1, 60), generator=torch.manual_seed(1))
    cache = KVCache(GROUPED, 1, 60, torch.float32)
    with torch.no_grad():
        model(ids)
        Theirs(GROUPED, model).model()(ids, torch.arange(60), cache, 60)
    (taken,) = cache.records()
    right = chosen[0].sort(dim=1).values
    assert taken[0, 0].long().sort(dim=1).values.equal(right)
    assert len(right.unique()) > 8, "not the same few for all tokens"
    correction = gate.e_score_correction_bias
    plain, _ = gates(EXPERTS, torch.rand(60, 16), correction)
    assert plain.sum(dim=1).allclose(torch.full((60,), 2.5))


def test_the_reference_computes_what_transformers_does() -> None:
    model = theirs()
    prompt = torch.randint(0, 257, (60,), generator=torch.manual_seed(1))
    tokens, expected = reference_greedy(model, prompt.tolist(), 10)
    ids = torch.cat([prompt, torch.tensor(tokens)]).unsqueeze(0)
    task = Task(ids=ids, dtype=torch.float32, keep=range(59, 69))
    (ours,) = force(Theirs(GROUPED, model), [task], judged_from=60, held=FLOAT32, place=Place())
    error = (ours.logits[0] - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-4
    assert ours.routing.max() == 0, "it takes the best experts"


def regret_of(wanted: list[float], chosen: list[int]) -> float:
    """Of one token whose experts, four groups of two, are wanted so much, without the division."""
    experts = Experts(
        routed=8, top_k=2, d_ffn=2, scoring="sigmoid", groups=4, top_groups=2, normalised=True
    )
    wanted_E = torch.tensor(wanted)
    layer: dict[str, Tensor] = {
        "ffn.router.weight": torch.zeros(8, 3),
        "ffn.correction.weight": wanted_E - 0.5,
        "ffn.gate_up.weight": torch.ones(32, 3),
        "ffn.down.weight": torch.ones(24, 2),
    }
    _, regret_T = mixture(experts, layer, torch.ones(1, 3), torch.tensor([chosen]))
    return float(regret_T) * float(wanted_E.std())


def test_a_route_is_judged_by_its_experts_and_by_its_groups() -> None:
    # Pairs of 1.0, 0.9, 0.8 and 0.1: the first two groups count, though 0.75 stands in the third.
    wanted = [0.6, 0.4, 0.5, 0.4, 0.75, 0.05, 0.05, 0.05]
    assert regret_of(wanted, [0, 2]) == pytest.approx(0.0, abs=1e-6)
    assert regret_of(wanted, [0, 1]) == pytest.approx(0.1, abs=1e-6), "0.4 for 0.5"
    assert regret_of(wanted, [4, 0]) == pytest.approx(0.1, abs=1e-6), "0.8 for 0.9"
    assert regret_of(wanted, [6, 0]) == pytest.approx(0.8 + 0.35, abs=1e-6)


def test_a_route_over_too_many_groups_is_wrong_whatever_it_is_worth() -> None:
    experts = replace(EXPERTS, shared=0, top_k=3)
    layer = {
        "ffn.router.weight": torch.randn(16, 3),
        "ffn.correction.weight": torch.zeros(16),
        "ffn.gate_up.weight": torch.randn(16 * 80, 3),
        "ffn.down.weight": torch.randn(16 * 3, 40),
    }
    _, regret_T = mixture(experts, layer, torch.ones(1, 3), torch.tensor([[0, 4, 8]]))
    assert math.isinf(float(regret_T))


def test_its_shape_is_kept_as_json_and_others_are_as_they_were() -> None:
    for name, config in PRESETS.items():
        assert LlamaConfig.from_json(config.to_json()) == config
        grouped = name in {"deepseek-v3", "tiny-grouped"}
        assert ("scoring" in config.to_json()["experts"]) == grouped


def test_the_published_number_of_parameters_and_what_a_token_caches() -> None:
    config = PRESETS["deepseek-v3"]
    assert config.n_params / 1e9 == pytest.approx(671.0, abs=0.1)
    assert config.used_params / 1e9 == pytest.approx(37.0, abs=1.0)
    assert config.kv_bytes_per_token(2) == 61 * (512 + 64) * 2


def test_it_is_not_trained_here() -> None:
    """What moves a correction is no gradient."""
    assert {"deepseek-v3", "tiny-grouped"}.isdisjoint(registry.workload("moe-pretrain").presets)


def judged(
    asked: Case, defect: Callable[[LlamaStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("moe-infer"), asked, defect, cache)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_correct_program_passes(dtype: str, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, dtype=dtype, **SIZES), none, cache)
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 1e-5


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), DEFECTS[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    assert "float32 twin" in caught
    if name not in {"bias in the gates too", "gates not normalised", "gates not scaled"}:
        assert {"routing", "worst route"} & caught, "the route itself is wrong"

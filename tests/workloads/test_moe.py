"""A mixture of experts computes what transformers computes, loses no token, and says what it reads.

Whole models are held to transformers' Mixtral and Qwen3-MoE, DeepSeek's mixture to its module; the
reference to a loop over single tokens.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from their_experts import MODELS, Theirs
from tiny_checkpoints import greedy, random_model, reference_greedy
from torch import Tensor
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Config, DeepseekV2Moe

from tpubench.suite import registry
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama import experts
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.llama.experts import Mixture
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama.experts_reference import mixture
from tpubench.workloads.llama.model import FeedForward
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place, Task, force
from tpubench.workloads.moe import MoeInfer

FORMS = ("blocks", "every expert")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(experts, "product_form", lambda *_: request.param)
    return str(request.param)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_what_transformers_does(name: str, form: str) -> None:
    config, changes = MODELS[name]
    theirs = random_model(**changes)
    prompt = torch.randint(0, 257, (60,), generator=torch.manual_seed(1)).tolist()
    expected_tokens, expected = reference_greedy(theirs, prompt, 16)
    tokens, logits = greedy(Theirs(config, theirs).model(), prompt, 16)
    assert tokens == expected_tokens
    assert ((logits - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_the_reference_computes_what_transformers_does(name: str) -> None:
    config, changes = MODELS[name]
    theirs = random_model(**changes)
    prompt = torch.randint(0, 257, (60,), generator=torch.manual_seed(1))
    tokens, expected = reference_greedy(theirs, prompt.tolist(), 10)
    ids = torch.cat([prompt, torch.tensor(tokens)]).unsqueeze(0)
    task = Task(ids=ids, dtype=torch.float32, keep=range(59, 69))
    weights = Theirs(config, theirs)
    (ours,) = force(weights, [task], judged_from=60, held=FLOAT32, place=Place())
    error = (ours.logits[0] - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-4
    assert ours.routing.shape == (1, 70, sum(map(config.has_experts, range(2))))
    assert ours.routing.max() == 0, "it takes the best experts"


DEEPSEEK = Experts(routed=8, top_k=3, d_ffn=24, shared=2, normalised=False)


def test_routed_and_shared_experts_are_those_of_deepseek(form: str) -> None:
    config = DeepseekV2Config(
        hidden_size=64, moe_intermediate_size=24, n_routed_experts=8, n_shared_experts=2,
        num_experts_per_tok=3, topk_method="greedy", routed_scaling_factor=1.0,
        norm_topk_prob=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = DeepseekV2Moe(config).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.15)
    state = theirs.state_dict()
    shared = [state[f"shared_experts.{name}_proj.weight"] for name in ("gate", "up")]
    ours = filled(
        DEEPSEEK,
        {
            "router.weight": state["gate.weight"],
            "gate_up.weight": state["experts.gate_up_proj"].flatten(0, 1),
            "down.weight": state["experts.down_proj"].flatten(0, 1),
            "shared.gate_up.weight": torch.cat(shared),
            "shared.down.weight": state["shared_experts.down_proj.weight"],
        },
    )
    x_BLD = torch.randn(2, 30, 64)
    with torch.no_grad():
        expected = theirs(x_BLD)
        y_BLD = ours(x_BLD, torch.zeros(2, 1, 30, 3, dtype=torch.int32), torch.arange(30))
        said, _ = mixture(DEEPSEEK, named(ours), x_BLD.view(60, 64), None)
    torch.testing.assert_close(y_BLD, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(said.view(2, 30, 64), expected, rtol=1e-4, atol=1e-5)


def filled(experts: Experts, weights: dict[str, Tensor] | None = None) -> Mixture:
    """A mixture of width 64; random where no weights are given."""
    shared = FeedForward(64, experts.shared * experts.d_ffn, FLOAT32) if experts.shared else None
    layer = Mixture(64, experts, torch.float32, shared)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.15)
    if weights is not None:
        layer.load_state_dict(weights)
    return layer.requires_grad_(False)


def named(layer: Mixture) -> dict[str, Tensor]:
    return {f"ffn.{name}": value for name, value in layer.state_dict().items()}


def one_by_one(layer: Mixture, x_TD: Tensor, chosen_Tk: Tensor) -> Tensor:
    """Each token by itself, by each of the experts that it is given."""
    experts, outputs = layer.experts, []
    gate_up = layer.gate_up.weight.view(experts.routed, 2 * experts.d_ffn, 64)
    down = layer.down.weight.view(experts.routed, 64, experts.d_ffn)
    for x, chosen in zip(x_TD, chosen_Tk.tolist(), strict=True):
        scores = [float(layer.router.weight[e] @ x) for e in range(experts.routed)]
        shares = torch.tensor(scores).softmax(0)
        total = sum(shares[e] for e in chosen) if experts.normalised else 1.0
        y = torch.zeros(64)
        for e in chosen:
            gate, up = gate_up[e][: experts.d_ffn] @ x, gate_up[e][experts.d_ffn :] @ x
            y += shares[e] / total * (down[e] @ (gate * torch.sigmoid(gate) * up))
        outputs.append(y)
    together = torch.stack(outputs)
    return together + layer.shared(x_TD) if layer.shared is not None else together


@pytest.mark.parametrize("experts", [Experts(routed=8, top_k=3, d_ffn=24), DEEPSEEK])
def test_the_reference_is_a_loop_over_single_tokens(experts: Experts) -> None:
    torch.manual_seed(0)
    layer, x_TD = filled(experts), torch.randn(20, 64)
    _, best = layer.route(x_TD)
    for chosen_Tk, right in ((best, True), ((best + 1) % 8, False)):
        y_TD, regret_T = mixture(experts, named(layer), x_TD, chosen_Tk)
        torch.testing.assert_close(y_TD, one_by_one(layer, x_TD, chosen_Tk), rtol=1e-4, atol=1e-5)
        assert bool((regret_T.abs() < 1e-5).all()) == right
    twice = torch.tensor([[1, 1, 2], [1, 2, 9]])
    assert mixture(experts, named(layer), x_TD[:2], twice)[1].isinf().all()


ROUTINGS = {
    "even": lambda T: torch.stack([torch.arange(T) % 8, (torch.arange(T) + 3) % 8], dim=1),
    "all to two experts": lambda T: torch.tensor([[0, 7]]).expand(T, 2),
    "all but one to the last": lambda T: torch.tensor([[0, 1]] + [[6, 7]] * (T - 1)),
    "random": lambda T: torch.rand(T, 8, generator=torch.manual_seed(T)).topk(2).indices,
}  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 700])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_no_token_is_lost_whatever_the_routing(routing: str, tokens: int, form: str) -> None:
    torch.manual_seed(0)
    layer, x_TD = filled(Experts(routed=8, top_k=2, d_ffn=24)), torch.randn(tokens, 64)
    chosen_Tk = ROUTINGS[routing](tokens)
    gate_Tk = torch.ones(tokens, 2)
    expected = torch.zeros(tokens, 64)
    for row in sorted({*range(min(20, tokens)), tokens - 1}):
        for e in chosen_Tk[row].tolist():
            gate, up = (layer.gate_up.each()[e].T @ x_TD[row]).chunk(2)
            expected[row] += layer.down.each()[e].T @ (torch.nn.functional.silu(gate) * up)
    y_TD = layer.mixed(x_TD, gate_Tk, chosen_Tk)
    seen = expected.any(dim=1)
    torch.testing.assert_close(y_TD[seen], expected[seen], rtol=1e-4, atol=1e-5)
    assert y_TD.any(dim=1).all()


def test_the_grouped_kernel_agrees_with_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its half-precision sums are rounded once: the same products in either form."""
    torch.manual_seed(0)
    layer = filled(Experts(routed=8, top_k=2, d_ffn=24)).bfloat16()
    x_TD = torch.randn(40, 64).bfloat16()
    gate_Tk, chosen_Tk = layer.route(x_TD)
    results = {}
    for name in ("grouped", "blocks", "every expert"):
        monkeypatch.setattr(experts, "product_form", lambda *_, name=name: name)
        results[name] = layer.mixed(x_TD, gate_Tk.bfloat16(), chosen_Tk).float()
    for other in ("blocks", "every expert"):
        error = (results[other] - results["grouped"]).norm() / results["grouped"].norm()
        assert error < 5e-3


def test_the_form_suits_the_device() -> None:
    few, many = torch.empty(8, 64), torch.empty(600, 64)
    assert experts.product_form(few.bfloat16(), 16, 8) == "grouped"
    assert experts.product_form(few, 16, 8) == "blocks"
    elsewhere = cast(Any, type("Elsewhere", (), {"is_cuda": False, "dtype": torch.bfloat16}))
    for x, assignments, n_experts, expected in (
        (few, 16, 8, "every expert"),
        (few[:1], 2, 8, "blocks"),
        (many, 1200, 8, "blocks"),
    ):
        there = elsewhere()
        there.device, there.shape = torch.device("xla"), x.shape
        assert experts.product_form(there, assignments, n_experts) == expected


PUBLISHED = {
    "mixtral-8x7b": (46.7, 12.9),
    "qwen3-30b-a3b": (30.5, 3.3),
    "deepseek-moe-16b": (16.4, 2.8),
    "deepseek-v2-lite": (15.7, 2.4),
}
"""Billions of parameters, all and active, of the model cards: the card's active ones of DeepSeek
and Qwen3 count neither or one of embedding and head, so they are held to within 0.4."""


@pytest.mark.parametrize(("preset", "billions"), PUBLISHED.items())
def test_presets_have_the_published_number_of_parameters(
    preset: str, billions: tuple[float, float]
) -> None:
    config = PRESETS[preset]
    assert config.n_params / 1e9 == pytest.approx(billions[0], abs=0.05)
    assert config.used_params / 1e9 == pytest.approx(billions[1], abs=0.4)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("batch", [1, 8])
def test_counted_on_meta_equals_the_closed_form(preset: str, batch: int) -> None:
    workload = registry.workload("moe-infer")
    assert isinstance(workload, MoeInfer)
    length, output = 64, 32
    settings = {"batch": [str(batch)], "input_len": ["64"], "output_len": ["32"]}
    (case,) = workload.cases(preset, settings)
    config, counted = PRESETS[preset], workload.count(case)
    closed = {
        "prefill_flops": arithmetic.prefill_flops(config, batch, length, causal=False),
        "prefill_bytes": arithmetic.prefill_bytes(config, batch, length, 2),
        "decode_flops": arithmetic.decode_flops(config, batch, length + output),
        "decode_bytes": arithmetic.decode_bytes(config, batch, length + output, 2),
    }
    for name, value in closed.items():
        assert counted[name] == pytest.approx(value, rel=0.001), name


@pytest.mark.parametrize("tokens", [1, 4, 32])
def test_the_experts_that_are_read_are_those_that_a_draw_touches(tokens: int) -> None:
    decoder = PRESETS["qwen3-30b-a3b"].decoder
    generator = torch.manual_seed(0)
    drawn = torch.rand(300, tokens, decoder.experts, generator=generator).topk(8).indices
    distinct = sum(len(one.unique()) for one in drawn) / len(drawn)
    touched = decoder.experts * decoder.experts_touched(tokens)
    assert touched == pytest.approx(distinct, rel=0.02)

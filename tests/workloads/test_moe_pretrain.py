"""Training steps of mixtures of experts: losses and gradients as in transformers, work as counted.

Whole models are held to transformers' Mixtral and Qwen3-MoE, their auxiliary loss included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from their_experts import MODELS, Theirs
from tiny_checkpoints import random_model
from torch import Tensor
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Config, DeepseekV2Moe

from tpubench.devices import prices
from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite import run as suite_run
from tpubench.suite.request import Request
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama import experts
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama_pretrain.model import IGNORED
from tpubench.workloads.llama_pretrain.reference import AdamWSettings
from tpubench.workloads.moe_pretrain import MoePretrain
from tpubench.workloads.moe_pretrain.balance import UNBALANCED, Balance
from tpubench.workloads.moe_pretrain.model import TrainedMixture, TrainedMoe
from tpubench.workloads.moe_pretrain.program import keep_shapes
from tpubench.workloads.moe_pretrain.step import MoeStep

POOLED = Balance(kind="pooled", weight=0.1)


def workload() -> MoePretrain:
    standard = registry.workload("moe-pretrain")
    assert isinstance(standard, MoePretrain)
    return standard


def case(preset: str = "tiny", **overrides: object) -> Case:
    texts = {key: [str(value)] for key, value in overrides.items()}
    (only,) = workload().cases(preset, texts)
    return workload().prepare(only, Weights())


def built(asked: Case) -> MoeStep:
    step = workload().build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, MoeStep)
    return step


def step_of(weights: Theirs, tokens_BL: Tensor, balance: Balance, accumulate: int = 1) -> MoeStep:
    """A float32 step that begins with these weights."""
    config = weights.config
    model = TrainedMoe(
        config, tokens_BL.shape[1] - 1, torch.float32, recompute=False, balance=balance
    )
    model.load_state_dict({name: value.clone() for name, value in weights.weights.items()})
    return MoeStep(model, tokens_BL, Device(torch_device="cpu"), weights, accumulate=accumulate)


def their_loss(theirs: Any, tokens_BL: Tensor, balance: Balance) -> Tensor:
    said = theirs(tokens_BL[:, :-1], output_router_logits=balance.weight > 0)
    loss = F.cross_entropy(said.logits.flatten(0, 1), tokens_BL[:, 1:].flatten())
    return loss + balance.weight * said.aux_loss if balance.weight else loss


@pytest.mark.parametrize("form", ["blocks", "every expert"])
@pytest.mark.parametrize("balance", [UNBALANCED, POOLED], ids=["plain", "balanced"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_transformers(
    name: str, balance: Balance, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "product_form", lambda *_: form)
    config, changes = MODELS[name]
    theirs = random_model(**changes)
    if config.latent is not None and balance.weight:
        pytest.skip("transformers has no auxiliary loss for DeepSeek-V2")
    tokens_BL = torch.randint(0, 257, (2, 61), generator=torch.manual_seed(1))
    step = step_of(Theirs(config, theirs), tokens_BL, balance)
    s = AdamWSettings()
    optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=s.lr, betas=(s.beta1, s.beta2), eps=s.eps,
        weight_decay=s.weight_decay,
    )  # fmt: skip
    for _ in range(3):
        expected = their_loss(theirs, tokens_BL, balance)
        optimizer.zero_grad()
        expected.backward()
        loss = step.loss_and_gradients(step.targets_BL, step.scale)
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
        right = Theirs(config, theirs, gradients=True).weights
        for owner, parameter in step.model.named_parameters():
            assert parameter.grad is not None
            error = (parameter.grad - right[owner]).norm() / right[owner].norm()
            assert error < 1e-4, owner
        step.update()
        optimizer.step()


def test_a_batch_in_parts_pools_each_part_by_itself() -> None:
    config, changes = MODELS["Mixtral"]
    theirs = random_model(**changes)
    tokens_BL = torch.randint(0, 257, (4, 33), generator=torch.manual_seed(1))
    step = step_of(Theirs(config, theirs), tokens_BL, POOLED, accumulate=2)
    parts = [their_loss(theirs, tokens_BL[part::2], POOLED) for part in range(2)]
    expected = torch.stack(parts).mean()
    expected.backward()
    loss = step.loss_and_gradients(step.targets_BL, step.scale)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    right = Theirs(config, theirs, gradients=True).weights
    for name, parameter in step.model.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - right[name]).norm() < 1e-4 * right[name].norm(), name


def test_padding_counts_nowhere_as_an_attention_mask_has_it() -> None:
    config, changes = MODELS["Qwen3-MoE"]
    theirs = random_model(**changes)
    tokens_BL = torch.randint(0, 257, (2, 33), generator=torch.manual_seed(1))
    step = step_of(Theirs(config, theirs), tokens_BL, POOLED)
    targets_BL = step.targets_BL.clone()
    targets_BL[1, 20:] = IGNORED
    said = theirs(
        step.tokens_BL,
        attention_mask=(targets_BL != IGNORED).long(),
        output_router_logits=True,
    )
    right = F.cross_entropy(said.logits.flatten(0, 1), targets_BL.flatten(), ignore_index=IGNORED)
    loss = step.model(step.tokens_BL, targets_BL)[0].detach()
    counted = float((targets_BL != IGNORED).sum())
    assert float(loss) / counted == pytest.approx(
        float((right + 0.1 * said.aux_loss).detach()), rel=1e-5
    )


def test_the_balance_of_a_sequence_is_that_of_deepseeks_equations() -> None:
    """Equations 12 to 14 of DeepSeekMoE, token by token, for each sequence and layer."""
    experts, generator = Experts(routed=8, top_k=3, d_ffn=4), torch.manual_seed(0)
    share_MBLE = torch.randn(2, 3, 20, 8, generator=generator).softmax(dim=3)
    wanted = 0.0
    for share_BLE in share_MBLE:
        for share_LE in share_BLE:
            taken = [set(one.topk(3).indices.tolist()) for one in share_LE]
            for e in range(8):
                f = 8 / (3 * 20) * sum(e in each for each in taken)
                wanted += 0.01 * f * float(share_LE[:, e].mean()) / len(share_BLE)
    chosen = share_MBLE.topk(3, dim=3).indices
    taken_MBE = F.one_hot(chosen, 8).sum(dim=(2, 3)).float()
    spread = torch.stack((taken_MBE, share_MBLE.sum(dim=2)))
    loss = Balance(kind="sequence", weight=0.01).loss(experts, spread, torch.ones(3, 20))
    assert float(loss) / 60 == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("form", ["blocks", "every expert"])
def test_gradients_of_routed_and_shared_experts_are_those_of_deepseeks_module(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "product_form", lambda *_: form)
    theirs = DeepseekV2Moe(
        DeepseekV2Config(
            hidden_size=64, moe_intermediate_size=24, n_routed_experts=8, n_shared_experts=2,
            num_experts_per_tok=3, topk_method="greedy", routed_scaling_factor=1.0,
            norm_topk_prob=False,
        )
    ).float()  # fmt: skip
    generator = torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.15, generator=generator)
    asked = Experts(routed=8, top_k=3, d_ffn=24, shared=2, normalised=False)
    ours = TrainedMixture(64, asked, torch.float32)
    ours.load_state_dict(deepseek_mixture(theirs.state_dict()))
    x_BLD, incoming = torch.randn(2, 2, 30, 64, generator=generator)
    inputs = [x_BLD.clone().requires_grad_() for _ in range(2)]
    theirs(inputs[0]).backward(incoming)
    ours(inputs[1], None)[0].backward(incoming)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-4, atol=1e-5)
    right = deepseek_mixture({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, right[name], rtol=1e-4, atol=1e-5)


def deepseek_mixture(state: dict[str, Any]) -> dict[str, Tensor]:
    """Weights of its mixture by our names."""
    shared = [state[f"shared_experts.{name}_proj.weight"] for name in ("gate", "up")]
    return {
        "router.weight": state["gate.weight"],
        "gate_up.weight": state["experts.gate_up_proj"].flatten(0, 1),
        "down.weight": state["experts.down_proj"].flatten(0, 1),
        "shared.gate_up.weight": torch.cat(shared),
        "shared.down.weight": state["shared_experts.down_proj.weight"],
    }


def gradients_of(step: MoeStep) -> Tensor:
    step.loss_and_gradients(step.targets_BL, step.scale)
    return torch.cat([p.grad.flatten() for p in step.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_computing_again_and_shapes_without_a_route_change_nothing(dtype: str) -> None:
    plain = gradients_of(built(case(dtype=dtype)))
    again = gradients_of(built(case(dtype=dtype, recompute="full")))
    static = built(case(dtype=dtype))
    keep_shapes(static.model)
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for other in (again, gradients_of(static)):
        assert (other - plain).norm() < tolerance * plain.norm()


def test_the_grouped_product_serves_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its half-precision sums are rounded once: the same gradients in either form."""
    gradients = {}
    for form in ("grouped", "blocks"):
        monkeypatch.setattr(experts, "product_form", lambda *_, form=form: form)
        gradients[form] = gradients_of(built(case(dtype="bfloat16", batch=2, seq_len=48)))
    assert (gradients["grouped"] - gradients["blocks"]).norm() < 2e-2 * gradients["blocks"].norm()


@pytest.mark.parametrize("preset", registry.workload("moe-pretrain").presets)
def test_counted_on_meta_equals_the_closed_form(preset: str) -> None:
    asked = case(preset, layers=0, batch=2, seq_len=64)
    counted, config = workload().count(asked), PRESETS[preset]
    # torch counts attention as if it were not causal.
    flops = arithmetic.train_flops(config, 2, 64, causal=False)
    assert counted["flops"] == pytest.approx(flops, rel=1e-3)
    assert counted["bytes"] == pytest.approx(arithmetic.train_bytes(config, 2, 128), rel=1e-3)
    work = workload().work(asked)
    assert work.bytes == arithmetic.train_bytes(config, 2, 128)
    assert work.flops == arithmetic.train_flops(config, 2, 64)


def test_a_token_is_multiplied_by_its_own_experts_and_the_optimizer_moves_all_of_them() -> None:
    config = PRESETS["qwen3-30b-a3b"]
    tokens = 4096
    attention = 6 * config.n_layers * config.n_heads * config.head_dim * tokens
    per_token = arithmetic.train_flops(config, 1, tokens) / tokens
    active = config.active_params + config.head_params
    assert per_token == pytest.approx(6 * active + attention, rel=1e-3)
    assert active / config.n_params < 0.11
    few, many = (arithmetic.train_bytes(config, 2, n) for n in (1, 1 << 20))
    assert few > 8 * 4 * config.n_params, "the update does not ask who was used"
    unread = config.unread_params(1)
    assert many - few == pytest.approx(2 * 2 * unread, rel=1e-3)


@pytest.mark.parametrize(
    ("preset", "balance"),
    [
        ("mixtral-8x7b", ("pooled", "0.02")),
        ("qwen3-30b-a3b", ("pooled", "0.001")),
        ("deepseek-moe-16b", ("sequence", "0.001")),
    ],
)
def test_a_model_has_the_auxiliary_loss_of_its_configuration_and_a_few_layers(
    preset: str, balance: tuple[str, str]
) -> None:
    asked = case(preset)
    assert (asked.params["balance"], asked.params["balance_weight"]) == balance
    assert 40e9 < workload().memory_bytes(asked) < 70e9
    assert f"of {PRESETS[preset].n_layers} layers" in asked.preset
    assert case(preset, balance="none").params["balance"] == "none"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"balance": "even"}, "balance='even' is not one of none, pooled, sequence"),
        ({"balance_weight": "7"}, "balance_weight='7' is not one of 0.0001, 0.001, 0.01, 0.02"),
        ({"layers": 1}, "layers=1: the first layers of tiny have no experts, give at least 2"),
        ({"accumulate": 3}, "batch=2 does not divide into accumulate=3 parts"),
    ],
)
def test_contradictions_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        case(**overrides)


def test_one_process_for_all_chips_is_refused() -> None:
    device = Device(torch_device="cpu", shard=lambda unit: None)
    with pytest.raises(UsageError, match="spread over chips by a process for each"):
        workload().build(case(), device, Weights())


def test_tokens_are_priced_on_the_fake_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", '{"pass_s": [0.5]}')
    request = Request(
        workload="moe-pretrain",
        backend="fake",
        preset="tiny",
        repeats=1,
        price=prices.given(3.6),
    )
    report = suite_run.execute(suite_run.make_plan(request), tmp_path, lambda event: None)
    rows = {row.metric: row for row in report.rows}
    assert rows["train_tok_s"].value == pytest.approx(2 * 64 / 0.5, rel=1e-3)
    assert rows["usd_per_train_mtok"].value == pytest.approx(1e6 * 3.6 / 3600 / 256, rel=1e-3)

"""A correct training program passes every parity check; every defect fails one, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_checkpoints import save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import around, outcome
from llama_train_defects import case, none
from parity_defects import OPTIONS, TRAINING
from train_option_defects import case as case_with_options
from train_port_defects import DEFECTS as OF_PORTS

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads._checkpoint import read_config
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place
from tpubench.workloads.llama.weights import Stored, whole
from tpubench.workloads.llama_pretrain.parity import twin_case
from tpubench.workloads.llama_pretrain.reference import AdamWSettings, adamw, gradients
from tpubench.workloads.llama_pretrain.reference import loss as reference_loss
from tpubench.workloads.llama_pretrain.step import TrainStep

SIZES = {"batch": 2, "seq_len": 32}
DEPTH, WIDTH = 6, 64
NAMES = {"float32 twin", "gradient", "loss", "optimizer", "timed loss", "timed step"}
CAUGHT_BY = {
    "missing layer when deep": "gradient",
    "loss of the first sequence alone": "timed loss",
    "stale loss": "timed loss",
    "loss read too early": "timed loss",
    "gradient of a block zeroed": "gradient",
    "idle optimizer": "optimizer",
    "idle optimizer in the window": "optimizer",
    "gradients accumulate in the window": "timed step",
    "gradients clipped": "timed step",
    "no learning rate in the window": "timed step",
    "layer without an optimizer": "optimizer",
    "moments lost": "optimizer",
    "stale second moment": "optimizer",
    "norms without weight decay": "optimizer",
    "hasty optimizer": "optimizer",
    "forgetful optimizer": "optimizer",
    "no weight decay": "optimizer",
    "weights kept in bfloat16": "optimizer",
    "gradients of later sequences missing": "gradient",
    "gradients of later tokens missing": "gradient",
    "gradient of a sequence between missing": "timed step",
    "no gradient through later keys": "gradient",
    "padding counted": "gradient",
}


def judged(
    case: Case, defect: Callable[[TrainStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("llama-pretrain"), case, defect, cache)}


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_correct_program_passes(dtype: str, tied: bool, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, tied=tied, dtype=dtype, **SIZES), none, cache)
    assert set(checks) == NAMES
    for check in checks.values():
        assert check.ok, check.fault()


@pytest.mark.parametrize("name", TRAINING)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    long = {"batch": 4, "seq_len": 96} if name in OF_PORTS else {}
    small_case = case(DEPTH, WIDTH, dtype="bfloat16", **{**SIZES, **long})
    checks = judged(small_case, TRAINING[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    assert CAUGHT_BY.get(name, "float32 twin") in caught


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float32"},
        {"accumulate": 4},
        {"clip": "none", "schedule": "constant", "warmup": 1000, "accumulate": 1},
        {"name": "llama-lora"},
    ],
    ids=["all", "float32", "four parts", "a rate that hardly rises", "adapters"],
)
def test_clipping_schedule_and_accumulation_are_right_together(
    options: dict[str, Any], cache: ReferenceCache
) -> None:
    settings = {"dtype": "bfloat16", "batch": 4, "seq_len": 32, **options}
    case = case_with_options(DEPTH, WIDTH, **settings)
    for check in outcome(registry.workload(case.workload), case, none, cache):
        assert check.ok, check.fault()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_defect_of_an_option_is_caught(name: str, cache: ReferenceCache) -> None:
    case = case_with_options(DEPTH, WIDTH, dtype="bfloat16", batch=4, seq_len=32)
    checks = judged(case, OPTIONS[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    of_the_step = "clip" in name or "schedule" in name or "rate" in name
    assert {"float32 twin", "optimizer" if of_the_step else "float32 twin"} <= caught


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("clip", ["none", "0.1", "1.0"])
def test_three_steps_are_torchs_with_its_own_clipping_and_schedule(clip: str, parts: int) -> None:
    """The whole batch at once, torch's LinearLR then CosineAnnealingLR, and clip_grad_norm_."""
    case = case_with_options(
        2, WIDTH, dtype="float32", batch=4, seq_len=16, clip=clip, warmup=2, accumulate=parts
    )
    step, theirs = (
        registry.workload("llama-pretrain").build(case, Device(torch_device="cpu"), Weights())
        for _ in range(2)
    )
    assert isinstance(step, TrainStep) and isinstance(theirs, TrainStep)
    s = AdamWSettings()
    weights = list(theirs.model.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=s.lr, betas=(s.beta1, s.beta2), eps=s.eps, weight_decay=s.weight_decay
    )
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=1)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000, eta_min=s.lr / 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, fall], milestones=[1])
    for _ in range(4):
        step.run(lambda output=None: None)
        loss = theirs.model(theirs.tokens_BL, theirs.targets_BL) / theirs.targets_BL.numel()
        loss.backward()
        if clip != "none":
            torch.nn.utils.clip_grad_norm_(weights, float(clip))
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        assert float(step.losses[-1]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for ours, right in zip(step.model.parameters(), weights, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=2e-6)


def test_a_replay_that_overwrites_its_outputs_is_no_fault(cache: ReferenceCache) -> None:
    """As CUDA graphs do: the loss and every gradient are the same tensors at each call."""

    def replayed(step: TrainStep) -> None:
        loss = torch.zeros(())
        around(
            step.model, "forward", lambda plain, *inputs: Overwritten.apply(plain(*inputs), loss)
        )
        for parameter in step.model.parameters():
            kept = torch.zeros_like(parameter)

            def write(owner: torch.nn.Parameter, kept: Tensor = kept) -> None:
                owner.grad = kept.copy_(owner.grad)

            parameter.register_post_accumulate_grad_hook(write)

    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), replayed, cache)
    assert all(check.ok for check in checks.values())


class Overwritten(torch.autograd.Function):
    """A value, in memory that the next call writes into."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, memory: Tensor) -> Tensor:
        memory.copy_(value)
        return memory.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def test_the_check_begins_from_the_initial_weights(cache: ReferenceCache) -> None:
    workload, small_case = registry.workload("llama-pretrain"), case(DEPTH, WIDTH, **SIZES)

    def trained(step: TrainStep) -> None:
        for _ in range(5):
            step.run(lambda *_: None)

    checks = {p.name: p for p in outcome(workload, small_case, trained, cache)}
    assert all(check.ok for check in checks.values())
    assert checks["gradient"] == judged(small_case, none, cache)["gradient"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}, {"head_dim": 32}],
    ids=["plain", "tied, biases", "wide heads"],
)
def test_the_reference_computes_what_transformers_does(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = save(tmp_path, **changes)
    config = read_config(tmp_path)
    weights = Stored(config, tmp_path)
    generator = torch.Generator().manual_seed(1)
    tokens_BL = torch.randint(0, config.vocab, (2, 41), generator=generator)
    ids_BL, targets_BL = tokens_BL[:, :-1], tokens_BL[:, 1:]
    expected = F.cross_entropy(theirs(ids_BL).logits.flatten(0, 1), targets_BL.flatten())
    expected.backward()

    def get(name: str) -> Tensor:
        return whole(weights, name, held=FLOAT32, device="cpu")

    gradient_by_name = dict(
        gradients(config, get, ids_BL, targets_BL, scale=1 / 80, dtype=torch.float32, place=Place())
    )
    assert float(gradient_by_name["loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    total = reference_loss(config, get, ids_BL, targets_BL, Place())
    assert float(total) / 80 == pytest.approx(float(expected.detach()), rel=1e-5)
    layers = theirs.model.layers
    ours_and_theirs = {
        "norm.weight": theirs.model.norm.weight,
        "embedding.weight": theirs.model.embed_tokens.weight,
        "blocks.0.attention.out.weight": layers[0].self_attn.o_proj.weight,
        "blocks.1.ffn.down.weight": layers[1].mlp.down_proj.weight,
        "blocks.1.attention_norm.weight": layers[1].input_layernorm.weight,
    }
    for name, parameter in ours_and_theirs.items():
        assert (gradient_by_name[name] - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), (
            name
        )
    attention = layers[0].self_attn
    qkv = torch.cat([p.weight.grad for p in (attention.q_proj, attention.k_proj, attention.v_proj)])
    assert (gradient_by_name["blocks.0.attention.qkv.weight"] - qkv).norm() <= 1e-4 * qkv.norm()


def test_adamw_is_torchs() -> None:
    settings = AdamWSettings()
    parameter = torch.nn.Parameter(torch.randn(100, generator=torch.manual_seed(0)))
    before = parameter.detach().clone()
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    steps = list(torch.randn(4, 100) * torch.logspace(-9, 0, 100))
    for gradient in steps:
        parameter.grad = gradient
        optimizer.step()
    ours = adamw(before, steps, settings)
    torch.testing.assert_close(parameter.detach(), ours.float(), rtol=1e-6, atol=1e-7)


def test_a_batch_must_divide_among_the_ranks_of_its_twin_too() -> None:
    twin = twin_case(case(DEPTH, WIDTH, batch=12, seq_len=300), ranks=3)
    assert (twin.params["batch"], twin.params["seq_len"], twin.params["dtype"]) == (
        6,
        256,
        "float32",
    )
    step = registry.workload("llama-pretrain").build(twin, Device(torch_device="cpu"), Weights())
    assert isinstance(step, TrainStep) and step.model.config.n_layers == 4


@pytest.mark.parametrize("length", [2, 7, 31, 64, 100, 255, 256, 300])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_targets_of_the_first_and_the_last_sequence_are_judged(length: int, batch: int) -> None:
    small_case = case(1, 16, batch=batch, seq_len=length)
    step = registry.workload("llama-pretrain").build(
        small_case, Device(torch_device="cpu"), Weights()
    )
    assert isinstance(step, TrainStep)
    counted_BL = step.judged_BL >= 0
    rows = sorted({0, batch - 1})
    assert counted_BL.any(dim=1).nonzero().flatten().tolist() == rows
    span = min(length, 256)
    each = min(span, 64 // len(rows))
    assert counted_BL.sum(dim=1)[rows].tolist() == [each] * len(rows)
    assert counted_BL[rows, span - 1].all() and not counted_BL[:, span:].any()
    assert (step.judged_BL[counted_BL] == step.targets_BL[counted_BL]).all()
    assert float(step.judged_scale) == pytest.approx(1 / (each * len(rows)))

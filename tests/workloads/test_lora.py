"""Adapters on a frozen base: as in peft, counted as torch counts, checked in each run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from tiny_checkpoints import save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import none, outcome
from lora_defects import DEFECTS, case

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place
from tpubench.workloads.llama.weights import Drawn, whole
from tpubench.workloads.llama_lora import LlamaLora, arithmetic
from tpubench.workloads.llama_lora.adapters import DrawnAdapters, Lora
from tpubench.workloads.llama_lora.model import adapt
from tpubench.workloads.llama_lora.step import LoraStep
from tpubench.workloads.llama_pretrain.model import TrainedLlama
from tpubench.workloads.llama_pretrain.program import TracedLlama, TracedStep
from tpubench.workloads.llama_pretrain.reference import gradients

RANK, ALPHA = 4, 12
SIZES = {"batch": 2, "seq_len": 32}
CAUGHT_BY = {
    "missing layer when deep": "gradient",
    "adapter left out when deep": "gradient",
    "stale loss": "timed loss",
    "idle optimizer": "optimizer",
    "gradients accumulate in the window": "timed step",
    "no learning rate in the window": "timed step",
    "hasty optimizer": "optimizer",
    "no weight decay": "optimizer",
    "adapters kept in bfloat16": "optimizer",
    "base moves in the window": "frozen base",
}


def workload() -> LlamaLora:
    standard = registry.workload("llama-lora")
    assert isinstance(standard, LlamaLora)
    return standard


def built(case: Case) -> LoraStep:
    step = workload().build(case, Device(torch_device="cpu"), Weights())
    assert isinstance(step, LoraStep)
    return step


THEIRS = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "ffn.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "ffn.down": ("mlp.down_proj",),
}


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_the_loss_and_every_gradient_are_those_of_peft(tied: bool, tmp_path: Path) -> None:
    plain = save(tmp_path, tie_word_embeddings=tied)
    config = read_config(tmp_path)
    asked = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", init_lora_weights=False
    )
    torch.manual_seed(1)
    theirs: Any = peft.get_peft_model(plain, asked)
    tokens_BL = torch.randint(0, config.vocab, (2, 41))
    ids_BL, targets_BL = tokens_BL[:, :-1], tokens_BL[:, 1:]
    expected = F.cross_entropy(theirs(ids_BL).logits.flatten(0, 1), targets_BL.flatten())
    expected.backward()

    source = Llama(config, 40, torch.float32)
    load(tmp_path, source)
    ours = TrainedLlama(config, 40, torch.float32, recompute=False)
    ours.load_state_dict(source.state_dict())
    adapt(ours, RANK, ALPHA)
    base = theirs.base_model.model.model.layers
    wanted: dict[str, Tensor] = {}
    for index, block in enumerate(ours.blocks):
        for name, parts in THEIRS.items():
            module = block.get_submodule(name)
            for own, their in (("a", "lora_A"), ("b", "lora_B")):
                pieces = [
                    getattr(base[index].get_submodule(part), their)["default"].weight
                    for part in parts
                ]
                getattr(module, own).data.copy_(torch.cat(pieces).detach())
                key = f"blocks.{index}.{name}.{own}"
                wanted[key] = torch.cat([piece.grad for piece in pieces])
    loss = ours(ids_BL, targets_BL) / targets_BL.numel()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    given = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    assert set(given) == set(wanted)
    for name, gradient in wanted.items():
        assert (given[name] - gradient).norm() <= 1e-4 * gradient.norm(), name

    lora = Lora(config=config, rank=RANK, alpha=ALPHA)
    held = {name: p.detach() for name, p in ours.named_parameters()}
    plain_gradients = gradients(
        config, lora.plain_weights(held.__getitem__), ids_BL, targets_BL,
        scale=1 / targets_BL.numel(), dtype=torch.float32, place=Place(),
    )  # fmt: skip
    reference = dict(lora.own_gradients(held.__getitem__, plain_gradients, Place()))
    assert float(reference.pop("loss")) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert set(reference) == set(wanted)
    for name, gradient in wanted.items():
        assert (reference[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_the_base_is_held_in_the_arithmetics_precision_and_has_no_gradient() -> None:
    step = built(case(2, 64, dtype="bfloat16", **SIZES))
    step.loss_and_gradients(step.targets_BL, step.scale)
    assert {p.dtype for _, p in step.frozen()} == {torch.bfloat16}
    assert all(p.grad is None for _, p in step.frozen())
    assert {p.dtype for _, p in step.trained()} == {torch.float32}
    assert {name.rsplit(".")[-1] for name, _ in step.trained()} == {"a", "b"}


def test_an_adapter_adds_a_quarter_of_what_its_projection_gives() -> None:
    config = PRESETS["smollm2-135m"]
    lora = Lora(config=config, rank=16, alpha=32)
    source = DrawnAdapters(Drawn(config, 0), lora, 0, torch.float32)

    def get(name: str) -> Tensor:
        return whole(source, name, held=FLOAT32, device="cpu")

    for owner in ("blocks.0.attention.out", "blocks.7.ffn.gate_up"):
        base, plain = get(f"{owner}.weight"), lora.plain_weights(get)(f"{owner}.weight")
        x = torch.randn(base.shape[1], 8)
        assert float(((plain - base) @ x).norm() / (base @ x).norm()) == pytest.approx(
            0.25, rel=0.2
        )


@pytest.mark.parametrize("preset", [p for p in PRESETS if p != "llama-3.1-405b"])
def test_counted_on_meta_equals_the_closed_form(preset: str) -> None:
    batch, length = (2, 64) if preset == "tiny" else (2, 512)
    texts = {"batch": [str(batch)], "seq_len": [str(length)]}
    (case,) = workload().cases(preset, texts)
    counted, config = workload().count(case), PRESETS[preset]
    flops = arithmetic.step_flops(config, 16, batch, length, causal=False)
    assert counted["flops"] == flops  # torch counts attention as if it were not causal
    assert counted["bytes"] == pytest.approx(arithmetic.step_bytes(config, 16, 2), rel=0.03)


def test_adapters_of_rank_16_are_as_many_as_pefts() -> None:
    with torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM

        theirs = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=4096, intermediate_size=14336, num_hidden_layers=2,
                num_attention_heads=32, num_key_value_heads=8, vocab_size=128,
            )
        )  # fmt: skip
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(r=16, target_modules="all-linear"))
    trained, _ = adapted.get_nb_trainable_parameters()
    config = PRESETS["llama-3.1-8b"]
    assert arithmetic.adapter_params(replace(config, n_layers=2), 16) == trained


def test_what_must_be_held_is_the_base_once_and_the_adapters_four_times() -> None:
    (prepared,) = workload().cases("llama-3.1-70b", {})
    prepared = workload().prepare(prepared, Weights())
    assert prepared.preset == "llama-3.1-70b", "all 80 layers"
    assert workload().memory_bytes(prepared) == pytest.approx(2 * 70.55e9 + 16 * 207e6, rel=0.01)


def judged(case: Case, defect: Any, cache: ReferenceCache) -> dict[str, Parity]:
    return {check.name: check for check in outcome(workload(), case, defect, cache)}


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_correct_program_passes(dtype: str, recompute: str, cache: ReferenceCache) -> None:
    checks = judged(case(6, 64, dtype=dtype, recompute=recompute, **SIZES), none, cache)
    assert len(checks) == 7
    for check in checks.values():
        assert check.ok, check.fault()


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    checks = judged(case(6, 64, dtype="bfloat16", **SIZES), DEFECTS[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    assert CAUGHT_BY.get(name, "float32 twin") in caught


def test_the_exported_step_moves_the_adapters_as_the_program_does() -> None:
    torch.manual_seed(0)
    model = TracedLlama(PRESETS["tiny"], 24, torch.float32, recompute=False)
    adapt(model, RANK, ALPHA)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    tokens, targets = torch.randint(0, PRESETS["tiny"].vocab, (2, 2, 24))
    expected = model(tokens, targets) / tokens.numel()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    traced = TracedStep(model, tokens)
    assert {
        name.replace("-", ".") for name in dict(traced.get_submodule("mean").named_buffers())
    } == trained
    torch.testing.assert_close(traced(tokens, targets), expected.detach())
    assert float(traced(tokens, targets)) < float(expected.detach())

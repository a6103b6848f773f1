"""Training steps: losses and gradients as in transformers, and rows that say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_checkpoints import save
from torch.utils._python_dispatch import TorchDispatchMode

from tpubench.devices import prices
from tpubench.errors import UsageError
from tpubench.results.row import Row
from tpubench.suite import registry
from tpubench.suite import run as suite_run
from tpubench.suite.request import Request
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama.config import PRESETS, LlamaConfig
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.weights import Stored
from tpubench.workloads.llama_pretrain import LlamaPretrain
from tpubench.workloads.llama_pretrain.model import TrainedLlama
from tpubench.workloads.llama_pretrain.reference import AdamWSettings
from tpubench.workloads.llama_pretrain.step import TrainStep, adamw

STEPS = 5

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

MODELS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "every query head its own keys": {"num_key_value_heads": 4},
    "tied head": {"tie_word_embeddings": True},
    "attention biases": {"attention_bias": True},
    "feed-forward biases": {"mlp_bias": True},
    "llama3 scaling, wide heads": {"rope_parameters": LLAMA3, "head_dim": 32},
}


def workload() -> LlamaPretrain:
    standard = registry.workload("llama-pretrain")
    assert isinstance(standard, LlamaPretrain)
    return standard


def case(preset: str = "tiny", **overrides: object) -> Case:
    texts = {key: [str(value)] for key, value in overrides.items()}
    (case,) = workload().cases(preset, texts)
    return workload().prepare(case, Weights())


def built(case: Case) -> TrainStep:
    step = workload().build(case, Device(torch_device="cpu"), Weights())
    assert isinstance(step, TrainStep)
    return step


def run_once(step: TrainStep) -> float:
    step.run(lambda output=None: None)
    return float(step.losses[-1])


@pytest.mark.parametrize("model", MODELS)
def test_losses_and_gradients_are_those_of_transformers(model: str, tmp_path: Path) -> None:
    theirs = save(tmp_path, **MODELS[model])
    torch.manual_seed(1)
    tokens_BL = torch.randint(0, theirs.config.vocab_size, (2, 81))
    step = step_with_weights_of(tmp_path, tokens_BL)
    settings = AdamWSettings()
    optimizer = torch.optim.AdamW(
        theirs.parameters(),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    for _ in range(STEPS):
        expected = F.cross_entropy(
            theirs(tokens_BL[:, :-1]).logits.flatten(0, 1), tokens_BL[:, 1:].flatten()
        )
        optimizer.zero_grad()
        expected.backward()
        loss = step.loss_and_gradients(step.targets_BL, step.scale)
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
        for ours, reference in zip(our_gradients(step), their_gradients(theirs), strict=True):
            assert (ours - reference).norm() <= 1e-4 * reference.norm()
        step.update()
        optimizer.step()


def step_with_weights_of(path: Path, tokens_BL: torch.Tensor) -> TrainStep:
    config, length = read_config(path), tokens_BL.shape[1] - 1
    source = Llama(config, length, torch.float32)
    load(path, source)
    model = TrainedLlama(config, length, torch.float32, recompute=False)
    model.load_state_dict(source.state_dict())
    return TrainStep(model, tokens_BL, Device(torch_device="cpu"), Stored(config, path))


def our_gradients(step: TrainStep) -> list[torch.Tensor]:
    block = step.model.blocks[0]
    weights = [block.attention.qkv, block.attention.out, block.ffn.gate_up, block.ffn.down]
    norms = [block.attention_norm, block.ffn_norm, step.model.norm, step.model.embedding]
    return [module.weight.grad for module in (*weights, *norms)]


def their_gradients(model: Any) -> list[torch.Tensor]:
    layer = model.model.layers[0]
    attention, mlp = layer.self_attn, layer.mlp
    qkv = torch.cat([p.weight.grad for p in (attention.q_proj, attention.k_proj, attention.v_proj)])
    gate_up = torch.cat([mlp.gate_proj.weight.grad, mlp.up_proj.weight.grad])
    norms = [layer.input_layernorm, layer.post_attention_layernorm, model.model.norm]
    rest = [module.weight.grad for module in (*norms, model.model.embed_tokens)]
    return [qkv, attention.o_proj.weight.grad, gate_up, mlp.down_proj.weight.grad, *rest]


def test_the_loss_of_one_batch_falls() -> None:
    step = built(case())
    losses = [run_once(step) for _ in range(6)]
    assert losses == sorted(losses, reverse=True)


def test_weights_gradients_and_moments_are_float32_and_the_arithmetic_is_not() -> None:
    step = built(case(dtype="bfloat16"))
    seen: set[torch.dtype] = set()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if func.name() in {"aten::mm", "aten::_scaled_dot_product_flash_attention_for_cpu"}:
                seen.update(argument.dtype for argument in args[:2])
            return func(*args, **(kwargs or {}))

    with Products():
        step.loss_and_gradients(step.targets_BL, step.scale)
    assert seen == {torch.bfloat16}
    assert {p.grad.dtype for p in step.model.parameters() if p.grad is not None} == {torch.float32}
    step.update()
    assert {p.dtype for p in step.model.parameters()} == {torch.float32}
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    assert {value.dtype for value in moments} == {torch.float32}


def test_a_timed_pass_reads_nothing_back() -> None:
    step = built(case())
    run_once(step)
    names: list[str] = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    with Names():
        step.run(lambda output=None: None)
    assert "aten::_fused_adamw_" in names
    assert "aten::_local_scalar_dense" not in names


def test_recomputing_keeps_less_and_changes_nothing() -> None:
    kept: dict[str, int] = {}
    gradients = {}
    for recompute in ("none", "full"):
        step = built(case(dtype="float32", recompute=recompute))
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            step.loss_and_gradients(step.targets_BL, step.scale)
        kept[recompute] = sum(sizes.values())
        gradients[recompute] = torch.cat([p.grad.flatten() for p in step.model.parameters()])
    torch.testing.assert_close(gradients["none"], gradients["full"], rtol=1e-5, atol=1e-7)
    assert kept["full"] < kept["none"]


@pytest.mark.parametrize("preset", PRESETS)
def test_counted_on_meta_equals_the_closed_form(preset: str) -> None:
    batch, length = 2, 512 if preset != "tiny" else 64
    small_case = case(preset, layers=0, batch=batch, seq_len=length)
    counted, config = workload().count(small_case), PRESETS[preset]
    # torch counts attention as if it were not causal.
    flops = arithmetic.train_flops(config, batch, length, causal=False)
    assert counted["flops"] == pytest.approx(flops, rel=0.01)
    assert counted["bytes"] == pytest.approx(arithmetic.train_bytes(config, 2), rel=0.01)


def test_flops_are_six_a_weight_and_token_plus_attention() -> None:
    config, tokens = PRESETS["llama-3.1-8b"], 8192
    matmul_weights = config.n_params - config.vocab * config.d_model  # less the lookup
    attention = 6 * config.n_layers * config.n_heads * config.head_dim * tokens
    per_token = arithmetic.train_flops(config, 1, tokens) / tokens
    assert per_token == pytest.approx(6 * matmul_weights + attention, rel=1e-3)
    assert workload().work(case("llama-3.1-8b", batch=4, seq_len=8192)).flops == pytest.approx(
        4 * tokens * per_token
    )


def test_each_part_of_a_batch_reads_the_weights_again_and_clipping_the_gradients() -> None:
    plain = workload().work(case("llama-3.1-8b", batch=4))
    parts = workload().work(case("llama-3.1-8b", batch=4, accumulate=2))
    clipped = workload().work(case("llama-3.1-8b", batch=4, clip="1.0"))
    config = PRESETS["llama-3.1-8b"]
    read = config.n_params - config.head_params  # all but the table that is looked up
    assert plain.flops == parts.flops == clipped.flops
    assert parts.bytes - plain.bytes == 2 * 2 * read + 8 * config.n_params
    assert clipped.bytes - plain.bytes == 4 * config.n_params


def test_adamw_counts_its_steps_on_a_device_without_a_fused_kernel() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert adamw([parameter], AdamWSettings()).defaults["fused"]
    meta = adamw([torch.nn.Parameter(torch.zeros(2, device="meta"))], AdamWSettings())
    assert not meta.defaults["fused"]


def rows_of(store: Path, **asked: Any) -> dict[str, Row]:
    request = Request(
        **{
            "workload": "llama-pretrain",
            "backend": "fake",
            "preset": "tiny",
            "repeats": 1,
            "price": prices.given(3.6),
            **asked,
        }
    )
    report = suite_run.execute(suite_run.make_plan(request), store, lambda event: None)
    return {row.metric: row for row in report.rows}


def test_tokens_are_priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", '{"pass_s": [0.5]}')
    rows = rows_of(tmp_path)
    assert rows["step_time_s"].value == pytest.approx(0.5, rel=1e-3)
    assert rows["train_tok_s"].value == pytest.approx(2 * 64 / 0.5, rel=1e-3)
    assert rows["train_tok_s_per_chip"].value == rows["train_tok_s"].value
    assert rows["usd_per_train_mtok"].value == pytest.approx(1e6 * 3.6 / 3600 / 256, rel=1e-3)


def test_a_few_layers_are_never_the_whole_model(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, overrides={"layers": ["1"]})
    assert rows["step_time_s"].value is not None
    for metric in ("train_tok_s", "train_tok_s_per_chip", "usd_per_train_mtok"):
        assert rows[metric].value is None
        assert rows[metric].reason == "1 of 2 layers: the figure would be another model's"
    assert {row.preset for row in rows.values()} == {"tiny (1 of 2 layers)"}


@pytest.mark.parametrize(("preset", "layers"), [("llama-3.1-70b", 4), ("llama-3.1-405b", 1)])
def test_the_largest_models_train_a_few_layers_unless_told(preset: str, layers: int) -> None:
    small_case = case(preset, seq_len=8192)
    whole = case(preset, seq_len=8192, layers=PRESETS[preset].n_layers)
    assert small_case.params["layers"] == layers
    assert f"{layers} of {PRESETS[preset].n_layers} layers" in small_case.preset
    assert whole.preset == preset
    assert workload().work(small_case).flops < workload().work(whole).flops
    config = LlamaConfig.from_json({**PRESETS[preset].to_json(), "n_layers": layers})
    assert workload().work(small_case).flops == arithmetic.train_flops(config, 1, 8192)


def test_a_wrong_answer_is_stored_without_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", '{"faults": {"0": ["compile", "wrong"]}}')
    rows = rows_of(tmp_path)
    assert set(rows) == {"step_time_s"}
    row = rows["step_time_s"]
    assert (row.status, row.value) == ("invalid", None)
    assert "parity check failed" in str(row.reason)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seq_len": 4096}, "seq_len=4096 is longer than the 2048 tokens that tiny was built for"),
        ({"layers": 3}, "layers=3: tiny has 2"),
        ({"dtype": "float16"}, "dtype='float16' is not one of float32, bfloat16"),
        ({"accumulate": 3}, "batch=2 does not divide into accumulate=3 parts"),
        ({"clip": "2"}, "clip='2' is not one of none, 0.1, 0.25, 0.5, 1.0"),
        ({"recompute": "some"}, "recompute='some' is not one of none, full"),
    ],
)
def test_contradictions_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        case(**overrides)


def test_a_batch_must_divide_among_the_ranks() -> None:
    device = Device(torch_device="cpu", ranks=3)
    with pytest.raises(UsageError, match="batch=2 does not divide among 3 ranks"):
        workload().build(case(batch=2), device, Weights())

"""A correct program passes every parity check; every defect fails one, by name.

The table of all of them at full depth is made by ``benchmarks/parity_defects.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import reference_greedy, save
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import DEFECTS, around, case, missing_layer, none, outcome
from parity_defects import GENERATING

from tpubench.suite import registry
from tpubench.suite.parity import Parity, worst
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads._checkpoint import read_config
from tpubench.workloads.llama import ranks, recall
from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.reference import Place, Task, force
from tpubench.workloads.llama.step import LlamaStep
from tpubench.workloads.llama.weights import Drawn, Stored, fill

SIZES = {"batch": 3, "input_len": 16, "output_len": 8}
DEPTH, WIDTH = 6, 64
NAMES = ("float32 twin", "poisoned cache", "logits", "regret", "worst token")
CAUGHT_BY = {
    "stale slot": "poisoned cache",
    "reads one slot more": "poisoned cache",
    "writes one slot late": "poisoned cache",
    "missing layer when deep": "logits",
    "fp8 weights": "logits",
    "tokens all the last": "regret",
    "one sequence wrong": "regret",
    "token of another sequence": "worst token",
    "second best token": "float32 twin",
    "norm eps wrong": "float32 twin",
    "int8 weights": "float32 twin",
    "half of a large vocabulary searched": "regret",
}


def judged(
    case: Case, defect: Callable[[LlamaStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("llama-infer"), case, defect, cache)}


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_correct_program_passes(dtype: str, tied: bool, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, tied=tied, dtype=dtype, **SIZES), none, cache)
    assert tuple(checks) == NAMES
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 1e-5
    assert checks["poisoned cache"].error == 0


@pytest.mark.parametrize("name", GENERATING)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    long = {"input_len": 48, "output_len": 24} if name not in DEFECTS else {}
    small_case = case(DEPTH, WIDTH, dtype="bfloat16", **{**SIZES, **long})
    checks = judged(small_case, GENERATING[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    assert CAUGHT_BY.get(name, "float32 twin") in caught
    worst_errors = worst(checks.values())
    assert worst_errors is not None and worst_errors.name in str(worst_errors.fault())


@pytest.mark.nightly
@pytest.mark.parametrize("name", GENERATING)
def test_a_defect_is_caught_in_float32(name: str, cache: ReferenceCache) -> None:
    sizes = {**SIZES, "input_len": 48, "output_len": 24}
    checks = judged(case(DEPTH, WIDTH, dtype="float32", **sizes), GENERATING[name], cache)
    assert any(not check.ok for check in checks.values())


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 1, "input_len": 1, "output_len": 1},
        {"batch": 1, "dtype": "fp8", "output_len": 1},
        {"batch": 64, "input_len": 16, "output_len": 8},
        {"output_len": 2, "dtype": "float16"},
    ],
    ids=["one token of one", "fp8, one token", "batch 64", "float16, two tokens"],
)
def test_a_correct_program_passes_whatever_its_sizes(
    settings: dict[str, Any], seed: int, cache: ReferenceCache
) -> None:
    small_case = case(DEPTH, WIDTH, **{**SIZES, "dtype": "bfloat16", **settings, "seed": seed})
    for check in judged(small_case, none, cache).values():
        assert check.ok, check.fault()


def test_a_replay_that_overwrites_its_outputs_is_no_fault(cache: ReferenceCache) -> None:
    """As CUDA graphs do: every call returns the same tensor, written into again."""

    def replayed(step: LlamaStep) -> None:
        held: dict[tuple[int, ...], Tensor] = {}

        def forward(plain: Callable[..., Tensor], tokens_BL: Tensor, *rest: Any) -> Tensor:
            logits_BV = plain(tokens_BL, *rest)
            return held.setdefault(tuple(tokens_BL.shape), logits_BV.clone()).copy_(logits_BV)

        around(step.model, "forward", forward)

    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), replayed, cache)
    assert all(check.ok for check in checks.values())


def test_every_sequence_is_judged_however_many_there_are(cache: ReferenceCache) -> None:
    small_case = case(DEPTH, WIDTH, dtype="bfloat16", **{**SIZES, "batch": 12})
    checks = judged(small_case, none, cache)
    assert all(check.ok for check in checks.values())
    assert "regret of the rest" in checks
    for _ in range(3):  # whichever sequences are drawn
        assert not judged(small_case, DEFECTS["one sequence wrong"], cache)["worst token"].ok


def test_one_output_token_is_enough(cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, **{**SIZES, "output_len": 1}), none, cache)
    assert all(check.ok for check in checks.values())


def test_a_reference_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, small_case = ReferenceCache(tmp_path), case(DEPTH, WIDTH, dtype="bfloat16", **SIZES)
    first = judged(small_case, none, cache)
    forced: list[int] = []

    def counted(weights: Any, tasks: Any, **settings: Any) -> Any:
        forced.extend(len(task.ids) for task in tasks)
        return force(weights, tasks, **settings)

    monkeypatch.setattr(recall.reference, "force", counted)
    again = judged(small_case, none, cache)
    assert forced == [SIZES["batch"]], "the twin's alone"
    assert again["logits"] == first["logits"]
    for entry in tmp_path.iterdir():
        entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    forced.clear()
    assert judged(small_case, none, cache)["logits"] == first["logits"]
    assert len(forced) == 3, "what is damaged is computed again"


def test_weights_that_a_backend_has_changed_are_not_the_reference(cache: ReferenceCache) -> None:
    """The reference comes from the seed, not from what the program holds."""

    def shrunk(step: LlamaStep) -> None:
        with torch.no_grad():
            for parameter in step.model.blocks.parameters():
                parameter.mul_(0.9)

    assert not judged(case(DEPTH, WIDTH, **SIZES), shrunk, cache)["logits"].ok


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.5],
    "long_factor": [2.0, 3.0, 4.0, 6.0, 8.0, 9.0],
    "partial_rotary_factor": 0.75,
    "factor": 4.0,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        {"rope_parameters": LLAMA3, "num_key_value_heads": 1, "head_dim": 24},
        {"kind": "Qwen2"},
        {"kind": "Qwen3", "head_dim": 24},
        {"kind": "Phi3", "pad_token_id": 0, "rope_parameters": LONGROPE},
        {"kind": "Glm", "pad_token_id": 0, "head_dim": 16},
        {"shard": "60KB"},
    ],
    ids=["plain", "tied, biases", "llama3 scaling", "Qwen2", "Qwen3", "Phi-3", "GLM", "shards"],
)
def test_the_reference_computes_what_transformers_does(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = save(tmp_path, **changes)
    prompt = torch.randint(0, theirs.config.vocab_size, (90,), generator=torch.manual_seed(1))
    tokens, expected = reference_greedy(theirs, prompt.tolist(), 10)
    ids = torch.cat([prompt, torch.tensor(tokens)]).unsqueeze(0)
    task = Task(ids=ids, dtype=torch.float32, keep=range(89, 99))
    weights = Stored(read_config(tmp_path), tmp_path)
    (ours,) = force(weights, [task], judged_from=90, held=FLOAT32, place=Place())
    error = (ours.logits[0] - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-4
    assert ours.regret.max() < 1e-5, "what greedy decoding takes has no regret"


def test_regret_is_how_far_a_token_is_below_the_best() -> None:
    weights = Drawn(replace(PRESETS["tiny"], vocab=64), 0)
    ids = torch.randint(0, 64, (2, 20), generator=torch.manual_seed(0))
    task = Task(ids=ids, dtype=torch.float32, keep=range(9, 19))
    (said,) = force(weights, [task], judged_from=10, held=FLOAT32, place=Place())
    chosen = said.logits.gather(2, ids[:, 10:].unsqueeze(2)).squeeze(2)
    expected = (said.logits.amax(2) - chosen) / said.logits.std(2)
    torch.testing.assert_close(said.regret, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        {"kind": "Phi3", "pad_token_id": 0, "rope_parameters": LONGROPE},
    ],
    ids=["plain", "tied", "fused in the file"],
)
def test_ranks_hold_their_parts_of_a_checkpoint_and_never_all_of_it(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = save(tmp_path, vocab_size=256, **changes)
    config = read_config(tmp_path)
    whole = Llama(config, 8, torch.float32)
    fill(whole, Stored(config, tmp_path))
    largest = max(parameter.nbytes for parameter in whole.parameters())
    parts = []
    for rank in range(2):
        device = Device(torch_device="cpu", rank=rank, ranks=2)
        with Largest() as tracker:
            stored = Stored(config, tmp_path)
            parts.append(ranks.build(config, 8, FLOAT32, device, stored))
        assert tracker.bytes <= largest
    first, second = (part.blocks[1] for part in parts)
    H, N = config.head_dim, config.n_heads // 2
    rows = whole.blocks[1].attention.qkv.weight[: 2 * N * H]
    held = torch.cat([b.attention.qkv.weight[: N * H] for b in (first, second)])
    assert torch.equal(rows, held)
    columns = [b.ffn.down.part.weight for b in (first, second)]
    assert torch.equal(whole.blocks[1].ffn.down.weight, torch.cat(columns, dim=1))
    if config.mlp_bias:  # each its rows; the output's bias is added once
        F = config.d_ffn // 2
        gate = torch.cat([b.ffn.gate_up.bias[:F] for b in (first, second)])
        assert torch.equal(whole.blocks[1].ffn.gate_up.bias[: 2 * F], gate)
        down = sum(b.ffn.down.part.bias for b in (first, second))
        assert torch.equal(whole.blocks[1].ffn.down.bias, down)
    heads = torch.cat([part.head.linear.weight for part in parts])
    assert torch.equal(heads, theirs.lm_head.weight)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operator returned."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


@pytest.mark.nightly
def test_a_real_checkpoint_is_judged_by_its_own_rounding(
    smollm2_gguf: Path, cache: ReferenceCache
) -> None:
    workload = registry.workload("llama-infer")
    weights = Weights(path=smollm2_gguf)
    texts = {"batch": ["2"], "input_len": ["24"], "output_len": ["8"]}
    (prepared,) = (workload.prepare(c, weights) for c in workload.cases("smollm2-135m", texts))
    checks = {p.name: p for p in outcome(workload, prepared, none, cache, weights)}
    print({name: (check.error, check.tolerance) for name, check in checks.items()})
    assert all(check.ok for check in checks.values())
    without = {p.name: p for p in outcome(workload, prepared, missing_layer, cache, weights)}
    assert not without["logits"].ok

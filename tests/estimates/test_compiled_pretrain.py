"""The exported training step is the one that the workload runs: gradients, moments and all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

torch = pytest.importorskip("torch")

from tpubench.suite import registry  # noqa: E402
from tpubench.suite.compiling.export import recorded_attention  # noqa: E402
from tpubench.suite.workload import Case, Device, Program, UsageError, Weights  # noqa: E402
from tpubench.workloads.llama.config import PRESETS  # noqa: E402
from tpubench.workloads.llama_pretrain.program import TracedLlama, TracedStep  # noqa: E402
from tpubench.workloads.llama_pretrain.reference import AdamWSettings  # noqa: E402
from tpubench.workloads.llama_pretrain.step import TrainStep, adamw  # noqa: E402
from tpubench.workloads.moe_pretrain.program import TracedMoe, keep_shapes  # noqa: E402
from tpubench.workloads.moe_pretrain.step import MoeStep  # noqa: E402

SETTINGS = {"batch": ["2"], "seq_len": ["24"]}


def case(settings: Mapping[str, list[str]] = SETTINGS) -> Case:
    (only,) = registry.workload("llama-pretrain").cases("tiny", settings)
    return only


def program(
    depth: int = 2, chips: int = 1, settings: Mapping[str, list[str]] = SETTINGS
) -> Program:
    workload = registry.workload("llama-pretrain")
    return workload.program(case(settings), "step", depth=depth, chips=chips)


def test_the_exported_step_clips_schedules_and_accumulates_as_the_program_does() -> None:
    settings = {**SETTINGS, "dtype": ["float32"], "clip": ["0.1"], "schedule": ["cosine"],
                "warmup": ["2"], "accumulate": ["2"]}  # fmt: skip
    small_case = case(settings)
    step = registry.workload("llama-pretrain").build(
        small_case, Device(torch_device="cpu"), Weights()
    )
    assert isinstance(step, TrainStep)
    model = TracedLlama(step.model.config, 24, torch.float32, recompute=False)
    model.load_state_dict(step.model.state_dict())
    traced = TracedStep(model, step.tokens_BL, step.settings, step.accumulate)
    for _ in range(4):
        step.run(lambda output=None: None)
        torch.testing.assert_close(traced(step.tokens_BL, step.targets_BL), step.losses[-1])
    weights = dict(traced.get_submodule("weight").named_buffers())
    for name, parameter in step.model.named_parameters():
        kept = weights[name.replace(".", "-")]
        torch.testing.assert_close(kept, parameter.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_an_exported_step_of_experts_is_that_of_the_program(recompute: str) -> None:
    """Sorted, cut into blocks, and the auxiliary loss with them."""
    workload = registry.workload("moe-pretrain")
    settings = {"batch": ["4"], "seq_len": ["24"], "dtype": ["float32"], "recompute": [recompute],
                "accumulate": ["2"], "balance_weight": ["0.1"]}  # fmt: skip
    (asked,) = workload.cases("tiny", settings)
    step = workload.build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, MoeStep)
    model = TracedMoe(
        step.model.config, 24, torch.float32, recompute=recompute == "full",
        balance=step.model.balance,
    )  # fmt: skip
    model.load_state_dict(step.model.state_dict(), strict=False)
    keep_shapes(model)
    traced = TracedStep(model, step.tokens_BL, step.settings, step.accumulate)
    for _ in range(3):
        step.run(lambda output=None: None)
        torch.testing.assert_close(traced(step.tokens_BL, step.targets_BL), step.losses[-1])
    weights = dict(traced.get_submodule("weight").named_buffers())
    for name, parameter in step.model.named_parameters():
        kept = weights[name.replace(".", "-")]
        torch.testing.assert_close(kept, parameter.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_steps_of_the_exported_program_are_those_of_the_model_and_torchs_adamw(
    recompute: bool,
) -> None:
    torch.manual_seed(0)
    model = TracedLlama(PRESETS["tiny"], 24, torch.float32, recompute=recompute)
    tokens, targets = torch.randint(0, PRESETS["tiny"].vocab, (2, 2, 24))
    traced = TracedStep(model, tokens)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # the traced step advances its own
    optimizer = adamw(model.parameters(), AdamWSettings())
    for _ in range(3):
        expected = model(tokens, targets) / tokens.numel()
        expected.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(traced(tokens, targets), expected.detach())
    weights = dict(traced.get_submodule("weight").named_buffers())
    means = dict(traced.get_submodule("mean").named_buffers())
    for name, parameter in model.named_parameters():
        kept = name.replace(".", "-")
        torch.testing.assert_close(weights[kept], parameter.detach(), rtol=1e-4, atol=1e-6)
        moment = optimizer.state[parameter]["exp_avg"]
        torch.testing.assert_close(means[kept], moment, rtol=1e-3, atol=1e-7)


def test_nothing_is_allocated_and_the_optimizer_is_twice_the_weights() -> None:
    buffers = dict(program().module.named_buffers())
    assert {tensor.device.type for tensor in buffers.values()} == {"meta"}
    size = Counter[str]()
    for name, tensor in buffers.items():
        size[name.split(".")[0]] += tensor.nbytes
    assert size["mean"] == size["square"] == size["weight"] == 4 * PRESETS["tiny"].n_params


def test_attention_is_noted_forward_and_backward_in_each_layer() -> None:
    with recorded_attention(kernel=False) as calls:
        exported = program(depth=2)
    assert [call["products"] for call in calls] == [2, 2, 5, 5]
    assert all(call["causal"] and call["queries"] == 24 for call in calls)
    assert exported.module(*exported.inputs).shape == ()


def test_a_block_that_is_computed_again_runs_twice_and_attends_twice() -> None:
    again = {**SETTINGS, "recompute": ["full"]}
    with recorded_attention(kernel=False) as calls:
        exported = program(settings=again)
    assert [call["products"] for call in calls] == [2, 2, 2, 5, 2, 5]

    def products(exported: Program) -> int:
        return sum(
            str(node.target) == "aten.mm.default" for node in exported.module.graph.graph.nodes
        )

    assert products(exported) == products(program()) + 4 * 2  # linear layers of two blocks


def test_each_further_layer_adds_the_same() -> None:
    def operations(depth: int) -> int:
        return len(program(depth).module.graph.graph.nodes)

    assert operations(3) - operations(2) == operations(2) - operations(1) > 0


def test_over_chips_every_weight_and_moment_is_cut_and_so_is_the_batch() -> None:
    assert program(chips=1).split == {}
    split = program(chips=2).split
    assert split["tokens"] == split["targets"] == 0
    assert {name.split(".")[0] for name in split} == {
        "tokens", "targets", "weight", "mean", "square"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "chips", "said"),
    [
        ({"batch": ["3"], "seq_len": ["24"]}, 2, "batch=3 does not divide among 2"),
    ],
)
def test_what_cannot_be_exported_says_why(
    settings: Mapping[str, list[str]], chips: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        program(chips=chips, settings=settings)

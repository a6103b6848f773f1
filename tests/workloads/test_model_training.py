"""Training any model: what a step makes of it, what it counts, and what its checks catch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "suite"))
from llama_defects import none, outcome
from model_train_defects import COLUMNS, WORKLOADS, case, defects
from test_contract import execute

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads.forward import Input, size
from tpubench.workloads.forward.training import Training
from tpubench.workloads.forward.training.step import (
    TrainingStep,
    initial_model,
    moves_each_by_itself,
)

CAUGHT_BY = {
    "stale loss": "timed loss",
    "loss read too early": "timed loss",
    "idle optimizer": "optimizer",
    "idle optimizer in the window": "timed step",
    "no weight decay": "optimizer",
    "rate 2 % too high": "optimizer",
    "loss 2 % too high": "loss",
    "norms as when serving": "float32 twin",
}


def built(name: str, **settings: int | str) -> tuple[Training, TrainingStep]:
    workload = registry.workload(name)
    texts = {key: [str(value)] for key, value in settings.items()}
    (asked,) = workload.cases("tiny", texts)
    step = workload.build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(workload, Training) and isinstance(step, TrainingStep)
    return workload, step


@pytest.mark.parametrize("name", WORKLOADS)
def test_steps_are_those_of_a_loop_that_anybody_writes(name: str) -> None:
    workload, step = built(name, batch=8, dtype="float32")
    model = initial_model(workload, step.case, "cpu")
    pixels, right = step.given_on_host
    if name == "vit-train":
        optimizer: Any = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.3
        )
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(5):
        step.run(lambda *_: None)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(pixels), right)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert float(step.losses[-1]) == pytest.approx(loss.item(), rel=1e-4)
    for (label, given), wanted in zip(
        step.model.named_parameters(), model.parameters(), strict=True
    ):
        if not label.endswith("k_proj.bias"):  # a softmax does not see it: its gradient is rounding
            torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4, msg=label)
    assert float(step.losses[-1]) < float(step.losses[0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_right_program_passes(name: str, dtype: str, cache: ReferenceCache) -> None:
    checks = outcome(registry.workload(name), case(name, dtype), none, cache)
    assert {check.name for check in checks} == set(COLUMNS)
    assert [check.fault() for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("name", "defect"), [(name, defect) for name in WORKLOADS for defect in defects(name)]
)
def test_a_defect_is_caught(name: str, defect: str, cache: ReferenceCache) -> None:
    checks = outcome(registry.workload(name), case(name), defects(name)[defect], cache)
    caught = {check.name for check in checks if not check.ok}
    assert caught
    assert CAUGHT_BY.get(defect, next(iter(caught))) in caught


FIRST = {"vit-train": 16 * 3 * 8 * 8 * 32, "resnet50-train": 16 * 16 * 3 * 7 * 7 * 8}
"""Products of the first layer of an image of 32 × 32: places × what each reads × channels."""


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_step_costs_three_passes_but_for_the_first_layer(name: str) -> None:
    # The gradient of what comes in is not asked for.
    workload, step = built(name, batch=8)
    flops = 3 * workload.tally(step.case).flops - 2 * FIRST[name]
    assert workload.work(step.case).flops == 8 * flops


class Words(Training):
    """A bag of words with dropout and a tied head, by another loss and optimizer than most."""

    name = "words"
    version = 1
    summary = "for this test"
    presets: ClassVar = {"tiny": "as it is"}
    shapes: ClassVar = {"tiny": {"words": 50, "width": 16}}

    def module(self, case: Case) -> nn.Module:
        return Tied(size(case, "words"), size(case, "width"))

    def inputs(self, case: Case) -> list[Input]:
        return [Input(shape=(6,), below=size(case, "words"))]

    def targets(self, case: Case) -> list[Input]:
        return [Input(shape=(size(case, "words"),))]

    def loss(self, output: torch.Tensor, *targets: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(output, targets[0])

    def optimizer(self, named: Any) -> torch.optim.Optimizer:
        weights = [parameter for name, parameter in named if not name.endswith("bias")]
        biases = [parameter for name, parameter in named if name.endswith("bias")]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases}]
        return torch.optim.NAdam(groups, lr=1e-3)


class Tied(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(width, words)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.drop(self.norm(self.table(ids).mean(dim=1))))
        return scores


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_strangers_loss_optimizer_groups_and_tied_head_pass(
    dtype: str, cache: ReferenceCache
) -> None:
    workload = Words()
    (asked,) = workload.cases("tiny", {"batch": ["8"], "dtype": [dtype]})
    checks = outcome(workload, asked, none, cache)
    assert [check.fault() for check in checks if not check.ok] == []
    step = workload.build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, TrainingStep)
    assert step.model.head.weight is step.model.table.weight, "tied as the module ties them"
    work = workload.work(asked)
    assert work.flops == 3 * 2 * 8 * 16 * 50
    assert workload.memory_bytes(asked) > 4 * 4 * (50 * 16 + 50 + 2 * 16)


class Recurrent(Words):
    """An LSTM whose last layer nothing reads, moved by an optimizer of whole matrices."""

    name = "recurrent"

    def module(self, case: Case) -> nn.Module:
        return LastWord(size(case, "words"), size(case, "width"))

    def optimizer(self, named: Any) -> torch.optim.Optimizer:
        return torch.optim.Adafactor([parameter for _, parameter in named], lr=1e-3)


class LastWord(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.memory = nn.LSTM(width, width, batch_first=True, dropout=0.0)
        self.head, self.unread = nn.Linear(width, words), nn.Linear(width, width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.memory(self.table(ids))[0][:, -1])
        return scores


@pytest.mark.parametrize("backend", ["cpu", "fake"])
def test_weights_that_nothing_reaches_and_whole_matrices_pass(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "workload", lambda name: Recurrent())
    (asked,) = Recurrent().cases("tiny", {"batch": ["8"]})
    outcome = execute(asked, backend, "eager")
    assert (outcome.status, outcome.reason) == ("ok", None)


def test_which_optimizers_move_each_element_by_itself_is_seen() -> None:
    assert moves_each_by_itself(Words())
    assert not moves_each_by_itself(Recurrent())


def test_a_model_that_asks_what_device_it_is_on_is_counted() -> None:
    class Careful(Words):
        def module(self, case: Case) -> nn.Module:
            return Exact(size(case, "words"), size(case, "width"))

    class Exact(Tied):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            # As rotary positions of many libraries do; torch has no autocast of "meta".
            with torch.autocast(ids.device.type, enabled=False):
                return super().forward(ids)

    (asked,) = Careful().cases("tiny", {"batch": ["8"]})
    assert Careful().work(asked).flops == Words().work(asked).flops


def test_there_is_no_program_for_the_tpu_compiler_yet() -> None:
    workload, step = built("vit-train", batch=8)
    assert not workload.phases(step.case)
    with pytest.raises(UsageError, match="vit-train has no program for the TPU compiler yet"):
        workload.program(step.case, "step", depth=1, chips=1)

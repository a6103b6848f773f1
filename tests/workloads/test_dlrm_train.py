"""Training a recommender: what a step makes of it, what it counts, and what its checks catch."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from dlrm_train_defects import COLUMNS, DEFECTS, case
from llama_defects import none, outcome

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights
from tpubench.workloads.dlrm_train import DlrmTrain
from tpubench.workloads.dlrm_train.model import row_moves
from tpubench.workloads.dlrm_train.step import SETTINGS, DlrmTrainStep, drawn_batch

CAUGHT_BY = {
    "answers of another sample": "loss",
    "one sample without gradient": "every sample",
    "stale loss": "timed loss",
    "loss read too early": "timed loss",
    "idle optimizer": "optimizer",
    "idle optimizer in the window": "optimizer",
    "rows never moved": "optimizer",
    "rows not moved in the window": "timed step",
    "a shared row moved for each sample": "optimizer",
    "a shared row moved by one sample": "optimizer",
    "the row before moved": "other rows",
    "rows by one sum a row": "optimizer",
    "every row decays": "other rows",
}


def workload() -> DlrmTrain:
    standard = registry.workload("dlrm-train")
    assert isinstance(standard, DlrmTrain)
    return standard


def of_preset(preset: str, **settings: int | str) -> Case:
    texts = {key: [str(value)] for key, value in settings.items()}
    (chosen,) = workload().cases(preset, texts)
    return chosen


class Written(nn.Module):
    """The model as anybody would write it in torch: bags with sparse gradients."""

    def __init__(self, step: DlrmTrainStep) -> None:
        super().__init__()
        shape, rows = step.case.shape, workload().rows(step.case)
        self.hot: list[int] = list(shape["hot"])  # type: ignore[call-overload]
        tables = step.model.lookup.table.clone().split(rows)
        self.bags = nn.ModuleList(
            nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="sum", sparse=True)
            for table in tables
        )
        self.ends = torch.tensor([0, *rows]).cumsum(0)
        layers = {
            name: nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
            for name, widths in (
                ("bottom", [shape["dense"], *shape["bottom"]]),  # type: ignore[misc]
                ("top", [shape["width"] * (1 + len(rows)), *shape["top"]]),  # type: ignore[operator, misc]
            )
        }
        self.bottom, self.top = layers["bottom"], layers["top"]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for crossing in step.model.cross:
            self.down.append(nn.Linear(*reversed(crossing.down.weight.shape), bias=False))
            self.up.append(nn.Linear(*reversed(crossing.up.weight.shape)))
        renamed = {
            f"{name.split('.')[2]}.{name.split('.')[1]}.{name.split('.')[3]}"
            if name.startswith("cross")
            else name: value.detach().clone()
            for name, value in step.model.named_parameters()
        }
        self.load_state_dict(renamed, strict=False)

    def forward(self, dense_BD: Tensor, ids_BI: Tensor) -> Tensor:
        x = dense_BD
        for layer in self.bottom:
            x = layer(x).relu()
        taken = zip(self.bags, ids_BI.split(self.hot, dim=1), self.ends[:-1], strict=True)
        pooled = [bag(ids - first) for bag, ids, first in taken]
        first = x = torch.cat([x, *pooled], dim=1)
        for down, up in zip(self.down, self.up, strict=True):
            x = first * up(down(x)) + x
        for layer in self.top[:-1]:
            x = layer(x).relu()
        return self.top[-1](x).squeeze(1)  # type: ignore[no-any-return]


def test_steps_are_those_of_torchs_own_modules_and_adagrad() -> None:
    asked = of_preset("tiny", batch=16, dtype="float32")
    step = workload().build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, DlrmTrainStep)
    written, given = Written(step), step.on_host
    optimizer = torch.optim.Adagrad(written.parameters(), lr=0.005, eps=1e-8)
    for _ in range(6):
        step.run(lambda *_: None)
        loss = F.binary_cross_entropy_with_logits(written(given.dense, given.ids), given.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(bag.weight.grad.is_sparse for bag in written.bags)
        optimizer.step()
        assert float(step.losses[-1]) == pytest.approx(loss.item(), rel=1e-5)
    table = torch.cat([bag.weight.detach() for bag in written.bags])
    assert torch.allclose(step.model.lookup.table, table, atol=2e-6)
    top = written.top[0].weight
    assert torch.allclose(step.model.top[0].weight, top, atol=2e-6)
    assert float(step.losses[-1]) < float(step.losses[0])


def test_shared_rows_move_as_a_sparse_gradient_moves_them() -> None:
    generator = torch.Generator().manual_seed(1)
    R, W, B, hot = 12, 4, 30, [3, 2]
    ids_BI = torch.randint(R, (B, 5), generator=generator)
    gradient_BP = torch.randn(B, W * 2, generator=generator)
    bag_I = torch.tensor([0, 0, 0, 1, 1])
    table = torch.randn(R, W, generator=generator)
    squares, slot = torch.zeros(R, W), torch.full((R,), -1, dtype=torch.int32)
    theirs = nn.Parameter(table.clone())
    optimizer = torch.optim.Adagrad([theirs], lr=SETTINGS.lr, eps=SETTINGS.eps)
    each = gradient_BP.view(B, 2, W)[:, bag_I].reshape(-1, W)
    for _ in range(3):
        moves = row_moves(ids_BI, bag_I, gradient_BP, squares, slot, SETTINGS)
        squares.index_add_(0, moves.row, moves.square)
        table.index_add_(0, moves.row, moves.change)
        theirs.grad = torch.sparse_coo_tensor(
            ids_BI.reshape(1, -1), each, (R, W), check_invariants=True
        )
        optimizer.step()
    assert len(hot) == 2
    assert torch.allclose(table, theirs.detach(), atol=1e-6)


def test_no_gradient_is_as_large_as_a_table() -> None:
    asked = of_preset("mlperf", batch=2, row_cap=5000)
    step = workload().build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, DlrmTrainStep)
    before = step.model.lookup.table.clone()
    step.loss_and_gradients()
    assert step.model.lookup.table.grad is None
    step.update()
    moved = (step.model.lookup.table != before).any(dim=1).nonzero().squeeze(1)
    assert set(moved.tolist()) == set(step.on_host.ids.reshape(-1).tolist())


@pytest.mark.parametrize(
    ("preset", "batch", "cap"), [("tiny", 2, 100), ("tiny", 64, 30), ("mlperf", 256, 100_000)]
)
def test_work_is_what_is_counted_on_meta(preset: str, batch: int, cap: int) -> None:
    asked = of_preset(preset, batch=batch, row_cap=cap)
    counted, work = workload().count(asked), workload().work(asked)
    assert counted["flops"] == work.flops
    # How many rows are distinct is expected by the one and counted by the other.
    assert counted["bytes"] == pytest.approx(work.bytes, rel=0.02)


def test_rows_expected_are_rows_drawn() -> None:
    asked = of_preset("mlperf", batch=512, row_cap=20_000)
    drawn = len(drawn_batch(workload(), asked).ids.unique())
    assert workload().rows_taken(asked) == pytest.approx(drawn, rel=0.005)
    assert workload().rows_taken(of_preset("tiny", batch=1, row_cap=1)) == 3


def test_a_program_holds_rows_and_their_sums_in_float32() -> None:
    asked = of_preset("mlperf", batch=1, row_cap=40_000_000)
    rows = 204_184_588
    assert 1 < workload().memory_bytes(asked) / (rows * 128 * 4 * 2) < 1.006
    assert asked.params["row_cap"] == 40_000_000


def test_several_chips_are_refused() -> None:
    with pytest.raises(UsageError, match="dlrm-train runs on one chip"):
        workload().program(of_preset("tiny", batch=2), "step", depth=1, chips=2)


def test_the_program_to_compile_takes_the_steps_that_are_timed() -> None:
    asked = of_preset("tiny", batch=8, dtype="float32")
    step = workload().build(asked, Device(torch_device="cpu"), Weights())
    assert isinstance(step, DlrmTrainStep)
    program = workload().program(asked, "step", depth=1, chips=1)
    module = program.module.to_empty(device="cpu")
    given = step.on_host
    state = dict(module.named_buffers())
    for name, parameter in step.model.named_parameters():
        state[f"weight.{name.replace('.', '-')}"].copy_(parameter.detach())
        state[f"square.{name.replace('.', '-')}"].zero_()
    state["table.rows"].copy_(step.model.lookup.table)
    state["table.squares"].zero_()
    state["lookup.bag"].copy_(step.bag_I)
    for node in module.graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cpu")}
    module.graph.recompile()
    for _ in range(3):
        step.run(lambda *_: None)
        with torch.no_grad():
            loss = module(given.dense, given.ids, given.labels)
        assert float(loss) == pytest.approx(float(step.losses[-1]), rel=1e-5)
    rows = dict(module.named_buffers())["table.rows"]
    assert torch.allclose(rows, step.model.lookup.table, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_program_passes(dtype: str, tmp_path: Path) -> None:
    checks = outcome(workload(), case(dtype), none, ReferenceCache(tmp_path))
    assert {check.name for check in checks} == set(COLUMNS)
    assert [check.fault() for check in checks if not check.ok] == []


def test_the_sizes_of_mlperf_pass_with_short_tables(tmp_path: Path) -> None:
    asked = of_preset("mlperf", batch=4, row_cap=50)
    checks = outcome(workload(), asked, none, ReferenceCache(tmp_path))
    assert [check.fault() for check in checks if not check.ok] == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_caught(defect: str, cache: ReferenceCache) -> None:
    checks = outcome(workload(), case(), DEFECTS[defect], cache)
    caught = {check.name for check in checks if not check.ok}
    assert caught
    assert CAUGHT_BY.get(defect, next(iter(caught))) in caught


def test_a_seed_gives_one_batch_and_another_gives_another() -> None:
    one, again = (drawn_batch(workload(), case()) for _ in range(2))
    params = {**case().params, "seed": 1}
    other = drawn_batch(workload(), replace(case(), params=params))
    assert one.ids.equal(again.ids) and one.labels.equal(again.labels)
    assert not one.ids.equal(other.ids)

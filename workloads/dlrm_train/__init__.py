"""``dlrm-train``: recommendation, a training step of MLPerf's DLRM-DCNv2.

The model of ``dlrm-v2`` forward and backward, and Adagrad, as MLPerf's reference trains it.
Weights, gradients and sums of squares are float32; the arithmetic is in ``dtype``. Of each table
only the rows that the batch takes are read and moved, on every backend, so a step costs what a
batch takes and not what a table holds. Rows are asked for with equal probability, and each step has
the same batch.

    tpubench run --workload dlrm-train --set batch=8192 --set row_cap=1000000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Means,
    Phase,
    Program,
    Step,
    UsageError,
    Weights,
    Work,
)
from tpubench.workloads.dlrm import DlrmV2
from tpubench.workloads.forward import size, sizes

_TABLE_BYTES = DTYPES["float32"]


class DlrmTrain(DlrmV2):
    """Training steps of DLRM with a low-rank cross network."""

    name = "dlrm-train"
    version = 1
    summary = "recommendation: a training step of MLPerf's DLRM-DCNv2, Adagrad"
    shapes: ClassVar = {**DlrmV2.shapes, "tiny": {**DlrmV2.shapes["tiny"], "top": (16, 1)}}
    batches: ClassVar = {"*": (2048, 8192)}
    trains = True

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"batch": 8}]
        cap = 1_000_000 if accelerator else 100_000
        batches = self.batches["*"] if accelerator else (128,)
        return [{"batch": batch, "row_cap": cap} for batch in batches]

    def twin(self, case: Case) -> Case:
        small = super().twin(case)
        return replace(
            small, params={**small.params, "row_cap": self.parameters["row_cap"].default}
        )

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        from tpubench.workloads.dlrm_train.step import DlrmTrainStep

        return DlrmTrainStep(self, case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.dlrm_train.parity import checks
        from tpubench.workloads.dlrm_train.step import DlrmTrainStep

        assert isinstance(step, DlrmTrainStep)
        return checks(step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        del case
        return {"step": Phase()}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase, depth
        if chips > 1:
            raise UsageError(f"{self.name} runs on one chip: its tables are not spread yet")
        from tpubench.workloads.dlrm_train.program import program

        return program(self, case)

    def rows_taken(self, case: Case) -> float:
        """Rows that a batch is expected to take, one again where samples share it: of R rows with
        equal probability, n lookups take R·(1 − (1 − 1/R)ⁿ)."""
        batch = case.number("batch")
        return sum(
            rows * (1 - (1 - 1 / rows) ** (batch * hot))
            for rows, hot in zip(self.rows(case), sizes(case, "hot"), strict=True)
        )

    def work(self, case: Case) -> Work:
        """Three times the products of a pass, but that no gradient of what comes in is needed.

        Bytes: every weight of a layer is read forward and backward; its gradient, itself and its
        sum of squares are written and read once in float32. Of the tables, each row that is taken
        is read, and itself and its sums read and written.
        """
        batch, tally = case.number("batch"), self.tally(case)
        unneeded = 2 * size(case, "dense") * sizes(case, "bottom")[0]
        row_bytes = size(case, "width") * _TABLE_BYTES
        return Work(
            items=batch,
            unit=self.unit,
            flops=batch * (3 * tally.flops - unneeded),
            bytes=tally.read * (2 * DTYPES[case.dtype] + 2 * 3 * _TABLE_BYTES)
            + round(5 * self.rows_taken(case) * row_bytes)
            + batch * self._given_bytes(case),
        )

    def _given_bytes(self, case: Case) -> int:
        """What a sample brings: its features, its rows, and what is right."""
        return sum(one.bytes(case.dtype) for one in self.inputs(case)) + _TABLE_BYTES

    def memory_bytes(self, case: Case) -> int:
        """Weights, gradients and sums of squares of the layers; of the tables rows, sums of squares
        and a number of each row; all of four bytes."""
        tally = self.tally(case)
        values = 3 * tally.read + 2 * tally.tables + sum(self.rows(case))
        return values * _TABLE_BYTES + case.number("batch") * self._given_bytes(case)

    def count(self, case: Case) -> Mapping[str, int]:
        """FLOPs and bytes of one step, counted on meta tensors."""
        from tpubench.workloads.dlrm_train.step import count

        return count(self, case)

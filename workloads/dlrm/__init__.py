"""``dlrm-v2``: recommendation, MLPerf's DLRM with DCN-v2 crossing (inference).

Naumov et al., 2019 (arXiv:1906.00091) with the low-rank cross network of Wang et al., 2021
(arXiv:2008.13535), in the sizes of MLPerf's DLRM-DCNv2 reference: 13 dense features, 26 tables of
width 128 of which a sample takes 214 rows. 204 million rows take 104 GB in float32, so tables are
cut to ``row_cap`` rows, which is part of the case. Rows are asked for with equal probability: real
requests repeat some, so caches help them more.

    tpubench run --workload dlrm-v2 --set batch=2048 --set row_cap=10000000
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case, Parameter
from tpubench.workloads.forward import Forward, Input, Tally, size, sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROWS = (
    40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282,
    10, 2_209, 11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108,
    36,
)  # fmt: skip
_HOT = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)
"""Rows of each table, and rows that a sample takes of it: MLPerf's Criteo multi-hot data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The model: its dense features, its tables, and the widths of its layers.

    rows: of each table. hot: rows that a sample takes of it.
    """

    dense: int
    width: int
    rows: Sequence[int]
    hot: Sequence[int]
    bottom: Sequence[int]
    cross: int
    rank: int
    top: Sequence[int]


class DlrmV2(Forward):
    """DLRM with a low-rank cross network."""

    name = "dlrm-v2"
    version = 1
    summary = "recommendation: MLPerf's DLRM-DCNv2, forward"
    presets: ClassVar[Mapping[str, str]] = {
        "mlperf": "26 tables of 128 of at most row_cap rows, 3 cross layers of rank 512",
        "tiny": "3 tables of 8, 2 cross layers of rank 4",
    }
    shapes: ClassVar = {
        "mlperf": {
            "dense": 13, "width": 128, "rows": _ROWS, "hot": _HOT, "bottom": (512, 256, 128),
            "cross": 3, "rank": 512, "top": (1024, 1024, 512, 256, 1),
        },
        "tiny": {
            "dense": 5, "width": 8, "rows": (40, 7, 100), "hot": (3, 1, 5), "bottom": (16, 8),
            "cross": 2, "rank": 4, "top": (16, 4),
        },
    }  # fmt: skip
    batches: ClassVar = {"*": (128, 2048, 16384)}
    parameters: ClassVar = {
        **Forward.parameters,
        "row_cap": Parameter(
            default=40_000_000, minimum=1, doc="most rows of a table; 40,000,000 cuts none"
        ),
    }

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return super().standard(preset, accelerator)
        cap = 10_000_000 if accelerator else 100_000
        batches = self.batches["*"] if accelerator else (128,)
        return [{"batch": batch, "row_cap": cap} for batch in batches]

    def rows(self, case: Case) -> list[int]:
        """Rows of each table as it is built."""
        return [min(rows, case.number("row_cap")) for rows in sizes(case, "rows")]

    def sizes(self, case: Case) -> Sizes:
        """What the module is built from."""
        return Sizes(
            dense=size(case, "dense"),
            width=size(case, "width"),
            rows=self.rows(case),
            hot=sizes(case, "hot"),
            bottom=sizes(case, "bottom"),
            cross=size(case, "cross"),
            rank=size(case, "rank"),
            top=sizes(case, "top"),
        )

    def module(self, case: Case) -> nn.Module:
        from tpubench.workloads.dlrm.model import Dlrm

        return Dlrm(self.sizes(case))

    def formula(self, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        from tpubench.workloads.dlrm.model import Dlrm, bags, formula

        assert isinstance(module, Dlrm)
        weights = dict(module.named_parameters())
        tables = [value for name, value in weights.items() if name.startswith("tables.")]
        dense_BD, ids_BI = inputs
        return formula(weights, dense_BD, bags(tables, module.hot, ids_BI))

    def inputs(self, case: Case) -> Sequence[Input]:
        hot = sizes(case, "hot")
        below = [rows for rows, many in zip(self.rows(case), hot, strict=True) for _ in range(many)]
        return [
            Input(shape=(size(case, "dense"),)),
            Input(shape=(sum(hot),), below=tuple(below)),
        ]

    def outputs(self, case: Case) -> int:
        return sizes(case, "top")[-1]

    def twin(self, case: Case) -> Case:
        small = super().twin(case)
        return replace(small, params={**small.params, "batch": 8})

    def tally(self, case: Case) -> Tally:
        tally, width = Tally(), size(case, "width")
        for rows, many in zip(self.rows(case), sizes(case, "hot"), strict=True):
            tally.table(rows, width, lookups=many)
        _layers(tally, size(case, "dense"), sizes(case, "bottom"))
        crossed = width * (1 + len(self.rows(case)))
        for _ in range(size(case, "cross")):
            tally.linear(1, crossed, size(case, "rank"), bias=False)
            tally.linear(1, size(case, "rank"), crossed)
        _layers(tally, crossed, sizes(case, "top"))
        return tally


def _layers(tally: Tally, width: int, outs: Sequence[int]) -> None:
    for out in outs:
        tally.linear(1, width, out)
        width = out

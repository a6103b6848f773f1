"""Faults that a model which is run forward can have, put into a built step on purpose.

They need no knowledge of the model: its projections, norms and results are found by their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from limits_defects import rounded
from llama_defects import around
from torch import Tensor, nn

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights

WORKLOADS = ("vit-l16", "resnet50", "embed", "dlrm-v2", "sdxl-unet")
COLUMNS = ("float32 twin", "outputs", "other inputs", "every sample")
_BATCH = 4


def case(name: str, dtype: str = "bfloat16") -> Case:
    """The small model of a workload."""
    workload = registry.workload(name)
    (chosen,) = workload.cases("tiny", {"batch": [str(_BATCH)], "dtype": [dtype]})
    return workload.prepare(chosen, Weights())


def none(step: Any) -> None:
    """The program as it is."""


def _projections(step: Any) -> list[nn.Module]:
    kinds = (nn.Linear, nn.Conv2d)
    return [module for module in step.model.modules() if isinstance(module, kinds)]


def _norms(step: Any) -> list[Any]:
    return [module for module in step.model.modules() if hasattr(module, "eps")]


def _projection_left_out(step: Any) -> None:
    """The one in the middle gives zeros."""
    layers = _projections(step)
    around(layers[len(layers) // 2], "forward", lambda plain, x: torch.zeros_like(plain(x)))


def _bias_left_out(step: Any) -> None:
    biased = [layer for layer in _projections(step) if layer.bias is not None]
    layer: Any = biased[len(biased) // 2]
    layer.bias = None


def _norm_eps(step: Any) -> None:
    for norm in _norms(step):
        norm.eps = 1e-2


def _weights_rounded(bits: int) -> Callable[[Any], None]:
    def defect(step: Any) -> None:
        for layer in _projections(step):
            weight: Any = layer.weight
            weight.copy_(rounded(weight, bits))

    return defect


def _looked_up_elsewhere(step: Any) -> None:
    """Each lookup takes the row before."""
    for table in (m for m in step.model.modules() if isinstance(m, nn.Embedding)):
        rows = table.num_embeddings
        around(table, "forward", lambda plain, ids, rows=rows: plain((ids - 1) % rows))


def _result(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return lambda step: around(
        step.model, "forward", lambda plain, *inputs: change(plain(*inputs).clone())
    )


def _one_sample(y: Tensor) -> Tensor:
    """One in the middle of the batch, which no reference is computed for."""
    if len(y) > 2:
        y[1] *= 1.1
    return y


def _first_for_all(y: Tensor) -> Tensor:
    return y[:1].expand_as(y).clone()


def _last_result_again(step: Any) -> None:
    step.run(lambda *_: None)
    kept = step.y.clone()
    around(step.model, "forward", lambda plain, *inputs: kept)


def _read_too_early(step: Any) -> None:
    _result(lambda y: torch.full_like(y, float("nan")))(step)


Defects = Mapping[str, Callable[[Any], None]]

DEFECTS: Defects = {
    "a projection left out": _projection_left_out,
    "a bias left out": _bias_left_out,
    "weights with 7 bits (int8)": _weights_rounded(6),
    "weights with 3 bits (fp8)": _weights_rounded(3),
    "one sample wrong": _result(_one_sample),
    "the first sample for all": _result(_first_for_all),
    "last result again": _last_result_again,
    "read too early": _read_too_early,
}
_NORMED: Defects = {"norm eps wrong": _norm_eps}
_TABLES: Defects = {"rows of the neighbours": _looked_up_elsewhere}


def defects(name: str) -> Defects:
    """Those that a workload can have: not every model has norms, or tables."""
    more: Defects = {} if name == "dlrm-v2" else _NORMED
    return {**DEFECTS, **more, **(_TABLES if name in {"dlrm-v2", "embed"} else {})}

"""Faults that a model which is run forward can have, put into a built step on purpose.

They need no knowledge of the model: its projections, norms and results are found by their kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from attention_defects import Replacement, replacing
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


def _input(index: int, change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    """One of the inputs is another to the model than what it was given."""

    def forward(plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        changed = list(inputs)
        changed[index] = change(inputs[index])
        return plain(*changed)

    return lambda step: around(step.model, "forward", forward)


def _within(function: Any, replacement: Replacement) -> Callable[[Any], None]:
    """The model calls another function in the place of one of torch's."""
    return lambda step: replacing(step.model, "forward", function, replacement)


def _attention_scaled(plain: Replacement, *given: Any, **named: Any) -> Tensor:
    """By the width of all heads."""
    q = given[0]
    width = q.shape[1] * q.shape[3]
    return plain(*given, **{**named, "scale": 1 / math.sqrt(width)})


def _modules(step: Any, kind: type[nn.Module]) -> list[Any]:
    return [module for module in step.model.modules() if isinstance(module, kind)]


def _norms_as_in_training(step: Any) -> None:
    """Of the batch itself, not those that training left."""
    for norm in _modules(step, nn.BatchNorm2d):
        around(
            norm,
            "forward",
            lambda plain, x, norm=norm: F.batch_norm(
                x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
            ),
        )


def _padded_by_the_edge(step: Any) -> None:
    """Convolutions see the last pixels again beyond the edge, not zeros."""
    for conv in _modules(step, nn.Conv2d):
        conv.padding_mode = "replicate"
        height, width = conv.padding
        conv._reversed_padding_repeated_twice = [width, width, height, height]


def _padding_at_the_end(step: Any) -> None:
    """A convolution that halves the image pads after it alone, as TensorFlow does."""
    for conv in _modules(step, nn.Conv2d):
        if conv.stride != (1, 1) and conv.padding != (0, 0):
            height, width = conv.padding
            conv.padding_mode = "constant"
            conv._reversed_padding_repeated_twice = [width - 1, width + 1, height - 1, height + 1]


def _groups_halved(step: Any) -> None:
    for norm in _modules(step, nn.GroupNorm):
        norm.num_groups //= 2


def _first_vector_alone(step: Any) -> None:
    """That of the first token, not the mean of all."""

    def answer(model: nn.Module, tokens_BL: Tensor) -> Tensor:
        hidden_BLD: Tensor = model(input_ids=tokens_BL).last_hidden_state
        return F.normalize(hidden_BLD[:, 0], dim=-1)

    step.model.answer = answer


def _length_not_one(step: Any) -> None:
    step.model.answer = lambda model, tokens: model(input_ids=tokens).last_hidden_state.mean(dim=1)


def _tables(step: Any) -> list[nn.Embedding]:
    return list(step.model.tables)


def _folded(step: Any) -> None:
    """Rows are hashed into three quarters of each table."""
    for table in _tables(step):
        rows = max(1, 3 * table.num_embeddings // 4)
        around(table, "forward", lambda plain, ids, rows=rows: plain(ids % rows))


def _next_table(step: Any) -> None:
    """Each table's sum stands where the next one's should."""
    around(
        step.model,
        "answer",
        lambda plain, dense, pooled: plain(
            dense, pooled.roll(step.model.tables[0].embedding_dim, dims=1)
        ),
    )


def _repeated_rows_once(step: Any) -> None:
    """A row that a sample takes twice of a table counts once."""
    for table in _tables(step):

        def forward(plain: Callable[[Tensor], Tensor], ids_BH: Tensor) -> Tensor:
            before = torch.ones(ids_BH.shape[1], ids_BH.shape[1]).tril(-1).bool()
            again = ((ids_BH.unsqueeze(2) == ids_BH.unsqueeze(1)) & before).any(dim=2)
            return plain(ids_BH) * ~again.unsqueeze(2)

        around(table, "forward", forward)


def _crossed_with_itself(step: Any) -> None:
    """Each crossing multiplies by its own input, not by the first."""
    for cross in step.model.cross:
        around(cross, "forward", lambda plain, x, first: plain(x, x))


Defects = Mapping[str, Callable[[Any], None]]

_IMAGE: Defects = {
    "rows and columns swapped": _input(0, lambda x: x.transpose(2, 3).contiguous()),
    "colours in the other order": _input(0, lambda x: x.flip(1)),
}
_ATTENTION: Defects = {
    "attention scaled by all heads": _within(F.scaled_dot_product_attention, _attention_scaled),
    "another gelu": _within(F.gelu, lambda plain, x, *_, **__: x * torch.sigmoid(1.702 * x)),
}
_OWN: Mapping[str, Defects] = {
    "vit-l16": {**_IMAGE, **_ATTENTION},
    "resnet50": {
        **_IMAGE,
        "batch norms as in training": _norms_as_in_training,
        "padded by the edge": _padded_by_the_edge,
        "padding at the end": _padding_at_the_end,
        "mean for the largest when pooled": _within(
            F.max_pool2d, lambda plain, x, *given, **_: F.avg_pool2d(x, 3, stride=2, padding=1)
        ),
    },
    "embed": {
        **_ATTENTION,
        "the first token's vector": _first_vector_alone,
        "length not one": _length_not_one,
    },
    "dlrm-v2": {
        "rows hashed together": _folded,
        "sums of the next table": _next_table,
        "a repeated row counts once": _repeated_rows_once,
        "crossed with its own input": _crossed_with_itself,
    },
    "sdxl-unet": {
        **_ATTENTION,
        "one step later": _input(1, lambda step: (step + 1) % 1000),
        "text of another prompt": _input(2, lambda text: text.roll(1, 0)),
        "last token of the text left out": _input(2, lambda text: text[:, :-1]),
        "size of the image left out": _input(4, torch.zeros_like),
        "groups of a norm halved": _groups_halved,
        "bilinear for nearest": _within(
            F.interpolate,
            lambda plain, x, *given, **named: plain(
                x, *given, **{**named, "mode": "bilinear", "align_corners": False}
            ),
        ),
    },
}

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
    tables: Defects = _TABLES if name in {"dlrm-v2", "embed"} else {}
    return {**DEFECTS, **more, **tables, **_OWN[name]}

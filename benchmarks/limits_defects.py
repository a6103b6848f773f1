"""Faults that ``gemm``, ``hbm``, ``attention`` and ``h2d`` can have, put into a step on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from llama_defects import around
from torch import Tensor

from tpubench.suite import registry
from tpubench.suite.workload import Case

_PRESETS = {"gemm": "square-512", "attention": "tiny", "h2d": "pageable"}


def case(name: str, **settings: object) -> Case:
    """One case of a workload, by its settings."""
    texts = {key: [str(value)] for key, value in settings.items()}
    preset = _PRESETS.get(name) or str(settings.get("kernel"))
    return registry.workload(name).cases(preset, texts)[0]


def none(step: Any) -> None:
    """The program as it is."""


def _product(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return lambda step: around(step.layer, "forward", lambda plain, x: change(plain(x).clone()))


def rounded(tensor: Tensor, bits: int) -> Tensor:
    scale = 2.0 ** (torch.frexp(tensor).exponent - 1 - bits).float()
    return ((tensor / scale).round() * scale).to(tensor.dtype)


def operands_rounded(bits: int) -> Callable[[Any], None]:
    """Operands with so many bits after the point, as TF32 (10), bfloat16 (7) and fp8 (3) have."""

    def defect(step: Any) -> None:
        def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            return plain(rounded(x, bits))

        with torch.no_grad():
            (weight,) = step.layer.parameters()
            weight.copy_(rounded(weight, bits))
        around(step.layer, "forward", inside)

    return defect


def _element(c_MN: Tensor) -> Tensor:
    c_MN[-3, -2] *= 1.5
    return c_MN


def _last_row(c_MN: Tensor) -> Tensor:
    c_MN[-1] = 0
    return c_MN


def half_of_k(step: Any) -> None:
    """Products summed over half of the columns, and doubled."""

    def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        half = x.clone()
        half[:, half.shape[1] // 2 :] = 0
        return 2 * plain(half)

    around(step.layer, "forward", inside)


def summed_in_bfloat16(step: Any) -> None:
    """Blocks of 32 columns, each sum rounded."""
    (weight,) = step.layer.parameters()

    def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.bfloat16)
        for a, b in zip(torch.split(x, 32, 1), torch.split(weight, 32, 1), strict=True):
            total = total + F.linear(a, b).bfloat16()
        return total.to(x.dtype)

    around(step.layer, "forward", inside)


def added_to_the_last_product(step: Any) -> None:
    """A tile is not emptied before it is summed."""
    kept: list[Tensor] = []

    def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        c_MN = plain(x).clone()
        if kept:
            c_MN[-64:, -64:] += kept[0][-64:, -64:]
        kept[:] = [c_MN]
        return c_MN

    around(step.layer, "forward", inside)


def _moved_by_one(step: Any) -> None:
    """What is written begins one element late."""

    def kernel(plain: Callable[[], None]) -> None:
        plain()
        step.target.copy_(step.target.roll(1))

    around(step, "_kernel", kernel)


def last_product_again(step: Any) -> None:
    """Right at first, and never computed again: only other operands show it."""
    step.run(lambda *_: None)
    kept = step.c_MN.clone()
    around(step.layer, "forward", lambda plain, x: kept)


def nothing_the_second_time(step: Any) -> None:
    """What it left is right, since nothing changes between passes: only other values show it."""
    step.run(lambda *_: None)
    around(step, "_kernel", lambda plain: None)


def one_element_wrong(step: Any) -> None:
    """Of what is written; a sum is one number anyway."""

    def kernel(plain: Callable[[], None]) -> None:
        plain()
        step.target[-3] += 1

    around(step, "_kernel", kernel)


def half_an_array(step: Any) -> None:
    """The second half is neither read nor written."""

    def kernel(plain: Callable[[], None]) -> None:
        target = step.target.clone()
        plain()
        half = len(target) // 2
        step.target[half:] = target[half:]
        step.total = step.source[:half].sum(dtype=torch.float32)

    around(step, "_kernel", kernel)


def _attended(change: Callable[..., Tensor]) -> Callable[[Any], None]:
    """``change(plain, module, queries)`` in place of attention."""
    return lambda step: around(
        step.attend, "forward", lambda plain, queries: change(plain, step.attend, queries)
    )


def _shared(queries: Tensor, keys: Tensor) -> bool:
    return queries.shape[1] != keys.shape[1]


def _sees_all(plain: Any, module: Any, queries: Tensor) -> Tensor:
    shared = _shared(queries, module.keys)
    return F.scaled_dot_product_attention(queries, module.keys, module.values, enable_gqa=shared)


def _mask_one_off(plain: Any, module: Any, queries: Tensor) -> Tensor:
    """Every token sees the next one too."""
    length, shared = queries.shape[2], _shared(queries, module.keys)
    seen = torch.ones(length, length, dtype=torch.bool).tril(diagonal=1)
    return F.scaled_dot_product_attention(
        queries, module.keys, module.values, attn_mask=seen, enable_gqa=shared
    )


def _last_key_left_out(plain: Any, module: Any, queries: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, module.keys[:, :, :-1], module.values[:, :, :-1])


def _scaled_by_all_heads(plain: Any, module: Any, queries: Tensor) -> Tensor:
    """1/√(N·H)."""
    heads = (
        queries.shape[1] if _shared(queries, module.keys) else queries.shape[1] * queries.shape[2]
    )
    attended: Tensor = plain(queries / heads**0.5)
    return attended


def _first_key_left_out(plain: Any, module: Any, queries: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, module.keys[:, :, 1:], module.values[:, :, 1:])


def _half_a_window(plain: Any, module: Any, queries: Tensor) -> Tensor:
    """A token sees half of what came before it, the newer half of the context at most."""
    keys, values = module.keys, module.values
    context = keys.shape[2]
    if queries.shape[2] != context:
        half = context // 2
        return F.scaled_dot_product_attention(queries, keys[:, :, half:], values[:, :, half:])
    seen = torch.ones(context, context, dtype=torch.bool).tril().triu(1 - context // 2)
    shared = _shared(queries, keys)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, enable_gqa=shared)


def _heads_in_turn(plain: Any, module: Any, queries: Tensor) -> Tensor:
    """Query heads take key/value heads in turn, not one group after another."""
    B, N, L, H = queries.shape
    K = module.keys.shape[1]
    attended: Tensor = plain(queries.view(B, N // K, K, L, H).transpose(1, 2).reshape(B, N, L, H))
    return attended


def _last_result_again(step: Any) -> None:
    step.run(lambda *_: None)
    kept = step.y.clone()
    around(step.attend, "forward", lambda plain, queries: kept)


def _wrong_result(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return _attended(lambda plain, module, queries: change(plain(queries).clone()))


def _one_result_wrong(y: Tensor) -> Tensor:
    y[-1, -1, -1, -3] *= 1.5
    return y


def _last_query_not_computed(y: Tensor) -> Tensor:
    y[:, :, -1] = 0
    return y


def copied(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """``change`` the step after each copy."""

    def defect(step: Any) -> None:
        def inside(plain: Callable[[], None]) -> None:
            plain()
            change(step)

        around(step, "_copy", inside)

    return defect


def _wrong_copy(step: Any) -> None:
    step.target[-3] += 1


def _half_a_copy(step: Any) -> None:
    step.target[len(step.target) // 2 :] = 0


def _no_further_copy(step: Any) -> None:
    step.run(lambda *_: None)
    around(step, "_copy", lambda plain: None)


def read_too_early(step: Any) -> None:
    """What the memory held before the device came to it."""

    def poison(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        for name in ("c_MN", "target", "total", "y"):
            if hasattr(step, name):
                setattr(step, name, torch.full_like(getattr(step, name), float("nan")))

    around(step, "run", poison)


Defects = Mapping[str, Callable[[Any], None]]

GEMM: Defects = {
    "one wrong element": _product(_element),
    "last row not computed": _product(_last_row),
    "half of k": half_of_k,
    "operands with 3 bits (fp8)": operands_rounded(3),
    "added to the last product": added_to_the_last_product,
    "summed in bfloat16": summed_in_bfloat16,
    "last product again": last_product_again,
    "read too early": read_too_early,
}
FLOAT32_GEMM: Defects = {
    **GEMM,
    "operands with 10 bits (TF32)": operands_rounded(10),
    "operands with 7 bits (bfloat16)": operands_rounded(7),
}
"""Where the device says that its float32 products are float32."""
READ: Defects = {
    "half an array": half_an_array,
    "nothing the second time": nothing_the_second_time,
    "read too early": read_too_early,
}
WRITE: Defects = {"one element wrong": one_element_wrong, "moved by one": _moved_by_one, **READ}
ATTENTION: Defects = {
    "scaled by all heads": _attended(_scaled_by_all_heads),
    "sliding window": _attended(_half_a_window),
    "softmax scale wrong": _attended(lambda plain, module, queries: plain(1.1 * queries)),
    "one wrong element": _wrong_result(_one_result_wrong),
    "last query not computed": _wrong_result(_last_query_not_computed),
    "last result again": _last_result_again,
    "read too early": read_too_early,
}
PREFILL: Defects = {
    "not causal": _attended(_sees_all),
    "mask one off": _attended(_mask_one_off),
    "heads shared in turn": _attended(_heads_in_turn),
    "queries with 3 bits (fp8)": _attended(
        lambda plain, module, queries: plain(rounded(queries, 3))
    ),
    **ATTENTION,
}
DECODE: Defects = {
    "last key left out": _attended(_last_key_left_out),
    "first key left out": _attended(_first_key_left_out),
    **ATTENTION,
}
H2D: Defects = {
    "one element wrong": copied(_wrong_copy),
    "half an array": copied(_half_a_copy),
    "nothing the second time": _no_further_copy,
    "read too early": read_too_early,
}
BENCH: tuple[tuple[Case, Defects], ...] = (
    (case("gemm", dtype="bfloat16"), GEMM),
    (case("gemm", dtype="float32"), FLOAT32_GEMM),
    (case("hbm", kernel="read", mib=1), READ),
    (case("hbm", kernel="copy", mib=1), WRITE),
    (case("hbm", kernel="triad", mib=1), WRITE),
    (case("attention", phase="prefill", dtype="bfloat16"), PREFILL),
    (case("attention", phase="prefill", dtype="float32"), PREFILL),
    (case("attention", phase="decode", dtype="bfloat16"), DECODE),
    (case("h2d", direction="to-device", mib=1), H2D),
    (case("h2d", direction="to-host", mib=1), H2D),
)
"""Cases, and the defects that each is held to."""


def label(case: Case) -> str:
    """What tells a case of one workload from the others, in a table."""
    traits = [case.params[key] for key in ("kernel", "phase", "direction") if key in case.params]
    if case.workload in {"gemm", "attention"}:
        traits.append(case.dtype)
    return " ".join(map(str, traits))

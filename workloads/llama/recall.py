"""Teacher-forced passes, each sequence's remembered by itself from one repetition to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Means, sha256_of
from tpubench.workloads.llama import reference as reference
from tpubench.workloads.llama.quantized import Held, held
from tpubench.workloads.llama.reference import Forced, Place, Task
from tpubench.workloads.llama.weights import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ToForce:
    """Sequences to be forced, and how."""

    rows: Sequence[int]
    dtype: torch.dtype
    keep: tuple[int, ...]
    exact: bool
    narrow: bool = False


def recalled(
    holding: Held,
    weights: Source,
    ids_BL: Tensor,
    judged_from: int,
    asked: Sequence[ToForce],
    means: Means,
    routing: Tensor | None = None,
) -> list[Forced | None]:
    """What each question is answered, None for one about no sequence.

    routing: [B, L, layers with experts, k], the experts that every sequence's tokens took.

    Every sequence is remembered by itself: which ones are drawn changes from one repetition to the
    next, what they generate does not.
    """
    where = place(means)
    common = {
        "source": sha256_of(Forced, type(weights)),
        "weights": weights.identity(),
        "held": holding.name(),
        "device": torch.device(where.device).type,
    }
    known: dict[tuple[int, int], Forced] = {}
    keys: dict[tuple[int, int], dict[str, object]] = {}
    for number, one in enumerate(asked):
        for row in one.rows:
            tokens = ids_BL[row].numpy().tobytes()
            keys[number, row] = {
                **common,
                "dtype": str(one.dtype) + (", fp8" if one.narrow else ""),
                "precision": "exact" if one.exact else means.float32_precision,
                "tokens": hashlib.sha256(tokens).hexdigest(),
                "judged_from": judged_from,
                "keep": list(one.keep),
            }
            if routing is not None:
                route = routing[row].numpy().tobytes()
                keys[number, row]["routing"] = hashlib.sha256(route).hexdigest()
            tensors = means.references.recall(keys[number, row])
            if tensors is not None:
                known[number, row] = Forced(**tensors)
    missing = [[row for row in one.rows if (n, row) not in known] for n, one in enumerate(asked)]
    tasks = [
        Task(
            ids=ids_BL[rows],
            dtype=one.dtype,
            keep=one.keep,
            exact=one.exact,
            narrow=one.narrow,
            routing=None if routing is None else routing[rows],
        )
        for one, rows in zip(asked, missing, strict=True)
        if rows
    ]
    answers = iter(
        reference.force(
            weights,
            tasks,
            judged_from=judged_from,
            held=holding,
            place=where,
        )
        if tasks
        else []
    )
    for number, rows in enumerate(missing):
        if not rows:
            continue
        answer = next(answers)
        for index, row in enumerate(rows):
            one_row = Forced(
                logits=answer.logits[index],
                regret=answer.regret[index],
                routing=answer.routing[index],
            )
            known[number, row] = one_row
            said = {
                "logits": one_row.logits,
                "regret": one_row.regret,
                "routing": one_row.routing,
            }
            means.references.keep(keys[number, row], said)
    return [
        Forced(
            logits=torch.stack([known[number, row].logits for row in one.rows]),
            regret=torch.stack([known[number, row].regret for row in one.rows]),
            routing=torch.stack([known[number, row].routing for row in one.rows]),
        )
        if one.rows
        else None
        for number, one in enumerate(asked)
    ]


def eager(case: Case, means: Means) -> tuple[torch.dtype, bool] | None:
    """How to compute what the precision of a case costs: a dtype, and whether its float32 is exact.

    None where there is nothing to cost: exact float32. A TPU's float32 that is multiplied in
    bfloat16 is measured by a bfloat16 run: torch_xla would take the program that it compiled for
    exact float32 for the same one, since their recordings are alike.
    """
    dtype = held(case).dtype
    if dtype is not torch.float32:
        return dtype, True
    return {
        "float32": None,
        "tf32": (torch.float32, False),
        "bfloat16": (torch.bfloat16, True),
    }[means.float32_precision]


def floor(case: Case, means: Means) -> float:
    """Error allowed where an eager run errs less, as a very shallow one does."""
    dtype = str(held(case).dtype).removeprefix("torch.")
    stated = means.float32_precision if dtype == "float32" else dtype
    return {"float32": 1e-4, "tf32": 2e-3}.get(stated, 5e-3)


def place(means: Means) -> Place:
    """The device itself when it is an accelerator, else the host."""
    if not means.accelerator:
        return Place()
    device = means.device.torch_device
    return Place(device=device, flush=means.flush, exact=means.exact_float32)

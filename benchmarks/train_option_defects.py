"""Faults of gradient clipping, learning-rate schedules and accumulation, put into a program.

As ``llama_train_defects.py``; the case asks for all three at once.
"""

from __future__ import annotations

from collections.abc import Callable

import llama_train_defects as full
import torch
from llama_defects import around
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama_pretrain.step import TrainStep, scheduled

OPTIONS: dict[str, int | str] = {
    "clip": "0.1",
    "schedule": "cosine",
    "warmup": 4,
    "accumulate": 2,
    "recompute": "full",
}


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    name: str = "llama-pretrain",
    **settings: int | str,
) -> Case:
    """That workload with a model of so many layers, and the options on."""
    return full.case(depth, width, tied=tied, name=name, **{**OPTIONS, **settings})


def clipping_left_out(step: TrainStep) -> None:
    around(step, "clip", lambda plain, most: None)


def clipped_to_twice_the_norm(step: TrainStep) -> None:
    around(step, "clip", lambda plain, most: plain(2 * most))


def each_weight_clipped_by_itself(step: TrainStep) -> None:
    def clip(plain: Callable[[float], None], most: float) -> None:
        for _, parameter in step.trained():
            torch.nn.utils.clip_grad_norm_(parameter, most)

    around(step, "clip", clip)


def _steps_off(step: TrainStep, steps: int) -> None:
    def set_rate(plain: Callable[[Tensor], None], rate: Tensor) -> None:
        plain(rate)
        rate.copy_(scheduled(step.settings, step.taken + steps))

    around(step, "set_rate", set_rate)


def schedule_one_step_late(step: TrainStep) -> None:
    _steps_off(step, -1)


def schedule_one_step_early(step: TrainStep) -> None:
    _steps_off(step, 1)


def rate_stays_as_it_began(step: TrainStep) -> None:
    around(step, "set_rate", lambda plain, rate: None)


def accumulation_not_averaged(step: TrainStep) -> None:
    """Each part counts as if it were the whole batch."""
    around(step.model, "forward", lambda plain, *inputs: plain(*inputs) * step.accumulate)


def _parts(step: TrainStep, wanted: Callable[[int], bool]) -> None:
    """Only the losses of some parts of a batch have a gradient."""
    number = 0

    def forward(plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        nonlocal number
        loss = plain(*inputs)
        part, number = number % step.accumulate, number + 1
        return loss if wanted(part) else loss.detach() + 0 * loss

    around(step.model, "forward", forward)


def first_part_alone_has_gradients(step: TrainStep) -> None:
    _parts(step, lambda part: part == 0)


def last_part_alone_has_gradients(step: TrainStep) -> None:
    _parts(step, lambda part: part == step.accumulate - 1)


def same_part_twice(step: TrainStep) -> None:
    """Its sequences are those of the first part each time."""
    first: list[tuple[Tensor, ...]] = []

    def forward(plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        first.append(inputs)
        chosen = first[0]
        if len(first) == step.accumulate:
            first.clear()
        return plain(*chosen)

    around(step.model, "forward", forward)


DEFECTS: dict[str, Callable[[TrainStep], None]] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        clipping_left_out,
        clipped_to_twice_the_norm,
        each_weight_clipped_by_itself,
        schedule_one_step_late,
        schedule_one_step_early,
        rate_stays_as_it_began,
        accumulation_not_averaged,
        first_part_alone_has_gradients,
        last_part_alone_has_gradients,
        same_part_twice,
    )
}

"""A generating program run once more on its own tokens: its logits, and with a poisoned cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpubench.workloads.llama.model import KVCache
from tpubench.workloads.llama.step import LlamaStep

POISON = {torch.float16: 1e2}
"""What unfilled slots hold; 1e4 but for a precision in which scores of attention would overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a program gave, on the CPU.

    ids: [B, L], the prompts and every token of the last pass after them. judged_from: length of
    the prompts. drawn: sequences whose logits were kept. kept: positions after which they were
    taken. logits, poisoned: [drawn, kept, V] float32, as the cache stood, and with huge values
    wherever this sequence had written nothing yet. routing: [B, L, layers with experts, k], which
    experts each token took, the last one's (which was not fed) left at 0; None without experts.
    """

    ids: Tensor
    judged_from: int
    drawn: list[int]
    kept: list[int]
    logits: Tensor
    poisoned: Tensor
    routing: Tensor | None


@torch.no_grad()
def observe(step: LlamaStep, drawn: Sequence[int]) -> Observed:
    """Run the program again on the tokens of its last pass."""
    tokens, last = step.tokens, step.output_len - 1
    first = [output for output in (1, 2) if output < last]
    chosen = torch.tensor(drawn, device=step.prompt_BL.device)

    def beginning() -> list[Tensor]:
        return [of_drawn(step.prefill()), *(after(output) for output in first)]

    def after(output: int) -> Tensor:
        return of_drawn(step.decode(tokens[output - 1], output - 1))

    def of_drawn(logits_BV: Tensor) -> Tensor:
        rows = logits_BV[chosen].clone()  # before the next replay writes into the same tensor
        step.flush()
        return rows

    clean = beginning() + [after(last) for _ in range(min(1, last))]
    routing = step.routing()
    step.flush()  # before the records are overwritten, their memory perhaps given away
    end = []
    if last:
        # All slots before this one are filled by the pass; this one is written by the step.
        poison(step.cache, step.prompt_BL.shape[1] + last - 1)
        end = [after(last)]
    poison(step.cache, 0)
    dirty = beginning() + end
    generated = torch.cat(tokens, dim=1)
    clean_BPV, dirty_BPV = torch.stack(clean, dim=1), torch.stack(dirty, dim=1)
    step.barrier()
    length = step.prompt_BL.shape[1]
    outputs = [0, *first, *[last] * min(1, last)]
    return Observed(
        ids=torch.cat([step.prompt_BL.cpu(), generated.cpu()], dim=1),
        judged_from=length,
        drawn=list(drawn),
        kept=[length - 1 + output for output in outputs],
        logits=clean_BPV.to("cpu", torch.float32),
        poisoned=dirty_BPV.to("cpu", torch.float32),
        routing=None if routing is None else _fed(routing.cpu(), length + last),
    )


def _fed(routing: Tensor, tokens: int) -> Tensor:
    """The routes of the tokens that were fed, and zeros for the last one."""
    last = torch.zeros_like(routing[:, :1])
    return torch.cat((routing[:, :tokens], last), dim=1)


def poison(cache: KVCache, first: int) -> None:
    """Fill the cache from slot ``first`` on, in place."""
    for buffer in cache.buffers():
        slot_S = torch.arange(buffer.shape[2], device=buffer.device)
        spoilt = torch.where(
            (slot_S >= first).view(1, 1, -1, 1), POISON.get(buffer.dtype, 1e4), buffer
        )
        buffer.copy_(spoilt)

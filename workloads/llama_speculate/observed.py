"""The first and the last round of a pass run once more on their own tokens, and poisoned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tpubench.workloads.llama.observed import poison
from tpubench.workloads.llama_speculate.acceptance import positions
from tpubench.workloads.llama_speculate.step import Round, SpeculativeStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """One model's logits on the CPU: [drawn, P, V] float32 after the P positions ``kept``, as the
    caches stood and with huge values wherever a sequence had written nothing yet."""

    kept: list[int]
    logits: Tensor
    poisoned: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRounds:
    """What a pass gave, on the CPU.

    ids: [B, L + new], prompts and kept tokens. ending: the same up to the newest token before the
    last round, then all that it proposed: what its logits follow. by_target: of each token after
    the prompts, whether the target chose it, in ``ids`` and in ``ending``. verified: [B, k + 1] of
    the last round. miscounted: rounds whose count of agreeing drafts is not what their tokens say.
    """

    ids: Tensor
    ending: Tensor
    by_target: Tensor
    ending_by_target: Tensor
    verified: Tensor
    kept: list[int]
    miscounted: int
    length: int
    target: Logits
    draft: Logits | None


@torch.no_grad()
def observe(step: SpeculativeStep, drawn: Sequence[int]) -> ObservedRounds:
    """Run rounds again; ``drawn``: sequences whose logits are kept.

    The last round goes first: each round overwrites the slots from its own position on.
    """
    first, last = step.rounds[0], step.rounds[-1]
    rows = torch.tensor(drawn, device=step.prompt_BL.device)
    length, kept = step.prompt_BL.shape[1], [done.kept for done in step.rounds]
    begins, *_, ends = (length, *positions(length, kept))  # by what was kept, not by the program
    clean_end = _again(step, last, rows)
    _poison(step, ends)
    dirty_end = _again(step, last, rows)
    clean = _beginning(step, first, rows)
    _poison(step, 0)
    dirty = _beginning(step, first, rows)
    step.barrier()

    ids = torch.cat((step.prompt_BL.cpu(), step.tokens()), dim=1)
    k, more = step.draft_tokens, len(step.rounds) > 1
    begun = [length - 1] + [begins + j for j in range(first.kept + 1)] * more
    proposed = [begins + j for j in range(min(first.kept + 1, k))] * more
    ended = [ends + j for j in range(k + 1)]
    origins = [True]
    for done in step.rounds[:-1]:
        origins += [False] * done.kept + [True]
    return ObservedRounds(
        ids=ids,
        ending=torch.cat((ids[:, : ends + 1], last.drafts.cpu()), dim=1),
        by_target=torch.tensor([*origins, *[False] * last.kept, True]),
        ending_by_target=torch.tensor([*origins, *[False] * k]),
        verified=last.verified.cpu(),
        kept=kept,
        miscounted=sum(_miscounted(done) for done in step.rounds),
        length=length,
        target=_logits(
            begun + ended, (clean.target, clean_end.target), (dirty.target, dirty_end.target)
        ),
        draft=None
        if step.draft_cache is None
        else _logits(
            proposed + ended[:-1], (clean.draft, clean_end.draft), (dirty.draft, dirty_end.draft)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """Logits [drawn, P, V] on the device of one stretch."""

    target: Tensor
    draft: Tensor


def _again(step: SpeculativeStep, done: Round, rows: Tensor) -> _Again:
    """One round on the tokens that it had."""
    drafted: list[Tensor] = []

    def watch(logits_BV: Tensor) -> Tensor:
        drafted.append(logits_BV[rows].clone())  # before the next replay writes into the same one
        step.flush()
        return done.drafts[:, len(drafted) - 1 :][:, :1]

    step.propose(done.spot, done.before, done.drafts, watch)
    target = step.verify(done.spot, done.given())[rows].clone()
    step.flush()
    return _Again(target=target, draft=torch.stack(drafted, dim=1) if drafted else target[:, :0])


def _beginning(step: SpeculativeStep, first: Round, rows: Tensor) -> _Again:
    """The prompt and the first round, as far as its tokens were kept; the prompt alone where the
    first round is the last."""
    prompt = step.prefill()[rows].clone().unsqueeze(1)
    step.flush()
    if len(step.rounds) == 1:
        return _Again(target=prompt, draft=prompt[:, :0])
    again = _again(step, first, rows)
    target = torch.cat((prompt, again.target[:, : first.kept + 1]), dim=1)
    return _Again(target=target, draft=again.draft[:, : first.kept + 1])


def _logits(kept: list[int], clean: tuple[Tensor, Tensor], dirty: tuple[Tensor, Tensor]) -> Logits:
    return Logits(
        kept=kept,
        logits=torch.cat(clean, dim=1).to("cpu", torch.float32),
        poisoned=torch.cat(dirty, dim=1).to("cpu", torch.float32),
    )


def _miscounted(done: Round) -> bool:
    drafts_Bk, verified_BJ = done.drafts.cpu(), done.verified.cpu()
    same_Bk = (drafts_Bk == verified_BJ[:, :-1]).int()
    return not torch.equal(same_Bk.cumprod(dim=1).sum(dim=1), done.agreed.cpu().long())


def _poison(step: SpeculativeStep, position: int) -> None:
    """Spoil the caches from the first slot on that a round at ``position`` writes."""
    poison(step.target_cache, position)
    if step.draft_cache is not None:  # which takes the token before the newest as well
        poison(step.draft_cache, max(0, position - 1))

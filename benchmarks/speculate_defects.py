"""Faults that speculative decoding can have, put into a real program on purpose.

Each defect changes a built step in place; a twin is built with the same defect. They are what
``parity_defects.py`` tabulates and the tests hold the parity checks to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import llama_defects
import torch
import torch.nn.functional as F
from llama_defects import around, with_attention
from torch import Tensor

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.llama.step import LlamaStep
from tpubench.workloads.llama_speculate.step import Round, SpeculativeStep, Spot

Defect = Callable[[SpeculativeStep], None]


def case(depth: int, width: int, *, tied: bool = False, **settings: int | str) -> Case:
    """``llama-speculate`` with a target of that shape and the draft of ``tiny``."""
    workload = registry.workload("llama-speculate")
    texts = {key: [str(value)] for key, value in settings.items()}
    (tiny,) = workload.cases("tiny", {"batch": ["4"], **texts})
    prepared = workload.prepare(tiny, Weights())
    vocab = int(cast(int, prepared.shape["vocab"]))
    config = replace(llama_defects.shape(depth, width, tied=tied), vocab=vocab)
    return replace(prepared, preset=f"{depth} layers", shape=config.to_json())


def target(step: SpeculativeStep) -> LlamaStep:
    """The target as the defects of a single model know one."""
    return cast(LlamaStep, SimpleNamespace(model=step.pair.target, weights=step.weights))


def draft(step: SpeculativeStep) -> LlamaStep:
    return cast(LlamaStep, SimpleNamespace(model=step.pair.draft, weights=step.draft_weights))


def missing_layer(step: SpeculativeStep) -> None:
    llama_defects.missing_layer(target(step))


def missing_layer_when_deep(step: SpeculativeStep) -> None:
    llama_defects.missing_layer_when_deep(target(step))


def rope_theta_wrong(step: SpeculativeStep) -> None:
    llama_defects.rope_theta_wrong(target(step))


def missing_layer_of_the_draft(step: SpeculativeStep) -> None:
    llama_defects.last_layer_missing(draft(step))


def rope_backwards_in_the_draft(step: SpeculativeStep) -> None:
    llama_defects.rope_backwards(draft(step))


def draft_with_fp8_weights(step: SpeculativeStep) -> None:
    llama_defects.fp8_weights(draft(step))


def _spots(step: SpeculativeStep, change: Callable[[Spot], Spot]) -> None:
    step.spots = [change(spot) for spot in step.spots]
    around(step, "spot", lambda plain, position: change(plain(position)))


def verified_one_position_late(step: SpeculativeStep) -> None:
    _spots(step, lambda spot: replace(spot, verifying=spot.verifying + 1))


def drafted_one_position_late(step: SpeculativeStep) -> None:
    _spots(step, lambda spot: replace(spot, drafting=[at + 1 for at in spot.drafting]))


def a_refused_token_stays_in_the_caches(step: SpeculativeStep) -> None:
    """From the first refusal on every round begins one position later: no whole roll-back."""
    k, plain = step.draft_tokens, step.spot
    refused = [any(kept < k for kept in step.kept[:index]) for index in range(len(step.kept))]
    step.spots = [
        plain(spot.position + late) for spot, late in zip(step.spots, refused, strict=True)
    ]

    def spot(place: Callable[[int], Spot], position: int) -> Spot:
        return place(position + any(done.kept < k for done in step.rounds))

    around(step, "spot", spot)


def draft_never_takes_its_last_proposal(step: SpeculativeStep) -> None:
    """Where all were kept, its cache lacks the last of them."""
    _spots(step, lambda spot: replace(spot, drafting=[spot.drafting[0][1:], *spot.drafting[1:]]))

    def propose(plain: Callable[..., Tensor], spot: Spot, before_B2: Tensor, *rest: Any) -> Tensor:
        return plain(spot, before_B2[:, 1:], *rest)

    around(step, "propose", propose)


def refused_proposals_counted(step: SpeculativeStep) -> None:
    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        step.rounds = [replace(done, kept=step.draft_tokens) for done in step.rounds]

    around(step, "run", run)


def keeps_less_than_pinned(step: SpeculativeStep) -> None:
    """A program that judges by its own random weights: nothing agrees, and rounds are many."""
    step.kept[0] = max(0, step.kept[0] - 1)
    around(step, "run", lambda plain, mark: step.run_verified())


def verification_skipped(step: SpeculativeStep) -> None:
    """The target passes over the newest token alone; the proposals are taken for its choices."""

    def verify(plain: Callable[..., Tensor], spot: Spot, given_BJ: Tensor) -> Tensor:
        newest = replace(spot, verifying=spot.verifying[:1])
        first_B1V = plain(newest, given_BJ[:, :1])
        taken = F.one_hot(given_BJ[:, 1:], first_B1V.shape[2]).to(first_B1V.dtype)
        return torch.cat((taken, first_B1V), dim=1)

    around(step, "verify", verify)


def refused_proposals_not_verified(step: SpeculativeStep) -> None:
    """The target passes over what will be kept alone: less work than was stated."""

    def verify(plain: Callable[..., Tensor], spot: Spot, given_BJ: Tensor) -> Tensor:
        kept = {at.position: n for at, n in zip(step.spots, step.kept, strict=True)}
        few = kept.get(spot.position, 0) + 1
        tokens, at = given_BJ[:, :few], spot.verifying[:few]
        logits_BLV = step._target(tokens, at, spot.position + few, every=True)
        again = logits_BLV[:, -1:].expand(-1, given_BJ.shape[1] - few, -1)
        return torch.cat((logits_BLV, again), dim=1)

    around(step, "verify", verify)


def verification_not_causal(step: SpeculativeStep) -> None:
    """Each position sees every proposal, those after it too."""

    def change(settings: dict[str, Any]) -> dict[str, Any]:
        mask = settings.get("attn_mask")
        return settings if mask is None else {**settings, "attn_mask": mask[-1:].expand_as(mask)}

    with_attention(step.pair.target, change)


def next_token_of_the_first_position(step: SpeculativeStep) -> None:
    """The token after the newest goes on, not the one after the last that was kept."""

    def after(plain: Callable[..., Tensor], done: Round, kept_1: Tensor) -> Tensor:
        return torch.cat((plain(done, kept_1)[:, :1], done.verified[:, :1]), dim=1)

    around(step, "after", after)


def one_more_agrees(step: SpeculativeStep) -> None:
    def agreed(plain: Callable[..., Tensor], *given: Tensor) -> Tensor:
        return (plain(*given) + 1).clamp(max=step.draft_tokens)

    around(step, "agreed", agreed)


def nothing_agrees(step: SpeculativeStep) -> None:
    around(step, "agreed", lambda plain, *given: torch.zeros_like(plain(*given)))


def all_proposals_accepted(step: SpeculativeStep) -> None:
    """Whatever the target would have chosen."""

    def agreed(plain: Callable[..., Tensor], *given: Tensor) -> Tensor:
        return torch.full_like(plain(*given), step.draft_tokens)

    around(step, "agreed", agreed)


def second_best_accepted(step: SpeculativeStep) -> None:
    """A proposal counts as the target's choice if it is among its two best."""

    def verify(plain: Callable[..., Tensor], spot: Spot, given_BJ: Tensor) -> Tensor:
        logits_BJV = plain(spot, given_BJ)
        best = logits_BJV[:, :-1].topk(2, dim=-1)
        near = (best.indices == given_BJ[:, 1:].unsqueeze(2)).any(dim=2, keepdim=True)
        raised = F.one_hot(given_BJ[:, 1:], logits_BJV.shape[2]) * near * 100
        last = torch.zeros_like(raised[:, :1])
        return logits_BJV + torch.cat((raised, last), dim=1).to(logits_BJV.dtype)

    around(step, "verify", verify)


def verified_by_the_draft(step: SpeculativeStep) -> None:
    """It passes once more over its own proposals, in the place of the target."""

    def verify(plain: Callable[..., Tensor], spot: Spot, given_BJ: Tensor) -> Tensor:
        plain(spot, given_BJ)
        slots = spot.position + step.draft_tokens + 1
        return step._call(True, given_BJ, spot.verifying, step.caches()[-1], slots, True)

    around(step, "verify", verify)


def verification_writes_no_slot(step: SpeculativeStep) -> None:
    """One layer does not store the newest token: what was there before stays."""

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, *_ = rest
        if len(positions_L) != step.draft_tokens + 1:
            return plain(q, k, v, *rest)
        at = int(positions_L[0])
        old = [buffer[:, :, at].clone() for buffer in cache]
        y_BLD = plain(q, k, v, *rest)
        for buffer, values in zip(cache, old, strict=True):
            buffer[:, :, at] = values
        return y_BLD

    around(llama_defects.middle(target(step)).attention, "attend", attend)


def one_sequence_verified_wrong(step: SpeculativeStep) -> None:
    def verify(plain: Callable[..., Tensor], spot: Spot, given_BJ: Tensor) -> Tensor:
        wrong_BJ = given_BJ.clone()
        wrong_BJ[-1, 0] = (wrong_BJ[-1, 0] + 1) % step.pair.target.config.vocab
        return plain(spot, wrong_BJ)

    around(step, "verify", verify)


def proposals_all_the_last(step: SpeculativeStep) -> None:
    """A replay writes into the tensor that the previous one returned, and nobody copied it."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        last = step.rounds[-1].drafts
        step.rounds = [replace(done, drafts=last) for done in step.rounds]

    around(step, "run", run)


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        missing_layer,
        missing_layer_when_deep,
        rope_theta_wrong,
        missing_layer_of_the_draft,
        rope_backwards_in_the_draft,
        draft_with_fp8_weights,
        verified_one_position_late,
        drafted_one_position_late,
        a_refused_token_stays_in_the_caches,
        draft_never_takes_its_last_proposal,
        refused_proposals_counted,
        keeps_less_than_pinned,
        verification_skipped,
        refused_proposals_not_verified,
        verification_not_causal,
        next_token_of_the_first_position,
        one_more_agrees,
        nothing_agrees,
        all_proposals_accepted,
        second_best_accepted,
        verified_by_the_draft,
        verification_writes_no_slot,
        one_sequence_verified_wrong,
        proposals_all_the_last,
    )
}

"""Checks of speculative decoding: those of a generating program, for each of its two models.

- ``float32 twin``: both models shallow and in float32; what the target would have chosen decides
  how many proposals are kept, so the tokens must be those of plain greedy decoding. The draft is
  the target's own first layers: it agrees now and then, so that both outcomes occur.
- ``poisoned cache``: slots that hold no kept token are huge, and must not matter.
- ``acceptance``: every round kept what was pinned, and counted its agreeing proposals rightly.
- ``logits``, ``regret``: the target at all k + 1 positions, and every token that it chose.
- ``draft logits``, ``draft regret``: the draft, and every kept token that it proposed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Checks, Means, Parity, largest
from tpubench.workloads.llama import parity as single
from tpubench.workloads.llama import reference
from tpubench.workloads.llama.parity import TWIN_TOLERANCE, worst_row
from tpubench.workloads.llama.quantized import FLOAT32, held
from tpubench.workloads.llama.recall import ToForce, eager, floor, place, recalled
from tpubench.workloads.llama.reference import Task
from tpubench.workloads.llama.weights import Source
from tpubench.workloads.llama_speculate.observed import Logits, ObservedRounds, observe
from tpubench.workloads.llama_speculate.step import FIRST_LAYERS, SpeculativeStep

TWIN_OUTPUT = 16


def checks(case: Case, step: SpeculativeStep, means: Means, pinned: Sequence[int]) -> Checks:
    """The checks of a built step, to be called once its window has closed."""

    def run() -> Iterator[Parity]:
        batch = case.number("batch")
        drawn = sorted(random.SystemRandom().sample(range(batch), k=min(single.DRAWN, batch)))
        step.refill()
        seen = observe(step, drawn)
        twin = _twin(case, means)
        if means.accelerator:
            yield single.device_reference(case, means)
        yield twin
        yield single.poisoned(*[logits for logits in (seen.target, seen.draft) if logits])
        yield _acceptance(case, seen, pinned)
        worst: list[Parity] = []
        judged = [
            ("", step.weights, seen.target, True),
            ("draft ", step.draft_weights, seen.draft, False),
        ]
        for name, weights, logits, by_target in judged:
            if weights is not None and logits is not None:
                *parities, highest = _judged(
                    name, case, means, weights, seen, logits, drawn, by_target
                )
                yield from parities
                worst.append(highest)
        yield max(worst, key=lambda one: one.share)

    return lambda: list(run())


def twin_case(case: Case) -> Case:
    """The case as its float32 twin runs it, the draft its own first layers."""
    twin = single.twin_case(case, 1)
    output = min(case.number("output_len"), TWIN_OUTPUT)
    # One sequence: several are held back by the one that agrees least, and would hardly accept.
    changed: dict[str, int | str] = {"batch": 1, "output_len": output, "draft": FIRST_LAYERS}
    return replace(twin, params={**twin.params, **changed})


def _twin(case: Case, means: Means) -> Parity:
    with means.exact_float32():
        step = means.build(twin_case(case))
        assert isinstance(step, SpeculativeStep)
        step.run_verified()
        seen = observe(step, range(len(step.prompt_BL)))
    assert step.draft_weights is not None and seen.draft is not None

    def forced(weights: Source, ids: Tensor, kept: Sequence[int]) -> reference.Forced:
        task = Task(ids=ids, dtype=torch.float32, keep=kept)
        (answer,) = reference.force(
            weights, [task], judged_from=seen.length, held=FLOAT32, place=place(means)
        )
        return answer

    # Whoever proposed it, a kept token must be the one that the target would have chosen.
    errors = [float(forced(step.weights, seen.ids, ()).regret.max()), float(seen.miscounted)]
    for weights, logits in ((step.weights, seen.target), (step.draft_weights, seen.draft)):
        expected = forced(weights, seen.ending, logits.kept)
        errors += [worst_row(expected.logits, one) for one in (logits.logits, logits.poisoned)]
        if weights is step.draft_weights:
            errors.append(float(expected.regret[:, ~seen.ending_by_target].max()))
    layers = step.weights.config.n_layers
    return Parity(
        name="float32 twin",
        error=largest(errors),
        tolerance=TWIN_TOLERANCE,
        what=f"error of the same code with {layers} layers in float32 against greedy decoding",
    )


def _acceptance(case: Case, seen: ObservedRounds, pinned: Sequence[int]) -> Parity:
    """That the pinned work was done: rounds, kept proposals, tokens."""
    off = abs(len(seen.kept) - len(pinned))
    off += sum(one != other for one, other in zip(seen.kept, pinned, strict=False))
    off += abs(seen.ids.shape[1] - seen.length - case.number("output_len"))
    return Parity(
        name="acceptance",
        error=float(off + seen.miscounted),
        tolerance=0.0,
        what="rounds that kept another number of proposals than pinned, or counted them wrong,",
    )


def _judged(
    name: str,
    case: Case,
    means: Means,
    weights: Source,
    seen: ObservedRounds,
    observed: Logits,
    drawn: list[int],
    by_target: bool,
) -> list[Parity]:
    """One model's logits, and the regret of the tokens that it chose; last the highest of them."""
    measured = eager(case, means)
    dtype, as_stated = measured or (torch.float32, True)
    keep = tuple(observed.kept)
    asked = [
        ToForce(rows=drawn, dtype=torch.float32, keep=keep, exact=True),
        ToForce(rows=drawn if measured else [], dtype=dtype, keep=keep, exact=as_stated),
    ]
    truth, usual = recalled(held(case), weights, seen.ending, seen.length, asked, means)
    assert truth is not None
    allowed, against = floor(case, means), "float32"
    if usual is not None:
        cost = single.root_mean_square(truth.logits, usual.logits)
        allowed = single.allowed_error(case, means, cost)
        against = f"float32 (an eager {single.name_of(dtype)} run: {cost:.3g})"
    parities = [
        Parity(
            name=f"{name}logits",
            error=single.logits_error(truth.logits, observed.logits),
            tolerance=allowed,
            what=f"relative L2 error of {len(keep)} positions' logits against {against}",
        )
    ]
    chosen = seen.ending_by_target == by_target
    regrets = [truth.regret[:, chosen]]
    if by_target:  # all that it chose in the last round, after refused proposals too
        J = seen.verified.shape[1]
        regrets.append(_regret(truth.logits[:, -J:], seen.verified[drawn]))
    together = [("regret", "float32", torch.cat(regrets, dim=1))]
    rest = [row for row in range(len(seen.ids)) if row not in drawn]
    if rest:
        ask = [ToForce(rows=rest, dtype=dtype, keep=(), exact=as_stated)]
        (others,) = recalled(held(case), weights, seen.ids, seen.length, ask, means)
        assert others is not None
        mine = others.regret[:, seen.by_target == by_target]
        if mine.numel():
            together.append(("regret of the rest", single.name_of(dtype), mine))
    scale = _scale(case, means)
    most = single.worst_regret(case, allowed, scale)
    for what, precision, regret in together:
        parities.append(
            Parity(
                name=name + what,
                error=float(regret.mean()),
                tolerance=single.mean_regret(regret.numel(), scale, most),
                what=f"mean regret of {regret.numel()} timed tokens in {precision}",
            )
        )
    highest = Parity(
        name="worst token",
        error=largest(float(regret.max()) for _, _, regret in together),
        tolerance=most,
        what="the highest regret of any timed token under the model that chose it",
    )
    return [*parities, highest]


def _scale(case: Case, means: Means) -> float:
    return 0.1 if eager(case, means) is None else 1.0


def _regret(logits_BJV: Tensor, chosen_BJ: Tensor) -> Tensor:
    """How far each chosen token's logit is below the highest, in deviations: [B, J]."""
    taken_BJ = logits_BJV.gather(2, chosen_BJ.unsqueeze(2)).squeeze(2)
    return (logits_BJV.amax(dim=2) - taken_BJ) / logits_BJV.std(dim=2)

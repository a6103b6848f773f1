"""Four checks of a generating program together; docs/parity.md says what each of them catches.

- ``float32 twin``: the same code, compiled the same way, four layers deep in float32.
- ``poisoned cache``: slots that hold no token of this sequence are huge, and must not matter.
- ``logits``: the program itself against float32, by what its precision costs an eager run.
- ``regret``: the tokens of the timed window under a float32 pass, for every sequence.

A quantised program is held against its own weights, as they are once quantised; what quantising
them changes is measured beside it, against the same weights in bfloat16.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Checks, Means, Parity, largest
from tpubench.workloads.llama import reference as reference
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.observed import Observed, observe
from tpubench.workloads.llama.quantized import FLOAT32, STORED, Held, held
from tpubench.workloads.llama.recall import ToForce, eager, floor, place, recalled
from tpubench.workloads.llama.reference import Forced, Place, Task
from tpubench.workloads.llama.step import LlamaStep
from tpubench.workloads.llama.weights import Drawn

TWIN_LAYERS, TWIN_OUTPUT, TWIN_BATCH, TWIN_VOCAB = 4, 20, 4, 8192
TWIN_PROMPT, TWIN_LONGEST = 28, 252
"""A prompt is as long as the case's, within these: kernels go block by block, and new tokens cross
the end of one of 32, or of two of 128."""
TWIN_TOLERANCE = 1e-4
"""A correct twin errs by 2e-6; the weakest defect of docs/parity.md by 0.003."""
POISON_TOLERANCE = 0.05
"""A correct program gives the same logits to the last bit; one slot read in error gives above 1."""
EAGER_RATIO = 1.5
"""How much more than an eager run of the same weights and precision a program may err."""
CAP = 0.1
"""The most that random weights may err, whatever an eager run does."""
CAP_FP8 = 0.3
"""The same where each token is rounded to three bits before each projection."""
WORST_STEP = 2.0
"""How much more than all of them together the logits of one step of one sequence may err."""
REGRET, REGRET_OF_ONE, WORST_REGRET, WORST_OF_LOGITS = 0.01, 0.05, 1.0, 12.0
"""Mean regret allowed of many tokens, what is added for one (and over √n for n), and the most of
any one, which may be among n; with random weights, whose logits vary about zero, at most so many
times what these may err. Rounding makes near ties fall otherwise: with logits off by ε standard
deviations the mean is about 2.4·ε², 0.003 at 80 layers, and a single regret stays below 7·ε, 10·ε
under a pass that rounds as much; a token that belongs elsewhere has a regret of about four, the
next best one of about 0.2."""
WORST_ROUTE = 0.5
"""The most that the scores of a token's experts may sum to less than those of the best."""
DRAWN = 8
"""Sequences that are judged in float32, drawn once the window has closed."""


def checks(case: Case, step: LlamaStep, means: Means) -> Checks:
    """The checks of a built step, to be called once its window has closed.

    With many ranks all of them run the programs, and rank 0 alone computes what they are held
    against; the others have nothing to say.
    """

    def run() -> Iterator[Parity]:
        drawn = random.SystemRandom().sample(range(case.number("batch")), k=_draws(case))
        seen = observe(step, sorted(drawn))
        twin = _Twin.run(case, means)
        if means.device.rank > 0:
            return
        if means.accelerator:
            yield device_reference(case, means)
        yield twin.judged(means)
        yield poisoned(seen)
        yield from _judged(case, step, seen, means)
        yield from _of_an_earlier_pass(case, step, seen, means)

    return lambda: list(run())


class WithPoison(Protocol):
    """Logits [drawn, P, V] of a program, and the same from a poisoned cache."""

    @property
    def logits(self) -> Tensor: ...

    @property
    def poisoned(self) -> Tensor: ...


def _draws(case: Case) -> int:
    return min(DRAWN, case.number("batch"))


def poisoned(*seen: WithPoison) -> Parity:
    """How far the outputs move when what must not matter is huge."""
    return Parity(
        name="poisoned cache",
        error=largest(worst_row(one.logits, one.poisoned) for one in seen),
        tolerance=POISON_TOLERANCE,
        what="relative L2 change of the logits when slots with no token are huge",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Twin:
    """The same program, shallow and in float32, and what it gave."""

    case: Case
    step: LlamaStep
    seen: Observed

    @classmethod
    def run(cls, case: Case, means: Means) -> _Twin:
        case = twin_case(case, means.device.ranks)
        with means.exact_float32():
            step = means.build(case)
            assert isinstance(step, LlamaStep)
            step.run(lambda *_: None)
            seen = observe(step, range(len(step.prompt_BL)))
        return cls(case=case, step=step, seen=seen)

    def judged(self, means: Means) -> Parity:
        task = Task(
            ids=self.seen.ids,
            dtype=torch.float32,
            keep=self.seen.kept,
            routing=self.seen.routing,
        )
        (expected,) = reference.force(
            self.step.weights,
            [task],
            judged_from=self.seen.judged_from,
            held=held(self.case),
            place=place(means),
        )
        errors = [
            worst_row(expected.logits, given) for given in (self.seen.logits, self.seen.poisoned)
        ]
        errors.append(float(expected.regret.max()))
        errors += [float(regret.max()) for regret in _routes([expected])]
        layers = self.step.weights.config.n_layers
        return Parity(
            name="float32 twin",
            error=largest(errors),
            tolerance=TWIN_TOLERANCE,
            what=f"relative L2 error of the same code with {layers} layers in float32",
        )


def twin_case(case: Case, ranks: int) -> Case:
    """The case as its float32 twin runs it: as wide, few layers, few tokens, random weights."""
    config = LlamaConfig.from_json(case.shape)
    config = replace(
        config,
        n_layers=min(config.n_layers, TWIN_LAYERS),
        vocab=min(config.vocab, TWIN_VOCAB * ranks),
    )
    params: dict[str, int | str] = {
        **{key: value for key, value in case.params.items() if key != "prompt"},
        "batch": min(case.number("batch"), TWIN_BATCH),
        "input_len": max(TWIN_PROMPT, min(case.number("input_len"), TWIN_LONGEST)),
        "output_len": min(case.number("output_len"), TWIN_OUTPUT),
        "dtype": "float32",
        "weights": "random",
    }
    if case.dtype in STORED:
        params["quantized"] = case.dtype
    return replace(case, params=params, shape=config.to_json())


def _judged(case: Case, step: LlamaStep, seen: Observed, means: Means) -> Iterator[Parity]:
    """The logits of the drawn sequences, and the regret of every sequence's tokens."""
    measured = eager(case, means)
    exact = measured is None
    dtype, as_stated = measured or (torch.float32, True)
    rest = [row for row in range(len(seen.ids)) if row not in seen.drawn]
    keep = tuple(seen.kept)
    narrow = case.dtype == "fp8"
    asked = [
        ToForce(rows=seen.drawn, dtype=torch.float32, keep=keep, exact=True),
        ToForce(
            rows=[] if exact else seen.drawn, dtype=dtype, keep=keep, exact=as_stated, narrow=narrow
        ),
        ToForce(rows=rest, dtype=dtype, keep=(), exact=as_stated, narrow=narrow),
    ]
    truth, usual, others = recalled(
        held(case), step.weights, seen.ids, seen.judged_from, asked, means, seen.routing
    )
    assert truth is not None
    allowed, against = floor(case, means), "float32"
    if usual is not None:
        cost = root_mean_square(truth.logits, usual.logits)
        allowed = allowed_error(case, means, cost)
        against = f"float32 (an eager {name_of(dtype)} run: {cost:.3g})"
    yield Parity(
        name="logits",
        error=logits_error(truth.logits, seen.logits),
        tolerance=allowed,
        what=f"relative L2 error of {truth.logits.shape[1]} steps' logits against {against}",
    )
    scale = 0.1 if exact else 1.0
    worst = worst_regret(case, allowed, scale)
    for name, forced, precision in (
        ("regret", truth, "float32"),
        ("regret of the rest", others, name_of(dtype)),
    ):
        if forced is not None:
            sequences, tokens = forced.regret.shape
            yield Parity(
                name=name,
                error=float(forced.regret.mean()),
                tolerance=mean_regret(sequences * tokens, scale, worst),
                what=f"mean regret of {sequences} × {tokens} timed tokens in {precision}",
            )
    if case.dtype in STORED:
        yield from _against_bfloat16(step, seen, means)
    yield Parity(
        name="worst token",
        error=max(float(forced.regret.max()) for forced in (truth, others) if forced is not None),
        tolerance=worst,
        what="the highest regret of any timed token",
    )

    routes = _routes([forced for forced in (truth, others) if forced is not None])
    yield from judged_routes([regret.flatten() for regret in routes], scale)


def _of_an_earlier_pass(
    case: Case, step: LlamaStep, seen: Observed, means: Means
) -> Iterator[Parity]:
    """The regret of the tokens of a pass before the last, where they are others than the last's."""
    if not step.earlier or seen.routing is not None:
        return
    ids = torch.cat([step.prompt_BL.cpu(), torch.cat(step.earlier, dim=1).cpu()], dim=1)
    rows = [row for row in range(len(ids)) if not torch.equal(ids[row], seen.ids[row])]
    if not rows:
        return
    error, scale = math.inf, 0.1 if eager(case, means) is None else 1.0
    if int(ids.min()) >= 0 and int(ids.max()) < step.weights.config.vocab:
        asked = [ToForce(rows=rows, dtype=torch.float32, keep=(), exact=True)]
        (truth,) = recalled(held(case), step.weights, ids, seen.judged_from, asked, means)
        assert truth is not None
        error = float(truth.regret.mean())
    yield Parity(
        name="regret of an earlier pass",
        error=error,
        tolerance=mean_regret(len(rows) * step.output_len, scale, scale * WORST_REGRET),
        what=f"mean regret of {len(rows)} × {step.output_len} tokens, which the last pass had not",
    )


def judged_routes(regrets: Sequence[Tensor], scale: float) -> Iterator[Parity]:
    """How far routes are from the right ones, in deviations of their scores; no check of none.

    scale: what tolerances are multiplied by, less than 1 where only rounding may differ.
    """
    if not regrets:
        return
    together = torch.cat(list(regrets))
    yield Parity(
        name="routing",
        error=float(together.mean()),
        tolerance=scale * REGRET,
        what=f"mean regret of {len(together)} tokens' routes, in deviations of their scores",
    )
    yield Parity(
        name="worst route",
        error=float(together.max()),
        tolerance=scale * WORST_ROUTE,
        what="the highest regret of any token's route",
    )


def allowed_error(case: Case, means: Means, cost: float) -> float:
    """How much logits may err where an eager run of the same weights errs by ``cost``."""
    allowed = max(floor(case, means), EAGER_RATIO * cost)
    if case.params.get("weights", "random") == "random":
        allowed = min(allowed, CAP_FP8 if case.dtype == "fp8" else CAP)
    return allowed


def worst_regret(case: Case, allowed: float, scale: float) -> float:
    """The most that a single token's regret may be where logits may err by ``allowed``."""
    most = scale * WORST_REGRET
    random_weights = case.params.get("weights", "random") == "random"
    return min(most, WORST_OF_LOGITS * allowed) if random_weights else most


def mean_regret(tokens: int, scale: float, worst: float) -> float:
    """The most that the mean regret of so many tokens may be, where that of one may be ``worst``:
    of very few, one near tie that fell otherwise is most of the mean."""
    return scale * (REGRET + REGRET_OF_ONE / math.sqrt(tokens)) + worst / tokens


def _routes(passes: Sequence[Forced]) -> list[Tensor]:
    """Regrets of the routes of the tokens that were fed, [B, L - 1, layers] of each pass; none
    where there are no experts."""
    return [forced.routing[:, :-1] for forced in passes if forced.routing.numel()]


def _against_bfloat16(step: LlamaStep, seen: Observed, means: Means) -> Iterator[Parity]:
    """What the quantised program says, against its weights in bfloat16 computed in float32."""
    asked = [ToForce(rows=seen.drawn, dtype=torch.float32, keep=tuple(seen.kept), exact=True)]
    plain = Held(dtype=torch.bfloat16)
    (truth,) = recalled(plain, step.weights, seen.ids, seen.judged_from, asked, means)
    assert truth is not None
    yield Parity(
        name="top1_vs_bfloat16",
        error=float((truth.regret == 0).double().mean()),
        tolerance=math.inf,
        what="share of the timed tokens that bfloat16 weights would have chosen",
    )
    expected, given = (logits.double().log_softmax(dim=2) for logits in (truth.logits, seen.logits))
    yield Parity(
        name="kl_vs_bfloat16",
        error=float((expected.exp() * (expected - given)).sum(dim=2).mean()),
        tolerance=math.inf,
        what="mean KL divergence of the next token's probabilities, nats",
    )


def device_reference(case: Case, means: Means) -> Parity:
    """The reference itself, two layers and 64 tokens, computed on the device and on the host."""
    config = LlamaConfig.from_json(case.shape)
    config = replace(config, n_layers=min(2, config.n_layers), vocab=min(config.vocab, TWIN_VOCAB))
    weights = Drawn(config, case.number("seed"))
    ids_BL = torch.randint(0, config.vocab, (1, 64), generator=torch.Generator().manual_seed(2))
    task = Task(ids=ids_BL, dtype=torch.float32, keep=(15, 31, 63))
    here, there = (
        reference.force(weights, [task], judged_from=32, held=FLOAT32, place=where)[0]
        for where in (Place(), place(means))
    )
    return Parity(
        name="device reference",
        error=worst_row(here.logits, there.logits),
        tolerance=TWIN_TOLERANCE,
        what="relative L2 distance of the reference on the device from that on the host",
    )


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rows(expected_BPV: Tensor, actual_BPV: Tensor) -> Tensor:
    distance = (actual_BPV.double() - expected_BPV.double()).norm(dim=2)
    relative: Tensor = distance / expected_BPV.double().norm(dim=2)
    return relative


def worst_row(expected_BPV: Tensor, actual_BPV: Tensor) -> float:
    return float(_rows(expected_BPV, actual_BPV).max())


def logits_error(expected_BPV: Tensor, actual_BPV: Tensor) -> float:
    """Of all steps together, or of the worst one of any sequence where that stands out."""
    worst = worst_row(expected_BPV, actual_BPV) / WORST_STEP
    return largest([root_mean_square(expected_BPV, actual_BPV), worst])


def root_mean_square(expected_BPV: Tensor, actual_BPV: Tensor) -> float:
    return float(_rows(expected_BPV, actual_BPV).square().mean().sqrt())

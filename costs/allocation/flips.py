"""What would turn the answer: one input at a time, every step a re-solve of the whole plan."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.candidates import Candidate, candidates
from tpubench.costs.allocation.highs import Basis, relaxed
from tpubench.costs.allocation.inputs import Setting, apply
from tpubench.costs.allocation.money import side_of
from tpubench.costs.allocation.plan import Plan
from tpubench.errors import UsageError
from tpubench.results import shares

STEPS = (0.03, 0.08, 0.16, 0.27, 0.4, 0.56, 0.76, 1.0)
"""Where the answer is asked for on the way to each end of the range."""
CLOSE = 0.1
"""Lead of a side below which the space between two steps is looked into."""
NEAR = 0.01
"""Just before and just beyond a flip: this part of the way to it."""
PRECISION = 5e-4
"""Of a flip, as a part of the way to it: well inside ``NEAR``."""
TRIES = 4
FIRST = 8
"""Inputs that are followed here before it is decided whether to share the others."""
WORTH_SHARING_S = 5.0
"""Seconds of computing for which starting further processes, a second or two each, pays."""
MOST_WORKERS = 8
HALVINGS = 7
"""Towards the value at which a plan becomes impossible."""

Answer = tuple[str, float] | None
"""Side of the next dollar and its lead; None where the plan is impossible or spends nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlip:
    """One input and where it turns the answer, if anywhere plausible."""

    input: str
    path: str
    now: float
    at: float | None
    """The nearest value at which the side changes; None: none within the plausible range."""
    unit: str
    answer_before: str
    answer_after: str | None
    low: float
    high: float
    """What was looked at: plausible values, as far as the plan can be carried out."""
    several: bool

    @property
    def setting(self) -> str:
        """The ``--set`` argument that applies it."""
        return f"{self.path}{'*=' if self.several else '='}{self.at!r}"

    @property
    def way(self) -> float:
        """How far the input has to move: as a factor, or as a part of its plausible range."""
        if self.at is None:
            return math.inf
        if self.now > 0 and self.at > 0:
            return abs(math.log(self.at / self.now))
        return abs(self.at - self.now) / max(self.high - self.low, 1e-12)


@dataclass(slots=True)
class Resolver:
    """Answers of one plan with one input changed, each started from the last basis."""

    plan: Plan
    basis: Basis | None = None

    def answer(self, candidate: Candidate, value: float) -> Answer:
        setting = Setting(path=candidate.path, value=value, times=candidate.several)
        try:
            plan = apply(self.plan, [setting])
        except UsageError:
            return None
        program = build(plan)
        optimum = relaxed(program, start=self.basis)
        if optimum is None:
            return None
        self.basis = optimum.basis
        return side_of(program, optimum.x)


def find_flips(
    plan: Plan, side: str, start: Basis | None, deadline: float
) -> tuple[list[PlanFlip], list[str]]:
    """The flips of every input, nearest first, and the inputs left out when time ran out.

    ``deadline`` is of :func:`time.process_time`: a busy machine must not change the answer. Many
    inputs of a large plan are shared among processes, one for each core.
    """
    began_s = time.process_time()
    wanted = candidates(plan)
    flips, left = _follow(plan, side, start, deadline, wanted[:FIRST])
    rest, spent_s = wanted[FIRST:], time.process_time()
    flips_s = spent_s - began_s
    workers = min(_usable_cores(), MOST_WORKERS)
    if workers > 1 and flips_s / max(1, len(flips)) * len(rest) > WORTH_SHARING_S:
        # No flip knows of another: each starts from the basis of the plan itself.
        parts = [
            Share(plan=plan, side=side, seconds=deadline - spent_s, inputs=rest[number::workers])
            for number in range(workers)
        ]
        for some, over in shares.spread(follow_share, parts):
            flips += some
            left += over
    else:
        some, over = _follow(plan, side, start, deadline, rest)
        flips, left = flips + some, left + over
    order = {candidate.path: number for number, candidate in enumerate(wanted)}
    flips.sort(key=lambda flip: (flip.at is None, flip.way, order[flip.path]))
    return flips, sorted(left, key=order.__getitem__)


def _follow(
    plan: Plan, side: str, start: Basis | None, deadline: float, wanted: Sequence[Candidate]
) -> tuple[list[PlanFlip], list[str]]:
    resolver = Resolver(plan=plan, basis=start)
    flips, left = [], []
    for candidate in wanted:
        if time.process_time() > deadline:
            left.append(candidate.path)
            continue
        flips.append(find_flip(resolver, candidate, side))
    return flips, left


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Inputs that one process follows, which may compute for so many seconds."""

    plan: Plan
    side: str
    seconds: float
    inputs: Sequence[Candidate]


def follow_share(share: Share) -> tuple[list[PlanFlip], list[str]]:
    """The flips of these inputs, and those left out when time ran out."""
    deadline = time.process_time() + share.seconds
    optimum = relaxed(build(share.plan))  # whose basis no process can be given
    start = optimum.basis if optimum else None
    return _follow(share.plan, share.side, start, deadline, share.inputs)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def find_flip(resolver: Resolver, candidate: Candidate, side: str) -> PlanFlip:
    """The nearest value at which the next dollar's side is another one."""
    base = resolver.basis
    reached, turns = [candidate.now], []
    for end in (candidate.low, candidate.high):
        resolver.basis = base
        path = _Path(resolver=resolver, candidate=candidate, side=side, end=end)
        turn = path.turn()
        reached.append(path.reached)
        if turn is not None:
            turns.append((abs(turn[0] - candidate.now), *turn))
    resolver.basis = base
    nearest = min(turns) if turns else None
    return PlanFlip(
        input=candidate.name,
        path=candidate.path,
        now=candidate.now,
        at=nearest[1] if nearest else None,
        unit=candidate.unit,
        answer_before=side,
        answer_after=nearest[2] if nearest else None,
        low=min(reached),
        high=max(reached),
        several=candidate.several,
    )


@dataclass(slots=True)
class _Path:
    """The way from an input's value now (t = 0) to one end of its range (t = 1)."""

    resolver: Resolver
    candidate: Candidate
    side: str
    end: float
    known: dict[float, Answer] = field(default_factory=dict)
    reached: float = math.nan

    def place(self, t: float) -> float:
        now, end = self.candidate.now, self.end
        if self.candidate.geometric and now > 0 and end > 0:
            return float(now * (end / now) ** t)
        return now + (end - now) * t

    def step(self, value: float) -> float:
        """The t of a value."""
        now, end = self.candidate.now, self.end
        if self.candidate.geometric and now > 0 and end > 0:
            return math.log(value / now) / math.log(end / now)
        return (value - now) / (end - now)

    def ask(self, t: float) -> Answer:
        if t not in self.known:
            self.known[t] = self.resolver.answer(self.candidate, self.place(t))
        return self.known[t]

    def turn(self) -> tuple[float, str] | None:
        """The first lasting turn on the way, and the side after it."""
        now: float = self.candidate.now
        self.reached = now
        if abs(self.end - now) <= 1e-12 * max(abs(now), 1.0):
            return None
        before, lead = 0.0, 1.0
        for step in STEPS:
            here = self.ask(step)
            if here is None:
                return self._towards_impossible(before, step)
            if here[0] == self.side and min(lead, here[1]) < CLOSE:
                middle = self.ask((before + step) / 2)
                if middle is not None and middle[0] != self.side:
                    turn = self._lasting(before, (before + step) / 2)
                    if turn is not None:
                        return turn
            self.reached = self.place(step)
            if here[0] != self.side:
                turn = self._lasting(before, step)
                if turn is not None:
                    return turn
                continue
            before, lead = step, here[1]
        return None

    def _towards_impossible(self, low: float, high: float) -> tuple[float, str] | None:
        """Between a possible step and an impossible one."""
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            here = self.ask(middle)
            if here is None:
                high = middle
                continue
            self.reached = self.place(middle)
            if here[0] != self.side:
                return self._lasting(low, middle)
            low = middle
        return None

    def _lasting(self, low: float, high: float) -> tuple[float, str] | None:
        """The turn between two steps, if the answer stands 1 % of the way short of it and has
        turned 1 % past it."""
        now = self.candidate.now
        for _ in range(TRIES):
            while abs(self.place(high) - self.place(low)) > PRECISION * abs(self.place(high) - now):
                middle = (low + high) / 2
                here = self.ask(middle)
                if here is not None and here[0] == self.side:
                    low = middle
                else:
                    high = middle
            at = (self.place(low) + self.place(high)) / 2
            short = self.step(now + (1 - NEAR) * (at - now))
            before = self.ask(short)
            if before is None or before[0] != self.side:
                low, high = 0.0, short
                continue
            after = self.ask(self.step(now + (1 + NEAR) * (at - now)))
            if after is None or after[0] == self.side:
                return None
            return at, after[0]
        return None

"""What a gate found, case by case, and the one exit code that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tpubench.results.gate.policy import Policy
from tpubench.results.statistics import Estimate

State = Literal["regressed", "ok", "inconclusive", "missing", "failed", "refused", "first"]

EXIT_CODES: dict[State, int] = {
    "regressed": 1,
    "refused": 4,
    "failed": 3,
    "missing": 3,
    "inconclusive": 3,
    "ok": 0,
    "first": 0,
}
"""In order of precedence: the first state that any case has decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a cost moved: the ratio of $ is the product of the two."""

    throughput: float
    """What the change of throughput alone does to the cost."""
    price: float
    """What the change of the price alone does to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One gated figure of one case. ``worse`` is a ratio, above 1 when the candidate is worse."""

    case: str
    metric: str
    unit: str
    better: str
    state: State
    reason: str
    evidence: str
    policy: Policy
    test: str = "mann-whitney"
    """The test behind the verdict: that of stored repetitions, or of a duet's pairs."""
    tail: bool = False
    worse: Estimate | None = None
    sigma: float | None = None
    """Standard deviation of log ratios of pairs, or of log values between repetitions."""
    mde: float | None = None
    """Smallest true ratio that would be flagged with 95 % probability."""
    n: tuple[int, int] = (0, 0)
    """Processes behind each side: pairs of a duet, or repetitions."""
    baseline: float | None = None
    candidate: float | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """All findings of one gate."""

    title: str
    findings: Sequence[Finding]
    notes: Sequence[str] = field(default_factory=tuple)
    runs: tuple[str, ...] = ()
    """Run ids under which the two sides are stored."""
    first: bool = False
    """Nothing was stored before: there is no verdict, and what was judged becomes the baseline."""
    cut_short: str | None = None
    """Why it stopped before its end; None when it did not."""

    @property
    def state(self) -> State:
        """The state that decides; inconclusive when nothing was gated."""
        if self.first and not self.findings:
            return "first"
        present = {finding.state for finding in self.findings}
        return next((state for state in EXIT_CODES if state in present), "inconclusive")

    @property
    def exit_code(self) -> int:
        return 5 if self.cut_short else EXIT_CODES[self.state]

"""Where the time goes: a prediction as a sum of seconds, one for each limiting resource.

The classes of work, and what bounds them:

- ``matmul``: matrix products of many tokens (training, prompts): FLOP/s at the precision used;
- ``experts``: the same inside routed experts, many and small;
- ``attention``: QKᵀ and AV over many tokens: FLOP/s in bfloat16;
- ``memory``: reading and writing activations and optimizer state: HBM bandwidth;
- ``decode``: matrix products of the generated tokens, when the batch is so large that they are
  bound by FLOP/s;
- ``weights``: reading the weights for each generated token: HBM bandwidth;
- ``cache``: reading the cached keys and values: HBM bandwidth;
- ``link``: exchange between chips that is not hidden: interconnect;
- ``host``: launches, scheduling, sampling: none of the above;
- ``arrival``: waiting for the next request: not the hardware at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BOUND = {
    "matmul": "compute",
    "experts": "compute",
    "attention": "compute",
    "memory": "HBM",
    "decode": "compute",
    "weights": "HBM",
    "cache": "HBM",
    "link": "interconnect",
    "host": "overhead",
    "arrival": "request rate",
}
"""Class of work to the resource that a reader knows."""

PROGRAM = 0.75
"""Speed of matrix products within a program, relative to the same products timed alone."""
ATTENTION = 0.40
"""Share of the bfloat16 peak that attention over many tokens reaches."""
STREAM = 0.70
"""Share of the HBM bandwidth that reading weights reaches."""
CACHE = 0.75
"""Share of the HBM bandwidth that reading cached keys and values reaches."""
# All of these are a starting point that the fit corrects by class, device, precision and
# software: round figures near the middle of the operator tables, not results.

HOST_STEP_S = 1.0e-3
"""Seconds of host work for one decoding step, before correction."""
HOST_LAYER_S = 12e-6
"""Seconds of launches for one layer of a decoding step, before correction."""
HOST_SEQUENCE_S, HOST_SEQUENCE_PYTHON_S = 3e-6, 10e-6
"""Seconds of scheduling and sampling for each sequence of a step, before correction: by engines
whose scheduler is compiled, and by those that run it in Python."""
LINK_LATENCY_S = 8e-6
"""Seconds of one small exchange between the chips of a tensor-parallel group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A predicted figure: ``scale`` over (rates) or times (durations) the sum of ``seconds``."""

    seconds: Mapping[str, float]
    scale: float
    rate: bool
    """Whether the figure is a rate (more is faster) or a duration."""
    batch: float = 1.0
    """Sequences at once that the prediction assumes, for one replica."""
    detail: Mapping[str, float] | None = None
    """Dimensionless numbers that efficiencies may depend on."""

    @property
    def total_s(self) -> float:
        """All seconds together."""
        return sum(self.seconds.values())

    def shares(self) -> dict[str, float]:
        """Each class's part of the time, adding up to 1."""
        total = self.total_s
        return {name: seconds / total for name, seconds in self.seconds.items()}

    def value(self, log_speed: float = 0.0) -> float:
        """The figure, at a speed of ``exp(log_speed)`` times the nominal one."""
        from math import exp

        speed = exp(log_speed)
        if self.rate:
            return self.scale * speed / self.total_s
        return self.scale * self.total_s / speed

    @property
    def bound(self) -> str:
        """The resource that takes the most time."""
        by_resource: dict[str, float] = {}
        for name, seconds in self.seconds.items():
            by_resource[BOUND[name]] = by_resource.get(BOUND[name], 0.0) + seconds
        return max(by_resource, key=lambda name: by_resource[name])

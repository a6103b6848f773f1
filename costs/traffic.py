"""A day's traffic: at which utilisation a rate is paid for when users come and go.

A replica (the chips that give the measured rate together) is paid by the hour whether it is busy or
not. Whatever a cache of prefixes saved is in the measured rate already: nothing is taken off again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tpubench.costs.token_cost import not_negative, positive
from tpubench.errors import UsageError

MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Replicas for a day, and the share of their tokens that somebody wanted.

    replicas: for the busiest part of the day, all day long. scaled: the mean over the day, of as
    many as each part needs and at least one.
    """

    replicas: int
    utilisation: float
    scaled_replicas: float
    scaled_utilisation: float


def of_day(wanted_tok_s: Sequence[float], tok_s: float) -> Traffic:
    """``wanted_tok_s``: tokens a second wanted in each of equal parts of a day.

    ``tok_s``: of one replica, at the service level. UsageError where nothing is wanted.
    """
    positive("rate per second", tok_s)
    if not 1 <= len(wanted_tok_s) <= MOST_PARTS:
        raise UsageError(f"traffic has {len(wanted_tok_s):,} parts, not 1 to {MOST_PARTS:,}")
    for wanted in wanted_tok_s:
        not_negative("traffic", wanted)
    if not max(wanted_tok_s) > 0:
        raise UsageError("traffic is 0 all day: nothing is wanted")
    needed = [max(1, math.ceil(wanted / tok_s)) for wanted in wanted_tok_s]
    mean = math.fsum(wanted_tok_s) / len(wanted_tok_s)
    scaled = sum(needed) / len(needed)
    return Traffic(
        replicas=max(needed),
        utilisation=mean / (max(needed) * tok_s),
        scaled_replicas=scaled,
        scaled_utilisation=mean / (scaled * tok_s),
    )

"""How many drafted tokens each step keeps: pinned, so that every device does the same work.

A drafted token is accepted with probability α if all before it were, so that a step of k drafts
keeps (1 − αᵏ⁺¹) ÷ (1 − α) tokens on average, the target's own included (Leviathan et al. 2023,
arXiv:2211.17192, equation 1). The lengths are no random draws, whose mean would be off by chance:
they follow an additive sequence of the golden ratio, which fills the interval evenly from its first
element on. The seed decides where it begins.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

_GOLDEN = (math.sqrt(5) - 1) / 2
_BEGINNINGS = 100


def expected_kept(acceptance: float, draft_tokens: int) -> float:
    """Tokens that a step keeps on average, the target's own included."""
    return sum(acceptance**drafts for drafts in range(draft_tokens + 1))


@lru_cache(maxsize=64)
def pinned(acceptance: float, draft_tokens: int, new_tokens: int, seed: int) -> tuple[int, ...]:
    """Drafted tokens that each step keeps, until ``new_tokens`` are there.

    Each step adds the target's token to them; the last one keeps fewer where more would be too
    many. It refuses some wherever that can be had by beginning later: the checks look at it.
    """
    start = random.Random(seed).random()
    begun = (
        _from((start + later * _GOLDEN) % 1.0, acceptance, draft_tokens, new_tokens)
        for later in range(_BEGINNINGS if acceptance < 1 else 1)
    )
    first = next(begun)
    if first[-1] < draft_tokens:
        return first
    return next((kept for kept in begun if kept[-1] < draft_tokens), first)


def _from(start: float, acceptance: float, draft_tokens: int, new_tokens: int) -> tuple[int, ...]:
    kept: list[int] = []
    left = new_tokens
    while left > 0:
        u = (start + len(kept) * _GOLDEN) % 1.0
        drafts = sum(u < acceptance**length for length in range(1, draft_tokens + 1))
        kept.append(min(drafts, left - 1))
        left -= kept[-1] + 1
    return tuple(kept)


def positions(first: int, kept: Sequence[int]) -> list[int]:
    """Position of the newest token as each step begins; ``first`` is that of the first step."""
    places = []
    for drafts in kept:
        places.append(first)
        first += drafts + 1
    return places

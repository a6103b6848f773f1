"""How rotary positions are stretched beyond the context that a model was trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    ``linear`` divides every frequency by ``factor``. ``llama3`` leaves short wavelengths, divides
    long ones, and interpolates between (Llama 3.1 model card and reference code). ``yarn`` does so
    by the turns that a pair makes within the original context, and magnifies queries and keys
    (Peng et al., YaRN, 2023, section 3). ``longrope`` divides each pair's by a factor of its own
    and magnifies too (Ding et al., LongRoPE, 2024, arXiv:2402.13753); of its two sets of factors
    that for contexts up to the original is supported.
    """

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    fast_turns: float = 32.0
    """yarn: pairs that turn as often keep their frequency (its β)."""
    slow_turns: float = 1.0
    """yarn: pairs that turn no more than this are divided whole (its α)."""
    magnitude: float = 1.0
    """yarn, longrope: what rotated queries and keys are multiplied by."""
    whole_pairs: bool = True
    """yarn: whether the two limits are rounded outwards to whole pairs."""
    pair_factors: tuple[float, ...] = ()
    """longrope: what the frequency of each pair is divided by."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what another kind has is left out, as when the first were stored."""
        values = {**asdict(self), "pair_factors": list(self.pair_factors)}
        kinds = {
            "fast_turns": {"yarn"},
            "slow_turns": {"yarn"},
            "whole_pairs": {"yarn"},
            "magnitude": {"yarn", "longrope"},
            "pair_factors": {"longrope"},
        }
        return {k: v for k, v in values.items() if k not in kinds or self.kind in kinds[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RopeScaling:
        """Inverse of :meth:`to_json`."""
        return cls(**{**values, "pair_factors": tuple(values.get("pair_factors", ()))})


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's 0.1·ln(factor) + 1; 1 where nothing is stretched."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def longrope_magnitude(factor: float, original: int) -> float:
    """LongRoPE's √(1 + ln(factor) ÷ ln(original context)); 1 where nothing is stretched."""
    return math.sqrt(1.0 + math.log(factor) / math.log(original)) if factor > 1 else 1.0

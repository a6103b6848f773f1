"""What an input token and an output token cost each, from measured prefill and decode time.

A run's bill belongs to its tokens in the proportion of the busy time they take: busy time =
α·tokens_in + β·tokens_out. The two prices below do add up to the bill, unlike the bill divided by
either count alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpubench.costs.token_cost import SECONDS_PER_HOUR, finite, not_negative, positive, share
from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTime:
    """Busy seconds that one token takes on the whole set of chips."""

    input_s: float
    output_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """US dollars per million tokens, input and output apart."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float


def from_rates(prefill_tok_s: float, decode_tok_s: float) -> TokenTime:
    """Token times of one run whose prefill and decode were timed apart."""
    return TokenTime(
        input_s=1 / positive("prefill tok/s", prefill_tok_s),
        output_s=1 / positive("decode tok/s", decode_tok_s),
    )


def fit(
    tokens_in: Sequence[float], tokens_out: Sequence[float], busy_s: Sequence[float]
) -> TokenTime:
    """Least-squares α and β, neither below 0, over several windows of different mixes.

    UsageError when fewer than two windows are given or their mixes are all alike, since one mix
    cannot tell the two apart.
    """
    import numpy as np
    from scipy.optimize import nnls

    if not len(tokens_in) == len(tokens_out) == len(busy_s) or len(busy_s) < 2:
        raise UsageError("the split needs two or more windows of (tokens in, tokens out, seconds)")
    for value in (*tokens_in, *tokens_out):
        not_negative("tokens", value)
    for value in busy_s:
        positive("busy seconds", value)
    tokens = np.column_stack([tokens_in, tokens_out]).astype(float)
    scale = tokens.max(axis=0)
    if (scale == 0).any() or np.linalg.cond(tokens / scale) > 1e8:
        raise UsageError("the windows have one mix of input and output: the split is undetermined")
    coefficients, _ = nnls(tokens / scale, np.asarray(busy_s, dtype=float))
    alpha, beta = (coefficients / scale).tolist()
    return TokenTime(input_s=alpha, output_s=beta)


def token_price(
    time: TokenTime, usd_per_chip_hour: float, chips: float = 1, utilisation: float = 1.0
) -> TokenPrice:
    """c_in = 10⁶·P·chips·α/(3600·u), c_out likewise with β."""
    positive("$/chip-hour", usd_per_chip_hour)
    positive("chips", chips)
    share("utilisation", utilisation)
    per_second = 1e6 * usd_per_chip_hour * chips / (SECONDS_PER_HOUR * utilisation)
    return TokenPrice(
        input_usd_per_mtok=finite("input cost", per_second * time.input_s),
        output_usd_per_mtok=finite("output cost", per_second * time.output_s),
    )


def blended_usd_per_mtok(
    input_usd_per_mtok: float,
    output_usd_per_mtok: float,
    in_out_ratio: float,
    cached_usd_per_mtok: float | None = None,
    cache_hits: float = 0.0,
) -> float:
    """One price over a mix: [r((1−q)p_in + q·p_cached) + p_out]/(r+1).

    ``in_out_ratio`` r is input tokens per output token, ``cache_hits`` q the share of the input
    read from a prefix cache; with hits a cached price is needed. UsageError without it, and for
    what is below 0 or no share.
    """
    not_negative("input price", input_usd_per_mtok)
    not_negative("output price", output_usd_per_mtok)
    ratio = not_negative("in:out ratio", in_out_ratio)
    if not 0 <= cache_hits <= 1:
        raise UsageError(f"cache hits must be 0 to 1, not {cache_hits}")
    if cached_usd_per_mtok is None and cache_hits > 0:
        raise UsageError("cache hits need the price of a cached input token")
    cached = not_negative("cached price", cached_usd_per_mtok or 0.0)
    paid_in = (1 - cache_hits) * input_usd_per_mtok + cache_hits * cached
    return finite("blended price", (ratio * paid_in + output_usd_per_mtok) / (ratio + 1))

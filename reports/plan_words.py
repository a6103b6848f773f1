"""A solved plan in words: the same sentences on a terminal, on the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tpubench.costs.allocation.flips import PlanFlip
from tpubench.costs.allocation.in_force import LimitInForce
from tpubench.costs.allocation.statements import Whole
from tpubench.costs.allocation.verdict import PlanVerdict
from tpubench.reports.quantity import MISSING, number

NAMES = {"tpu": "TPU", "gpu": "GPU", "other": "other"}
WAYS = {"buy": "bought", "commit": "under contract", "rent": "rented"}
PROFIT = {
    "revenue": "revenue",
    "operating": "operating cost",
    "depreciation": "depreciation",
    "disposal": "gain on resale",
    "before_tax": "profit before tax",
    "tax": "tax",
    "after_tax": "profit after tax",
}
"""Lines of a profit and loss statement, by field."""
SCENARIOS_SHOWN = 6
"""Whose statements are printed in full; --json has all."""
_LARGE = ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One line; ``strong`` ones carry the answer."""

    text: str
    strong: bool = False


def dollars(usd: float | None) -> str:
    """US dollars at a readable size: ``$1.24 B``."""
    if usd is None:
        return MISSING
    sign = "−" if usd < 0 else ""
    size = abs(usd)
    for factor, suffix in _LARGE:
        if size >= factor:
            return f"{sign}${number(size / factor)}{suffix}"
    return f"{sign}${number(size)}" if size else "$0"


def scale_of(usd: float) -> tuple[float, str]:
    """What dollars of this size are divided by on an axis, and the unit's suffix."""
    return next(((factor, suffix) for factor, suffix in _LARGE if usd >= factor), (1.0, ""))


def allowed(limit: LimitInForce) -> str:
    """What a limit allows; of a list its first and last year."""
    values = limit.value if isinstance(limit.value, list) else [limit.value]
    if limit.unit == "$":
        ends = [dollars(values[0]), dollars(values[-1])]
    elif limit.unit == "MW":
        ends = [f"{values[0]:,.6g} MW", f"{values[-1]:,.6g} MW"]
    else:
        ends = [f"{values[0]:.4g}"] * 2
    return ends[0] if len(values) == 1 else f"{ends[0]} to {ends[1]}"


def venture(whole: Whole) -> str:
    """The plan as one venture: value, margin, payback and return, or why there is none."""
    if whole.npv_usd is None or whole.margin is None:
        return "margin, payback and return: no workload has a price_usd_per_mtok"
    rate = f"{whole.irr:.1%}" if whole.irr is not None else f"{MISSING} ({whole.irr_missing})"
    back = MISSING if whole.payback_years is None else f"{whole.payback_years:.2g} years"
    return (
        f"the plan as a whole: NPV {dollars(whole.npv_usd)} on revenue"
        f" {dollars(whole.revenue_usd)} (margin {whole.margin:.1%}), payback {back}, IRR {rate}"
    )


def head(verdict: PlanVerdict) -> str:
    """Where the next dollar goes, in a few words."""
    dollar = verdict.next_dollar
    if dollar is None:
        return "None"
    text = f"{NAMES[dollar.side]}, {WAYS[dollar.how]}"
    return f"A tie; by a little {text}" if verdict.tie else text


def answer(verdict: PlanVerdict) -> Iterable[Sentence]:
    """The answer, what it consists of, and how sure it is."""
    dollar = verdict.next_dollar
    if dollar is None:
        yield Sentence(text=f"No verdict: {verdict.missing}.", strong=True)
        return
    yield Sentence(
        text=f"Next dollar: {NAMES[dollar.side]}, {WAYS[dollar.how]} ({dollar.option});"
        f" {dollar.share:.0%} of {dollars(dollar.usd)} of new money over the plan",
        strong=True,
    )
    yield Sentence(text=f"sides: {shares(dollar.shares)}; ways: {shares(dollar.how_shares)}")
    yield Sentence(text=f"vendors: {shares(dollar.vendors)}")
    first = f"{dollar.first_year_of}: {shares(dollar.first_year)}; " if dollar.first_year else ""
    yield Sentence(text=f"{first}in whole lots: {shares(verdict.whole_shares)}")
    if dollar.signed_usd > 0:
        yield Sentence(text=f"signed already, apart from this: {dollars(dollar.signed_usd)}")
    if verdict.tie:
        yield Sentence(text=f"A tie: {'; '.join(verdict.tie_reasons)}.", strong=True)
    ranges = "; ".join(
        f"{NAMES[side]} {low:.0%} to {high:.0%}"
        for side, (low, high) in verdict.share_range.items()
    )
    yield Sentence(text=f"plans within 0.5 % of the best cost: {ranges}")
    yield from sure(verdict)


def sure(verdict: PlanVerdict) -> Iterable[Sentence]:
    """What the sampled futures say; nothing where none were sampled."""
    futures = verdict.futures
    if futures is None or verdict.probability is None or verdict.probability_how is None:
        return
    regret = "unknown" if verdict.regret_usd is None else dollars(verdict.regret_usd)
    yield Sentence(
        text=f"How sure: of {futures.answered} sampled futures the next dollar is"
        f" {shares(verdict.probability)} ({shares(verdict.probability_how)});"
        f" expected regret of deciding today {regret}",
        strong=True,
    )
    if futures.unserved or futures.stuck:
        yield Sentence(
            text=f"{futures.unserved} of them cannot serve all demand whatever is decided,"
            f" {futures.stuck} more not after today's decision"
        )


def shares(parts: Mapping[str, float]) -> str:
    """Shares by name, what is next to nothing left out."""
    named = [(NAMES.get(name, name), share) for name, share in parts.items()]
    return ", ".join(f"{name} {share:.0%}" for name, share in named if share >= 0.0005) or MISSING


def digits(flip: PlanFlip) -> str:
    """The value of a flip to as many digits as tell it from a thousandth of the way to it."""
    at = flip.at or 0.0
    step = abs(at - flip.now) * 1e-3
    if at == 0 or step == 0:
        return f"{at:g}"
    places = max(3, math.ceil(math.log10(abs(at) / step)))
    return f"{at:.{min(places, 15)}g}"


def command(flip: PlanFlip) -> str:
    """The ``--set`` argument that applies a flip."""
    return f"--set '{flip.path}{'*=' if flip.several else '='}{digits(flip)}'"


def turning(flip: PlanFlip) -> str:
    """What turns the answer, in a sentence."""
    times = "× " if flip.several else ""
    unit = "" if flip.unit in {"", "×"} else f" {flip.unit}"
    after = NAMES.get(flip.answer_after or "", MISSING)
    return f"{flip.input} at {times}{digits(flip)}{unit} (now {times}{flip.now:.6g}): {after}"

"""The first screen in words: the same sentences on the page, a terminal, and in Markdown.

The page's script says them again after a slider has moved; what is shared with it is short.
"""

from __future__ import annotations

from tpubench.devices.prices import STALE_AFTER_DAYS
from tpubench.reports import quantity
from tpubench.reports.answers.build import Answers
from tpubench.reports.answers.verdicts import Flip, PairVerdict, WayCost, WorkAnswer

_VENDORS = {"NVIDIA": "Nvidia", "AMD": "AMD"}
_CLOSE = "Too close to call"
_DECIDED = 0.001
_LEVEL = 1.005
"""Factor below which two costs are printed as level: it would read 1.00 ×."""


def usd(amount: float) -> str:
    """Dollars: cents from ten of them on, three significant digits below."""
    return f"${amount:,.2f}" if amount >= 0.1 else f"${quantity.number(amount)}"


def chance(p: float) -> str:
    """A probability as a share; beyond one in a thousand only that."""
    if p < _DECIDED:
        return "< 0.1 %"
    if p > 1 - _DECIDED:
        return "> 99.9 %"
    percent = 100 * p
    return f"{percent:.1f} %" if percent < 10 or percent > 90 else f"{percent:.0f} %"


def maker(vendor: str, *, tpu: bool) -> str:
    """Whose chip it is, as a verdict says it."""
    return "TPU" if tpu else _VENDORS.get(vendor, vendor)


def winner(one: WorkAnswer, verdict: PairVerdict) -> str:
    """Whose chip is cheaper on the figures."""
    way = one.ways[verdict.tpu if verdict.compared.ratio > 1 else verdict.gpu]
    return maker(way.vendor, tpu=way.tpu)


def head(one: WorkAnswer, verdict: PairVerdict) -> str:
    """The verdict in four words."""
    if verdict.compared.word == "close":
        return _CLOSE
    return f"{winner(one, verdict)} {quantity.number(verdict.compared.times)} × cheaper"


def sure(one: WorkAnswer, verdict: PairVerdict) -> str:
    """How sure it is; where it is too close, what the bare figures say."""
    text = f"P(TPU cheaper) {chance(verdict.compared.p_tpu_cheaper)}"
    if verdict.compared.word == "close":
        if verdict.compared.times < _LEVEL:
            return f"level on the figures; {text}"
        times = quantity.number(verdict.compared.times)
        return f"{winner(one, verdict)} {times} × cheaper on the figures; {text}"
    return f"{interval(verdict)}; {text}"


def interval(verdict: PairVerdict) -> str:
    """Ends of how many times cheaper it is."""
    low, high = verdict.compared.low, verdict.compared.high
    if verdict.compared.ratio < 1:
        low, high = 1 / high, 1 / low
    return f"{quantity.number(low)} to {quantity.number(high)} ×"


def sides(one: WorkAnswer, verdict: PairVerdict) -> str:
    """Which two are compared, each with its price."""
    return ", ".join(side(one.ways[i], verdict) for i in (verdict.tpu, verdict.gpu))


def side(way: WayCost, verdict: PairVerdict) -> str:
    """A device with the price it is paid at, and the way where the verdict does not say it."""
    how = "" if way.label in verdict.at else f" {way.label}"
    return f"{device(way.name)} {usd(way.usd_per_chip_hour)}/h{how}"


def device(name: str) -> str:
    """A device without its maker, where that is plain: ``B200 SXM``."""
    return name.removeprefix("NVIDIA ").removeprefix("AMD ")


def about(one: WorkAnswer) -> str:
    """The work and its precision."""
    precision = "" if one.work.dtype == "not-stated" else f", {one.work.dtype}"
    return f"{one.work.title}{precision}"


def basis(one: WorkAnswer) -> str:
    """Evidence, and how old the deciding prices are."""
    ages = [one.ways[i].age_days for verdict in one.verdicts for i in (verdict.tpu, verdict.gpu)]
    text = one.work.evidence
    if ages:
        low, high = min(ages), max(ages)
        days = f"{low}" if low == high else f"{low}–{high}"
        stale = ", stale" if high > STALE_AFTER_DAYS else ""
        text += f"; prices {days} days old{stale}"
    return text


def flip(one: Flip) -> str:
    """What would make both cost the same, and on which side of it the TPU wins."""
    if one.at_usd is None or one.now_usd is None:
        return (
            f"{one.input} {one.tpu_wins} {quantity.number(one.at)} (now {quantity.number(one.now)})"
        )
    return (
        f"{device(one.device)} {one.tpu_wins} {usd(one.at_usd)} an hour (now {usd(one.now_usd)}):"
        f" {one.input} × {quantity.number(one.at)}"
    )


def trust(answers: Answers) -> list[str]:
    """What the answers rest on, a sentence each."""
    trusted = answers.trust
    total = sum(trusted.evidence.values())
    if list(trusted.evidence) == ["published"]:
        lines = [f"{total:,} published cases, none measured here"]
    else:
        parts = [f"{count:,} {kind}" for kind, count in trusted.evidence.items()]
        lines = [f"cases: {', '.join(parts) or 'none'}"]
    lines.append(
        f"{trusted.pairs} like-for-like {'pair' if trusted.pairs == 1 else 'pairs'}"
        " of a TPU and a GPU"
    )
    if trusted.oldest_price is not None:
        lines.append(
            f"oldest deciding price: {trusted.oldest_days} days ({trusted.oldest_price});"
            f" {trusted.stale_prices} of {trusted.deciding_prices}"
            f" older than {STALE_AFTER_DAYS} days"
        )
    if trusted.assumed:
        lines.append(
            f"{trusted.assumed} deciding figures have no interval and are taken as known within"
            f" ± {trusted.assumed_width:.0%}".replace("%", " %")
        )
    lines.append(f"greatest hole: {trusted.hole}")
    return lines if answers.drawn is None else [answers.drawn, *lines]


def span(one: WorkAnswer) -> str:
    """Whether any list price of the two that decide on demand would turn the answer."""
    if one.ratio_range is None:
        return ""
    low, high = one.ratio_range
    if low < 1 < high:
        return "the price decides: at some list price the other one is cheaper"
    return f"{'TPU' if low >= 1 else 'GPU'} cheaper at every list price of the two"

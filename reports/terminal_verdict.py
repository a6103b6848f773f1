"""The plan's verdict on a terminal: the answer, how sure, what it rests on, what turns it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from tpubench.costs.allocation.flips import Flip
from tpubench.costs.allocation.futures import Doubted
from tpubench.costs.allocation.money import NextDollar
from tpubench.costs.allocation.verdict import Verdict
from tpubench.reports.quantity import MISSING
from tpubench.reports.terminal_plan import dollars, say, table

NAMES = {"tpu": "TPU", "gpu": "GPU", "other": "other"}
WAYS = {"buy": "bought", "commit": "under contract", "rent": "rented"}
FLIPS_SHOWN = 25


def show_verdict(out: Console, verdict: Verdict) -> None:
    """The answer first, then everything it rests on."""
    answer = verdict.next_dollar
    if answer is None:
        say(out, f"\nNo verdict: {verdict.missing}.", bold=True)
    else:
        _answer(out, verdict, answer)
    _options(out, verdict)
    _limits(out, verdict)
    _flips(out, verdict)
    _tornado(out, verdict)


def _answer(out: Console, verdict: Verdict, answer: NextDollar) -> None:
    say(
        out,
        f"\nNext dollar: {NAMES[answer.side]}, {WAYS[answer.how]} ({answer.option});"
        f" {answer.share:.0%} of {dollars(answer.usd)} of new money over the plan",
        bold=True,
    )
    say(out, f"sides: {_shares(answer.shares)}; ways: {_shares(answer.how_shares)}")
    say(out, f"vendors: {_shares(answer.vendors)}")
    first = f"{answer.first_year_of}: {_shares(answer.first_year)}; " if answer.first_year else ""
    say(out, f"{first}in whole lots: {_shares(verdict.whole_shares)}")
    if answer.signed_usd > 0:
        say(out, f"signed already, apart from this: {dollars(answer.signed_usd)}")
    ranges = "; ".join(
        f"{NAMES[side]} {low:.0%} to {high:.0%}"
        for side, (low, high) in verdict.share_range.items()
    )
    if verdict.tie:
        say(out, f"A tie: {'; '.join(verdict.tie_reasons)}.", bold=True)
    say(out, f"plans within 0.5 % of the best cost: {ranges}")
    futures = verdict.futures
    if futures is None or verdict.probability is None or verdict.probability_how is None:
        return
    regret = "unknown" if verdict.regret_usd is None else dollars(verdict.regret_usd)
    say(
        out,
        f"How sure: of {futures.answered} sampled futures the next dollar is"
        f" {_shares(verdict.probability)} ({_shares(verdict.probability_how)});"
        f" expected regret of deciding today {regret}",
        bold=True,
    )
    if futures.unserved or futures.stuck:
        say(
            out,
            f"{futures.unserved} of them cannot serve all demand whatever is decided,"
            f" {futures.stuck} more not after today's decision",
        )


def _shares(shares: Mapping[str, float]) -> str:
    parts = [(NAMES.get(name, name), share) for name, share in shares.items()]
    return ", ".join(f"{name} {share:.0%}" for name, share in parts if share >= 0.0005) or MISSING


def _options(out: Console, verdict: Verdict) -> None:
    shown = table(
        "Worth of each option: what the plan would cost more without it",
        ("without",),
        ("side", "how", "spent on it", "worth", "in plan"),
    )
    for option in verdict.options:
        worth = "impossible" if option.worth_usd is None else dollars(option.worth_usd)
        chance = option.in_plan_probability
        name = f"{option.name} (signed)" if option.signed and not option.group else option.name
        shown.add_row(
            escape(name),
            option.side,
            option.how,
            dollars(option.usd),
            worth,
            MISSING if chance is None else f"{chance:.0%}",
        )
    out.print(shown)
    say(out, "impossible: no plan meets all demand and limits without it; in plan: of the futures")
    for signature in verdict.signed:
        say(
            out,
            f"{signature.name}: signed, {dollars(signature.minimum_usd)} of present value; against"
            f" being free to sign, that costs {dollars(signature.usd)}",
        )


def _limits(out: Console, verdict: Verdict) -> None:
    if not verdict.limits:
        say(out, "\nNo limit binds: one more dollar, megawatt or chip is worth nothing.")
        return
    shown = table("What one more would save", ("limit", "one more"), ("dual", "small step"))
    for limit in verdict.limits:
        shown.add_row(escape(limit.limit), limit.unit, dollars(limit.usd), dollars(limit.step_usd))
    out.print(shown)


def _flips(out: Console, verdict: Verdict) -> None:
    turning = [flip for flip in verdict.flips if flip.at is not None]
    if turning:
        shown = table(
            "What turns it, one input alone, nearest first (apply a --set to follow it)",
            ("input",),
            ("now", "turns at", "then"),
        )
        for flip in turning[:FLIPS_SHOWN]:
            unit = "" if flip.unit in {"", "×"} else f" {flip.unit}"
            times = "× " if flip.several else ""
            name = f"{flip.input}{f' ({flip.unit})' if unit else ''}\n  {command(flip)}"
            after = NAMES.get(flip.answer_after or "", MISSING)
            now, at = f"{times}{flip.now:.6g}", f"{times}{digits(flip)}"
            shown.add_row(escape(name), now, at, after)
        out.print(shown)
        if len(turning) > FLIPS_SHOWN:
            say(out, f"and {len(turning) - FLIPS_SHOWN} more that lie further off (--json)")
    still = len(verdict.flips) - len(turning)
    if still:
        say(out, f"{still} inputs turn it nowhere within their plausible range (--json)")
    if verdict.flips_left_out:
        say(
            out,
            f"{len(verdict.flips_left_out)} inputs were not looked at in the time given:"
            " raise plan.seconds",
        )


def digits(flip: Flip) -> str:
    """The value of a flip to as many digits as tell it from a thousandth of the way to it."""
    at = flip.at or 0.0
    step = abs(at - flip.now) * 1e-3
    if at == 0 or step == 0:
        return f"{at:g}"
    places = max(3, math.ceil(math.log10(abs(at) / step)))
    return f"{at:.{min(places, 15)}g}"


def command(flip: Flip) -> str:
    """The ``--set`` argument that applies a flip."""
    return f"--set '{flip.path}{'*=' if flip.several else '='}{digits(flip)}'"


def _tornado(out: Console, verdict: Verdict) -> None:
    if not verdict.doubts:
        return
    swings = {swing.path: swing for swing in verdict.tornado}
    shown = table(
        "Doubts, and the plan at either end of each",
        ("doubted", "from"),
        ("range", "cost", "TPU share"),
    )
    ordered = sorted(verdict.doubts, key=lambda d: [*swings, d.path].index(d.path))
    for doubt in ordered:
        swing = swings.get(doubt.path)
        cost = tpu = MISSING
        if swing is not None:
            cost = f"{dollars(swing.usd_low)} – {dollars(swing.usd_high)}"
            ends = (swing.tpu_low, swing.tpu_high)
            tpu = " – ".join(MISSING if v is None else f"{v:.0%}" for v in ends)
        shown.add_row(escape(doubt.input), escape(doubt.source), _width(doubt), cost, tpu)
    out.print(shown)


def _width(doubt: Doubted) -> str:
    return f"× {doubt.low:.3g}–{doubt.high:.3g}"

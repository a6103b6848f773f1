"""The plan's verdict on a terminal: the answer, how sure, what it rests on, what turns it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from tpubench.costs.allocation.futures import Doubted
from tpubench.costs.allocation.verdict import PlanVerdict
from tpubench.reports import plan_words
from tpubench.reports.plan_words import dollars
from tpubench.reports.quantity import MISSING
from tpubench.reports.terminal.narrow import say, table

FLIPS_SHOWN = 25


def show_verdict(out: Console, verdict: PlanVerdict) -> None:
    """The answer first, then everything it rests on."""
    for number, sentence in enumerate(plan_words.answer(verdict)):
        say(out, f"{'' if number else chr(10)}{sentence.text}", bold=sentence.strong)
    _options(out, verdict)
    _limits(out, verdict)
    _flips(out, verdict)
    _tornado(out, verdict)


def _options(out: Console, verdict: PlanVerdict) -> None:
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


def _in_force(out: Console, verdict: PlanVerdict) -> None:
    if not verdict.limits_in_force:
        return
    shown = table("Limits in force, and what each costs", ("limit",), ("allowed", "costs"))
    for limit in verdict.limits_in_force:
        shown.add_row(escape(limit.limit), plan_words.allowed(limit), dollars(limit.usd))
    out.print(shown)


def _limits(out: Console, verdict: PlanVerdict) -> None:
    _in_force(out, verdict)
    if not verdict.limits:
        say(out, "\nNo limit binds: one more dollar, megawatt or chip is worth nothing.")
        return
    shown = table("What one more would save", ("limit", "one more"), ("dual", "small step"))
    for limit in verdict.limits:
        shown.add_row(escape(limit.limit), limit.unit, dollars(limit.usd), dollars(limit.step_usd))
    out.print(shown)


def _flips(out: Console, verdict: PlanVerdict) -> None:
    turning = [flip for flip in verdict.flips if flip.at is not None]
    if turning:
        shown = table(
            "What turns it, one input alone, nearest first",
            ("", "input"),
            ("now", "turns at", "then"),
        )
        for number, flip in enumerate(turning[:FLIPS_SHOWN], 1):
            unit = "" if flip.unit in {"", "×"} else f" ({flip.unit})"
            times = "× " if flip.several else ""
            after = plan_words.NAMES.get(flip.answer_after or "", MISSING)
            now, at = f"{times}{flip.now:.6g}", f"{times}{plan_words.digits(flip)}"
            shown.add_row(str(number), escape(f"{flip.input}{unit}"), now, at, after)
        out.print(shown)
        say(out, "to follow one: tpubench allocate PLAN.toml --answer-only with")
        for number, flip in enumerate(turning[:FLIPS_SHOWN], 1):
            # Never broken, so that it can be copied.
            line = f"  {number}  {plan_words.command(flip)}"
            out.print(line, markup=False, no_wrap=True, overflow="ignore", crop=False)
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


def _tornado(out: Console, verdict: PlanVerdict) -> None:
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

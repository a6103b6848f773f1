"""A solved allocation for a finance lead: what to do, what it costs, how sure, what flips it.

Tables are laid out for 80 columns: where the years do not fit side by side they go on below.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.costs.allocation.statements import EXPECTED, SPENT
from tpubench.costs.allocation.variants import AS_PLANNED, NO_RESALE
from tpubench.reports import plan_words
from tpubench.reports.plan_words import NAMES, dollars
from tpubench.reports.quantity import MISSING, number
from tpubench.reports.terminal import console, print_json
from tpubench.reports.terminal.narrow import by_year, narrow, say, table
from tpubench.reports.terminal.verdict import show_verdict


def show_plan(answer: PlanAnswer, *, as_json: bool, kept: Path | None = None) -> None:
    """The whole answer, its assumptions beside it, and where it is ``kept``."""
    if as_json:
        stored = {} if kept is None else {"stored": str(kept)}
        print_json(answer.to_json() | stored)
        return
    out = console() if sys.stdout.isatty() else narrow()
    what = "margin" if answer.objective == "max_margin" else "cost"
    say(out, answer.name, bold=True)
    for setting in answer.settings:
        say(out, f"with {setting}")
    if answer.placeholders:
        say(
            out,
            f"{len(answer.placeholders)} of its figures are placeholders (see the assumptions):"
            " nothing below holds before they are replaced",
        )
    if answer.gap is None:
        sure = "how far from the best possible is unknown: raise plan.seconds"
    else:
        sure = f"at most {answer.gap:.3%} from the best possible"
    say(
        out,
        f"present {what} {dollars(answer.objective_usd)}; {sure}"
        f" ({answer.method}, {answer.seconds:.1f} s)",
    )
    _without_resale(out, answer)
    show_verdict(out, answer.verdict)
    _amounts(out, answer)
    _cash(out, answer)
    _profit(out, answer)
    _variants(out, answer)
    _tokens(out, answer)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(answer.evidence.items()))
    say(out, f"\nThroughputs used: {kinds}.")
    say(out, "Assumptions:")
    for line in answer.assumptions:
        say(out, f"  - {line}")
    if kept is not None:
        say(out, f"kept in {kept}: tpubench report --store {kept.parent.parent} shows it")


def _without_resale(out: Console, answer: PlanAnswer) -> None:
    """How much of the answer is what chips are said to be worth at the end."""
    relaxed = {variant.name: variant for variant in answer.variants}
    planned, none = relaxed.get(AS_PLANNED), relaxed.get(NO_RESALE)
    if planned is None or none is None:
        return
    what = "margin" if answer.objective == "max_margin" else "cost"
    text = "impossible" if none.objective_usd is None else dollars(none.objective_usd)
    side = "" if none.side is None else f"; next dollar {NAMES[none.side]} {none.share:.0%}"
    say(
        out,
        f"relaxed, the {what} is {dollars(planned.objective_usd)}; were chips worth nothing when"
        f" sold, {text}{side}",
    )


def _amounts(out: Console, answer: PlanAnswer) -> None:
    years = sorted({cash.year for cash in answer.cash})
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    spread: dict[tuple[str, ...], dict[int, str]] = {}
    for amount in answer.amounts:
        key = (amount.accelerator, amount.option)
        rows.setdefault(key, {})[amount.year] = f"{amount.chips:,.0f}"
        if amount.high > amount.low:
            text = f"{amount.low:,.0f}–{amount.high:,.0f}"
            spread.setdefault(key, {})[amount.year] = text
    by_year(out, "Chips to buy, commit to and rent", ("chip", "how"), years, rows)
    say(out, "buy and commitments: new that year; rent and contracts: mean over the scenarios")
    if spread:
        by_year(out, "Lowest to highest of the scenarios", ("chip", "how"), years, spread)
    owned: dict[tuple[str, ...], dict[int, str]] = {}
    for held in answer.fleet:
        owned.setdefault((held.accelerator, "owned"), {})[held.year] = f"{held.owned:,.0f}"
        if held.retired > 0:
            owned.setdefault((held.accelerator, "retired"), {})[held.year] = f"{held.retired:,.0f}"
    if owned:
        by_year(out, "Bought chips at each year's end, and retired", ("chip", ""), years, owned)
    if any(power.mw > 0 for power in answer.power):
        drawn = {power.year: f"{power.mw:,.1f}" for power in answer.power}
        allowed = {p.year: f"{p.limit_mw:,.1f}" for p in answer.power if p.limit_mw is not None}
        lines: dict[tuple[str, ...], dict[int, str]] = {("drawn",): drawn}
        if allowed:
            lines["allowed",] = allowed
        by_year(out, "Megawatts at the meter", ("power",), years, lines)
    for port in answer.ports:
        say(out, f"port {port.workload} to {port.accelerator}: {dollars(port.usd)}")


def _cash(out: Console, answer: PlanAnswer) -> None:
    expected = [cash for cash in answer.cash if cash.scenario == EXPECTED]
    years = [cash.year for cash in expected]
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for part in (*SPENT, "tax", "revenue", "resale"):
        values = {cash.year: getattr(cash, part) for cash in expected}
        if any(values.values()):
            rows[part,] = {year: dollars(usd) for year, usd in values.items() if usd}
    rows["net spent",] = {cash.year: dollars(cash.net) for cash in expected}
    by_year(out, "Expected cash by year (resale: value left, last year)", ("item",), years, rows)
    nets: dict[tuple[str, ...], dict[int, str]] = {}
    for cash in answer.cash:
        if cash.scenario != EXPECTED:
            nets.setdefault((cash.scenario,), {})[cash.year] = dollars(cash.net)
    if nets:
        by_year(out, "Net spent in each scenario", ("scenario",), years, nets)


def _profit(out: Console, answer: PlanAnswer) -> None:
    for scenario in list(dict.fromkeys(row.scenario for row in answer.profit))[
        : plan_words.SCENARIOS_SHOWN + 1
    ]:
        _profit_of(out, answer, scenario)
    more = len({row.scenario for row in answer.profit}) - 1 - plan_words.SCENARIOS_SHOWN
    if more > 0:
        say(out, f"profit and loss of {more} more scenarios: --json")
    say(out, plan_words.venture(answer.whole))


def _profit_of(out: Console, answer: PlanAnswer, scenario: str) -> None:
    mine = [row for row in answer.profit if row.scenario == scenario]
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for part, name in plan_words.PROFIT.items():
        values = {row.year: getattr(row, part) for row in mine}
        if any(values.values()):
            rows[name,] = {year: dollars(usd) for year, usd in values.items()}
    title = f"Profit and loss, {'' if scenario == EXPECTED else 'scenario '}{scenario}"
    by_year(out, title, ("item",), [row.year for row in mine], rows)


def _variants(out: Console, answer: PlanAnswer) -> None:
    if not answer.variants:
        return
    shown = table("The plan under other assumptions", ("change",), ("cost", "next", "TPU share"))
    if answer.objective == "max_margin":
        shown.columns[1].header = "margin"
    for variant in answer.variants:
        cost = dollars(variant.objective_usd) if variant.objective_usd is not None else "impossible"
        side = MISSING if variant.side is None else f"{variant.side} {variant.share:.0%}"
        tpu = MISSING if variant.tpu_share is None else f"{variant.tpu_share:.0%}"
        shown.add_row(escape(variant.name), cost, side, tpu)
    out.print(shown)


def _tokens(out: Console, answer: PlanAnswer) -> None:
    shown = table(
        "Cost of a million tokens, over the plan",
        ("workload", "served by"),
        ("$/M", "M tokens", "of demand"),
    )
    for cost in answer.tokens:
        shares = sorted(cost.by_accelerator.items(), key=lambda item: -item[1])
        served = ", ".join(f"{chip} {share:.0%}" for chip, share in shares if share >= 0.005)
        usd = MISSING if cost.usd_per_mtok is None else f"${number(cost.usd_per_mtok)}"
        amount = f"{cost.mtok:.3g}" if cost.mtok else "0"
        shown.add_row(
            escape(cost.workload), escape(served), usd, amount, f"{cost.served_share:.0%}"
        )
    out.print(shown)

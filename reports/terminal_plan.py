"""A solved allocation for a finance lead: what to do, what it costs, how sure, what flips it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tpubench.costs.allocation.answer import Answer
from tpubench.costs.allocation.verdict import Verdict
from tpubench.reports.quantity import MISSING, number
from tpubench.reports.terminal import console, print_json

TORNADO_SHOWN = 8
_LARGE = ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k"))


def show_plan(answer: Answer, *, as_json: bool) -> None:
    """The whole answer, its assumptions beside it."""
    if as_json:
        print_json(answer.to_json())
        return
    out = console()
    what = "margin" if answer.objective == "max_margin" else "cost"
    say(out, f"{answer.name}", bold=True)
    say(
        out,
        f"present {what} {dollars(answer.objective_usd)}; at most {answer.gap:.3%} from the best"
        f" possible ({answer.method}, {answer.seconds:.1f} s)",
    )
    _amounts(out, answer)
    _cash(out, answer)
    _tokens(out, answer)
    _shadow(out, answer)
    _verdict(out, answer)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(answer.evidence.items()))
    say(out, f"\nThroughputs used: {kinds}.")
    say(out, "Assumptions:")
    for line in answer.assumptions:
        say(out, f"  - {line}")


def say(out: Console, text: str, *, bold: bool = False) -> None:
    """A line as it is, wrapped by the terminal."""
    out.print(text, markup=False, soft_wrap=True, style="bold" if bold else None)


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


def _table(title: str, left: Sequence[str], right: Iterable[str]) -> Table:
    table = Table(title=title)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _amounts(out: Console, answer: Answer) -> None:
    years = [cash.year for cash in answer.cash]
    table = _table("Chips to buy, commit to and rent", ("chip", "how"), map(str, years))
    cells: dict[tuple[str, str], dict[int, str]] = {}
    for amount in answer.amounts:
        text = f"{amount.chips:,.0f}"
        if amount.high > amount.low:
            text += f" [{amount.low:,.0f}–{amount.high:,.0f}]"
        cells.setdefault((amount.accelerator, amount.option), {})[amount.year] = text
    for (chip, option), row in cells.items():
        table.add_row(escape(chip), escape(option), *(row.get(year, "") for year in years))
    out.print(table)
    say(out, "rent: mean over the scenarios [lowest–highest]; buy and commitments: new that year")
    for port in answer.ports:
        say(out, f"port {port.workload} to {port.accelerator}: {dollars(port.usd)}")


def _cash(out: Console, answer: Answer) -> None:
    parts = ("capex", "porting", "running", "commitments", "rent", "shortfall", "revenue", "resale")
    years = [str(cash.year) for cash in answer.cash]
    table = _table("Expected cash by year (resale: value left, last year)", ("item",), years)
    for part in parts:
        values = [getattr(cash, part) for cash in answer.cash]
        if any(values):
            table.add_row(part, *(dollars(value) if value else "" for value in values))
    table.add_row("net spent", *(dollars(cash.net) for cash in answer.cash), style="bold")
    out.print(table)


def _tokens(out: Console, answer: Answer) -> None:
    table = _table(
        "Cost of a million tokens, over the plan",
        ("workload", "served by"),
        ("$/M tokens", "M tokens", "of demand"),
    )
    for cost in answer.tokens:
        shares = sorted(cost.by_accelerator.items(), key=lambda item: -item[1])
        served = ", ".join(f"{chip} {share:.0%}" for chip, share in shares if share >= 0.005)
        usd = MISSING if cost.usd_per_mtok is None else f"${number(cost.usd_per_mtok)}"
        amount = number(cost.mtok) if cost.mtok else "0"
        table.add_row(
            escape(cost.workload), escape(served), usd, amount, f"{cost.served_share:.0%}"
        )
    out.print(table)


def _shadow(out: Console, answer: Answer) -> None:
    if not answer.shadow_prices:
        say(out, "\nNo shared limit binds: one more dollar, megawatt or supplier is worth nothing.")
        return
    table = _table("What one more would be worth", ("limit", "one more"), ("present value",))
    for price in answer.shadow_prices:
        table.add_row(escape(price.limit), price.unit, dollars(price.usd))
    out.print(table)


def _verdict(out: Console, answer: Answer) -> None:
    verdict = answer.verdict
    if verdict is None:
        say(out, f"\n{answer.verdict_missing}")
        return
    cheaper = verdict.side if verdict.side_usd <= verdict.other_usd else verdict.other
    say(
        out,
        f"\nUnit economics, before limits: {verdict.side} {dollars(verdict.side_usd)},"
        f" {verdict.other} {dollars(verdict.other_usd)} for the same tokens"
        f" ({verdict.compared_share:.0%} of all). Cheaper at these figures: {cheaper}.",
        bold=True,
    )
    say(
        out,
        f"P({verdict.side} cheaper) = {verdict.probability_cheaper:.0%}; expected regret of"
        f" choosing {cheaper}: {dollars(verdict.regret_usd)}, of the other:"
        f" {dollars(verdict.regret_other_usd)}",
    )
    _tornado(out, verdict)
    table = _table("What would flip it, one figure alone", ("side", "figure", "from → to"), ())
    for flip in verdict.flips:
        table.add_row(escape(flip.side), flip.figure, escape(flip.example))
    out.print(table)


def _tornado(out: Console, verdict: Verdict) -> None:
    table = _table(
        f"Extra cost of {verdict.other} over {verdict.side}, one figure at each end of its range",
        ("side", "figure"),
        ("low end", "high end"),
    )
    for swing in verdict.tornado[:TORNADO_SHOWN]:
        table.add_row(escape(swing.side), swing.figure, f"{swing.low:+.0%}", f"{swing.high:+.0%}")
    out.print(table)

"""Prices, costs and plans on a terminal; one JSON document with ``--json``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from tpubench.costs.importers import RejectedOffer
from tpubench.costs.price_diff import OfferChange, partial
from tpubench.devices.prices import GIVEN, STALE_AFTER_DAYS, Price, today
from tpubench.reports.console import console, next_step
from tpubench.reports.quantity import MISSING, number
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import print_json

REJECTED_SHOWN = 10
_SHARES = {
    "gross_margin", "cost_profit_margin", "irr", "break_even_utilisation", "break_even_use",
    "utilisation", "utilisation_scaled",
}  # fmt: skip


def show_prices(prices: Sequence[Price], on: dt.date, *, as_json: bool) -> None:
    """A price table, each price with its date and whether it is stale."""
    if as_json:
        print_json([price_record(price, on) for price in prices])
        return
    if not prices:
        console().print("no price matches")
        return
    table = FoldingTable(title="US dollars a chip-hour")
    for heading in ("id", "accelerator", "term", "layer", "as of"):
        table.add_column(heading)
    table.add_column("$/chip-hour", justify="right")
    for price in prices:
        table.add_row(
            escape(price.id),
            escape(price.accelerator),
            escape(price.term),
            price.layer,
            f"{price.as_of}{' stale' if price.stale(on) else ''}",
            _rate(price),
        )
    out = console()
    out.print(table)
    out.print(
        f"stale: older than {STALE_AFTER_DAYS} days · *: host billed beside it · ?: suspect",
        style="dim",
    )


def show_price(price: Price, on: dt.date, *, as_json: bool) -> None:
    """Everything about one price."""
    record = price_record(price, on)
    if as_json:
        print_json(record)
        return
    out = console()
    for name, value in record.items():
        out.print(f"{name}: {value}", markup=False, soft_wrap=True)


def price_record(price: Price, on: dt.date) -> dict[str, Any]:
    """A price as JSON values, with its age today."""
    return {
        **price.dated(on),
        "sha256": price.sha256,
        "suspect": price.suspect,
    }


def show_import(
    prices: Sequence[Price], rejected: Sequence[RejectedOffer], path: Path, *, as_json: bool
) -> None:
    """What was imported, and the rows that were not, with reasons."""
    if as_json:
        reasons = [{"where": row.where, "reason": row.reason} for row in rejected]
        print_json({"written": str(path), "prices": len(prices), "rejected": reasons})
        return
    out = console()
    suspects = [price for price in prices if price.suspect]
    for price in suspects[:REJECTED_SHOWN]:
        out.print(f"suspect: {price.id}: {price.note}", markup=False, soft_wrap=True)
    for row in rejected[:REJECTED_SHOWN]:
        out.print(f"left out: {row.where}: {row.reason}", markup=False, soft_wrap=True)
    more = len(rejected) - REJECTED_SHOWN
    if more > 0:
        out.print(f"left out: {more} more (--json lists all)")
    out.print(
        f"{len(prices)} prices ({len(suspects)} suspect) in {path}, {len(rejected)} left out",
        markup=False,
        soft_wrap=True,
    )
    out.print(f"use them with --prices {path}, or TPUBENCH_PRICES", markup=False, soft_wrap=True)


def show_diff(changes: Sequence[OfferChange], before: str, after: str, *, as_json: bool) -> None:
    """Offers that changed between two tables, and which of them leaves out whole kinds of offer."""
    if as_json:
        print_json(
            [
                {
                    "provider": change.provider,
                    "region": change.region,
                    "accelerator": change.accelerator,
                    "term": change.term,
                    "layer": change.layer,
                    "before": change.before.record() if change.before else None,
                    "after": change.after.record() if change.after else None,
                    "ratio": change.ratio,
                    "kind": change.kind,
                    "partial": not change.listed,
                }
                for change in changes
            ]
        )
        return
    if not changes:
        console().print("no offer changed")
        return
    out = console()
    table = FoldingTable(title="Changed offers, US dollars a chip-hour")
    for heading in ("provider", "region", "accelerator", "term"):
        table.add_column(heading)
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for change in changes:
        ratio = change.ratio
        table.add_row(
            *map(escape, (change.provider, change.region, change.accelerator, change.term)),
            _rate(change.before),
            _rate(change.after),
            change.kind if ratio is None else f"{ratio - 1:+.1%}",
        )
    out.print(table)
    for name, is_after in ((before, False), (after, True)):
        kinds = partial(changes, after=is_after)
        if kinds:
            more = f" and {len(kinds) - REJECTED_SHOWN} more" if len(kinds) > REJECTED_SHOWN else ""
            out.print(
                f"{name} is partial: it lists nothing of {', '.join(kinds[:REJECTED_SHOWN])}{more};"
                f" these are not listed there, which is not {'gone' if is_after else 'new'}",
                markup=False,
                soft_wrap=True,
            )


def show_repriced(
    run_ids: Sequence[str],
    rows: int,
    price: Price,
    skipped: Mapping[str, int],
    store: Path,
    *,
    as_json: bool,
) -> None:
    """The runs whose rates have another price now."""
    if as_json:
        document = {"run_ids": list(run_ids), "rows": rows, "price": price.record()}
        print_json({**document, "skipped": dict(skipped)})
        return
    out = console()
    for reason, count in skipped.items():
        out.print(f"left out: {count} rates: {reason}", markup=False, soft_wrap=True)
    out.print(
        f"{', '.join(run_ids)}: {rows} figures at {price.usd_per_chip_hour:g} $/chip-hour"
        f" ({price.id}, {price.as_of}{', stale' if price.stale(today()) else ''});"
        " nothing was run again, old figures are kept",
        markup=False,
        soft_wrap=True,
    )
    next_step(out, "show", store, "an earlier price: price_id=ID")


def show_figures(figures: Mapping[str, Any], price: Price | None = None, *, as_json: bool) -> None:
    """The results of a cost question, a reason for each that is missing, and the price behind."""
    if price is not None and price.id == GIVEN:
        price = None
    if as_json:
        print_json(figures if price is None else {**figures, "price": price_record(price, today())})
        return
    out = console()
    reasons = figures.get("reasons", {})
    for name, value in figures.items():
        if name == "reasons":
            continue
        if value is None:
            reason = reasons.get(name)
            text = f"{MISSING} ({reason})" if reason else MISSING
        elif name in _SHARES:
            text = f"{value:.1%}"
        elif name.endswith("chip_hours") or name.startswith("replicas"):
            text = f"{value:,.6g}"
        elif name.startswith("payback"):
            text = f"{value:.3g} years"
        else:
            text = f"${number(value)}" if value >= 0 else f"−${number(-value)}"
        out.print(f"{name}: {text}", markup=False, soft_wrap=True)
    if price is not None:
        stale = f", stale: older than {STALE_AFTER_DAYS} days" if price.stale(today()) else ""
        out.print(
            f"price: {price.id}, {price.usd_per_chip_hour:g} $ per chip-hour,"
            f" of {price.as_of}{stale}",
            markup=False,
            soft_wrap=True,
        )


def _rate(price: Price | None) -> str:
    if price is None:
        return MISSING
    marks = ("" if price.includes_host else "*") + ("?" if price.suspect else "")
    return f"{price.usd_per_chip_hour:.4g}{marks}"

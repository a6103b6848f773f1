"""Stored rates at another price: $ figures beside them, in the same run; nothing is copied.

A $ figure is a rate and a price; the rate was measured and stays where it is. Nothing is run again,
and the old figures stay: of several prices, summaries show the one that was put last
(:mod:`tpubench.results.summary`), and ``price_id=`` selects an earlier one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.results import published, store
from tpubench.results.figure import SampledValue, new_run_id, priced_at
from tpubench.results.fingerprint import canonical_json
from tpubench.results.listing import Unreadable, naming
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.rows import rows_of
from tpubench.results.sealing import manifest
from tpubench.results.select import narrowed
from tpubench.results.summary import PRICED_AT, case_key

ANY_ACCELERATOR = "any"
ALREADY = "it has this price already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced:
    """New $ rows by run, how many rates were left out for which reason, and what could not be
    read.
    """

    rows: Mapping[str, list[Row]]
    skipped: Mapping[str, int]
    unreadable: Sequence[Unreadable] = ()

    @property
    def figures(self) -> int:
        """How many $ figures were made."""
        return sum(map(len, self.rows.values()))


def reprice(rows: Iterable[Row], price: Price, now: dt.datetime) -> Repriced:
    """A $ row for every stored rate that ``price`` fits, put at ``now`` (UTC).

    Rates of another device than the price's accelerator, and those that have this very price, are
    left out and counted.
    """
    rows = list(rows)
    of_rate: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        if metric.usd_of:
            of_rate.setdefault(metric.usd_of, []).append(metric)
    have = {
        (_case(row), METRICS[row.metric].usd_of)
        for row in rows
        if row.price_sha256 == price.sha256 and row.metric in METRICS
    }
    new: dict[str, list[Row]] = {}
    skipped: Counter[str] = Counter()
    for row in rows:
        if row.metric not in of_rate:
            continue
        if row.status != "ok" or row.value is None:
            skipped[f"the rate is {row.status if row.status != 'ok' else 'missing'}"] += 1
        elif price.accelerator not in {ANY_ACCELERATOR, row.device}:
            skipped[f"the price is for {price.accelerator}, the rate for {row.device}"] += 1
        elif (_case(row), row.metric) in have:
            skipped[ALREADY] += 1
        else:
            environment = {**json.loads(row.environment), PRICED_AT: now.isoformat()}
            try:
                figures = [
                    priced_row(
                        row,
                        metric,
                        price,
                        environment=canonical_json(environment),
                        reason=f"priced again on {now:%Y-%m-%d}",
                    )
                    for metric in of_rate[row.metric]
                ]
            except UsageError as error:
                skipped[str(error)] += 1
                continue
            new.setdefault(row.run_id, []).extend(figures)
    return Repriced(rows=new, skipped=dict(skipped))


def store_repriced(folder: Path, price: Price, selectors: Sequence[str] = ()) -> Repriced:
    """Reprice what ``folder`` holds (or only the runs selected) and store the figures with it.

    UsageError when no stored rate fits the price, with the reasons.
    """
    if published.SELECTOR in selectors:
        raise UsageError("the published results are not stored here: show them with --prices FILE")
    scan = narrowed(folder, selectors) if selectors else rows_of(folder, store.files(folder))
    now = dt.datetime.now(dt.UTC)
    done = reprice(store.iter_rows(scan.read()), price, now)
    if not done.rows:
        why = "; ".join(f"{reason} ({n})" for reason, n in done.skipped.items())
        with naming(scan.unreadable):
            raise UsageError(f"nothing to price in {folder}: {why or 'no rates are stored there'}")
    name = f"priced-{new_run_id(now)}"
    manifest.close([store.write(folder, name, part) for part in done.rows.values()])
    return replace(done, unreadable=scan.unreadable)


def _case(row: Row) -> tuple[object, ...]:
    """A repetition of a case on a device."""
    return (*case_key(row), row.device, row.repetition, row.source)


def priced_row(row: Row, metric: Metric, price: Price, **changes: Any) -> Row:
    """The $ figure of a stored rate at ``price``; ``changes`` replace fields of the row."""

    rate = SampledValue(value=row.value, low=row.ci_low, high=row.ci_high, samples=row.samples)
    figure = rate.derived(metric, row.chips, price)
    return replace(
        row,
        schema_version=SCHEMA_VERSION,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        value=figure.value,
        ci_low=figure.low,
        ci_high=figure.high,
        samples=list(figure.samples) if figure.samples else None,
        **priced_at(price),
        **changes,
    )

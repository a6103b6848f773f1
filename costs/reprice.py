"""Stored rates at another price: new rows in new runs, the old figures untouched.

A $ figure is a rate and a price; the rate was measured and stays. Nothing is run again. Each run
that is priced gets a new run beside it with its rates and their $ figures, so that no table mixes
two prices without showing two runs, and every $ figure can be verified from its own run.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpubench.costs.token_cost import usd_per_items
from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.results import store
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.statistics import within

ANY_ACCELERATOR = "any"
COPIED = "as stored in run "
"""Start of the reason of a rate that was copied; copies are not priced once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced:
    """New rows by new run, and how many rates were left out for which reason."""

    rows: Mapping[str, list[Row]]
    skipped: Mapping[str, int]

    @property
    def figures(self) -> int:
        """How many $ figures were made."""
        rows = [row for part in self.rows.values() for row in part]
        return sum(METRICS[row.metric].usd_of is not None for row in rows)


def reprice(rows: Iterable[Row], price: Price, now: dt.datetime) -> Repriced:
    """A $ row for every stored rate that ``price`` fits, in new runs started at ``now`` (UTC).

    Rates of another device than the price's accelerator are left out and counted.
    """
    priced: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        if metric.usd_of:
            priced.setdefault(metric.usd_of, []).append(metric)
    run_ids: dict[str, str] = {}
    found: dict[str, list[Row]] = {}
    skipped: Counter[str] = Counter()
    for row in rows:
        if row.metric not in priced or (row.reason or "").startswith(COPIED):
            continue
        if row.status != "ok" or row.value is None:
            skipped[f"the rate is {row.status if row.status != 'ok' else 'missing'}"] += 1
        elif price.accelerator not in {ANY_ACCELERATOR, row.device}:
            skipped[f"the price is for {price.accelerator}, the rate for {row.device}"] += 1
        else:
            if row.run_id not in run_ids:
                run_ids[row.run_id] = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
            run_id = run_ids[row.run_id]
            copy = replace(row, run_id=run_id, started_at=now, reason=f"{COPIED}{row.run_id}")
            figures = [
                priced_row(
                    row,
                    metric,
                    price,
                    run_id=run_id,
                    started_at=now,
                    reason=f"{metric.usd_of} of run {row.run_id}, priced again",
                )
                for metric in priced[row.metric]
            ]
            found.setdefault(run_id, []).extend([copy, *figures])
    return Repriced(rows=found, skipped=dict(skipped))


def store_repriced(folder: Path, price: Price, run_ids: set[str] | None = None) -> Repriced:
    """Reprice what ``folder`` holds (or only the runs named) and store the new runs there.

    UsageError when no stored rate fits the price, with the reasons.
    """
    scan = store.scan(store.files(folder))
    rows = [row for row in store.iter_rows(scan.table) if not run_ids or row.run_id in run_ids]
    done = reprice(rows, price, dt.datetime.now(dt.UTC))
    if not done.rows:
        why = "; ".join(f"{reason} ({n})" for reason, n in done.skipped.items())
        raise UsageError(f"nothing to price in {folder}: {why or 'no rates are stored there'}")
    for part in done.rows.values():
        store.write(folder, "priced-again", part)
    return done


def priced_row(row: Row, metric: Metric, price: Price, **changes: Any) -> Row:
    """The $ figure of a stored rate at ``price``; ``changes`` replace fields of the row."""

    def usd(rate: float) -> float:
        return usd_per_items(price.usd_per_chip_hour, row.chips, rate, metric.usd_items)

    samples = [usd(rate) for rate in row.samples] if row.samples else None
    if samples:
        estimate = within(metric.aggregate, samples)
        value, low, high = estimate.point, estimate.low, estimate.high
    else:
        value = usd(row.value or 0.0)
        low = usd(row.ci_high) if row.ci_high else None
        high = usd(row.ci_low) if row.ci_low else None
    return replace(
        row,
        schema_version=SCHEMA_VERSION,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        value=value,
        ci_low=low,
        ci_high=high,
        samples=samples,
        usd_per_chip_hour=price.usd_per_chip_hour,
        price_id=price.id,
        price_as_of=price.as_of.isoformat(),
        price_sha256=price.sha256,
        **changes,
    )

"""Published results at list prices: one price a device, chosen by a rule, at read time.

A published rate comes without a price. What a reader can hold it against is a list price, and
which one decides the answer, so the rule is fixed: on-demand prices that include the host; of each
provider the newest date and there the cheapest region; of the providers the middle one (the lower
of two). A device that one provider alone sells gets that provider's price.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tpubench.costs.prices import Price, prices
from tpubench.costs.reprice import priced_row
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import Row, to_table
from tpubench.results.store import Scan, iter_rows

RULE = (
    "list price: on demand, host included; of each provider the newest, cheapest region; of the"
    " providers the middle one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrices:
    """The price that a device's figures are shown at, and the ends of what providers ask."""

    middle: Price
    cheapest: Price
    dearest: Price


@functools.cache
def list_prices(device: str) -> ListPrices | None:
    """The on-demand list prices of a device; None when the table has none with the host."""
    newest: dict[str, Price] = {}
    for price in prices().values():
        usable = price.layer == "list" and price.term == "on_demand" and price.includes_host
        if price.accelerator != device or not usable or price.suspect:
            continue
        held = newest.get(price.provider)
        if held is None or _better(price, held):
            newest[price.provider] = price
    if not newest:
        return None
    ordered = sorted(newest.values(), key=lambda price: (price.usd_per_chip_hour, price.id))
    return ListPrices(
        middle=ordered[(len(ordered) - 1) // 2], cheapest=ordered[0], dearest=ordered[-1]
    )


def _better(price: Price, held: Price) -> bool:
    if price.as_of != held.as_of:
        return price.as_of > held.as_of
    return _rank(price) < _rank(held)


def _rank(price: Price) -> tuple[float, bool, str]:
    """Cheapest first; of regions at the same price one in the United States, then by name."""
    return price.usd_per_chip_hour, not price.region.startswith("us"), price.id


def with_list_prices(scan: Scan) -> Scan:
    """The scan with a $ figure for each published rate that has none and whose device has a price.

    Stored figures, and rates with other evidence, stay as they are.
    """
    if "published" not in set(scan.table["evidence"].to_pylist()):
        return scan
    import pyarrow as pa

    made = list(_figures(iter_rows(scan.table)))
    if not made:
        return scan
    table = pa.concat_tables([scan.table, to_table(made)], promote_options="default")
    return Scan(table=table, unreadable=scan.unreadable)


def _figures(rows: Iterable[Row]) -> Iterator[Row]:
    of_rate: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        if metric.usd_of:
            of_rate.setdefault(metric.usd_of, []).append(metric)
    published = [row for row in rows if row.evidence == "published" and row.status == "ok"]
    priced = {_case(row) for row in published if row.price_id is not None}
    for row in published:
        found = list_prices(row.device)
        usable = row.value is not None and row.value > 0 and row.chips > 0
        if row.metric in of_rate and usable and found is not None and _case(row) not in priced:
            for metric in of_rate[row.metric]:
                yield priced_row(row, metric, found.middle, reason=f"{metric.usd_of} at {RULE}")


def _case(row: Row) -> tuple[object, ...]:
    return (row.run_id, row.repetition, row.workload, row.preset, row.params, row.device, row.dtype)

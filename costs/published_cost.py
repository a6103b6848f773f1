"""Published rates at list prices, at read time.

A published rate comes without a price; what a reader can hold it against is the list price of its
device, chosen by the one rule of :mod:`tpubench.devices.list_price`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from tpubench.costs.reprice import priced_row
from tpubench.devices.list_price import DevicePrice, device_prices
from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import Row, to_table
from tpubench.results.store import Scan, iter_rows


def with_list_prices(scan: Scan, table: Mapping[str, Price] | None = None) -> Scan:
    """The scan with a $ figure for each published rate that has none and whose device has a price.

    ``table`` holds the prices, the shipped ones by default. Stored figures, and rates with other
    evidence, stay as they are.
    """
    if "published" not in set(scan.table["evidence"].to_pylist()):
        return scan
    import pyarrow as pa

    priced = list(_figures(iter_rows(scan.table), device_prices(table)))
    if not priced:
        return scan
    table = pa.concat_tables([scan.table, to_table(priced)], promote_options="default")
    return dataclasses.replace(scan, table=table)


def _figures(rows: Iterable[Row], chosen: Mapping[str, DevicePrice]) -> Iterator[Row]:
    of_rate: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        if metric.usd_of:
            of_rate.setdefault(metric.usd_of, []).append(metric)
    published = [row for row in rows if row.evidence == "published" and row.status == "ok"]
    priced = {_case(row) for row in published if row.price_id is not None}
    for row in published:
        price = chosen.get(row.device)
        usable = row.value is not None and row.value > 0 and row.chips > 0
        if row.metric in of_rate and usable and price is not None and _case(row) not in priced:
            for metric in of_rate[row.metric]:
                # A rate beyond all reason is shown, and has no price.
                with contextlib.suppress(UsageError):
                    yield priced_row(
                        row, metric, price.price, reason=f"{metric.usd_of} at {price.rule}"
                    )


def _case(row: Row) -> tuple[object, ...]:
    return (row.run_id, row.repetition, row.workload, row.preset, row.params, row.device, row.dtype)

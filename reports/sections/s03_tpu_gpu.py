"""The pairs behind the first screen, those that are only near, their prices and sources."""

from __future__ import annotations

from tpubench.devices import vendors
from tpubench.reports import quantity
from tpubench.reports.answers.words import usd
from tpubench.reports.blocks import Block, Cell, Section, Table, columns
from tpubench.reports.findings import Findings
from tpubench.reports.pairs import DevicePair, PairSide, pairs
from tpubench.reports.sections._shared import badge, distinct
from tpubench.results.plain_text import plural

_NEAR_ROWS = 30


def section(findings: Findings) -> Section | None:
    matched = pairs(findings)
    if not matched:
        return None
    like = [pair for pair in matched if pair.like]
    near = [pair for pair in matched if not pair.like]
    blocks: list[Block] = []
    if like:
        blocks.append(_like_table(like))
    if near:
        blocks.append(_near_table(near))
    blocks += [_price_table(matched, findings), _sources(matched)]
    return Section(
        title="Pairs, prices and sources",
        lead=(
            "The pairs that the first screen rests on, per physical chip. Of several figures of a"
            " device the fastest stands for it. Differences are written TPU ↔ GPU."
        ),
        blocks=tuple(blocks),
    )


def _like_table(like: list[DevicePair]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pair in like:
        tpu, gpu = pair.tpu.rate.first, pair.gpu.rate.first
        precision = "" if tpu.dtype == "not-stated" else f", {tpu.dtype}"
        rows.append(
            (
                f"{pair.title}{precision}",
                f"{vendors.label(tpu.device)} and {vendors.label(gpu.device)}",
                f"{pair.tpu.text} and {pair.gpu.text}",
                f"{_money(pair.tpu)} and {_money(pair.gpu)}",
                "; ".join(pair.differences) or "nothing that is stated",
                badge(tpu),
            )
        )
    return Table(
        folded=f"The same work in the same way: {plural(len(like), 'pair')}",
        columns=columns("Work", "Devices", "Rate of a chip", "Cost", "What differs", "Evidence"),
        rows=tuple(rows),
        stacks=True,
        foot=(
            "Same work, model, precision, lengths and load; MLPerf results of one round and"
            " scenario, whose rules fix quality instead of precision. Software, batch and number of"
            " chips are each source's own best; on more chips a training ends sooner and takes more"
            " chip-hours."
        ),
    )


def _money(side: PairSide) -> str:
    return quantity.MISSING if side.cost is None else usd(side.cost)


def _near_table(near: list[DevicePair]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pair in near[:_NEAR_ROWS]:
        tpu, gpu = pair.tpu.rate.first, pair.gpu.rate.first
        rows.append(
            (
                pair.title,
                f"{vendors.label(tpu.device)} and {vendors.label(gpu.device)}",
                f"{pair.tpu.text} and {pair.gpu.text}",
                f"{_money(pair.tpu)} and {_money(pair.gpu)}",
                "; ".join(pair.differences),
                badge(tpu),
            )
        )
    more = len(near) - _NEAR_ROWS
    return Table(
        folded=f"Near, but not alike, so without a verdict: {plural(len(near), 'pair')}",
        columns=columns("Work", "Devices", "Rate of a chip", "Cost", "What differs", "Evidence"),
        rows=tuple(rows),
        stacks=True,
        foot="The difference in precision or load may be worth more than the devices are apart."
        + (f" {more} more are left out." if more > 0 else ""),
    )


def _price_table(matched: list[DevicePair], findings: Findings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    seen = {}
    rules: set[str] = set()
    for pair in matched:
        for side in (pair.tpu, pair.gpu):
            seen[side.rate.first.device] = side
    for device in seen:
        asked = findings.device_prices.get(device)
        if asked is None:
            rows.append(
                (vendors.label(device), quantity.MISSING, "", "no list price with the host", "", "")
            )
            continue
        price = asked.price
        rules.add(asked.rule)
        stale = price.stale(findings.now.date())
        rows.append(
            (
                vendors.label(device),
                usd(price.usd_per_chip_hour),
                f"{usd(asked.cheapest.usd_per_chip_hour)} to"
                f" {usd(asked.dearest.usd_per_chip_hour)}",
                f"{price.id} ({price.provider}, {price.region}, {price.term.replace('_', ' ')})",
                f"{price.as_of}{', stale' if stale else ''}",
                price.source,
            )
        )
    return Table(
        folded=f"List prices of these devices: {plural(len(rows), 'device')}",
        columns=columns("Device", "Used#", "Cheapest to dearest", "Price", "As of", "Source"),
        rows=tuple(rows),
        foot=f"Published results are priced at a {'; or '.join(sorted(rules))}. Priced results keep"
        " their own price.",
    )


def _sources(matched: list[DevicePair]) -> Table:
    rows: dict[tuple[str, ...], None] = {}
    for pair in matched:
        for side in (pair.tpu, pair.gpu):
            row = side.rate.first
            rows[
                pair.title, vendors.label(row.device), side.text, row.source or "", row.reason or ""
            ] = None
    titles = distinct([row[0] for row in rows], 40)
    return Table(
        folded=f"Where each figure comes from: {plural(len(rows), 'figure')} of"
        f" {len(titles)} {'piece' if len(titles) == 1 else 'pieces'} of work",
        columns=columns("Work", "Device", "Rate of a chip", "Source", "Remark"),
        rows=tuple(rows),
        stacks=True,
    )

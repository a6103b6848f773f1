"""TPU against GPU: rate and cost per chip on the same work, what differs, what would flip it."""

from __future__ import annotations

from tpubench.devices import vendors
from tpubench.devices.sheets import devices
from tpubench.reports import quantity
from tpubench.reports.blocks import Block, Cell, Drawing, Note, Section, Table, Text, columns
from tpubench.reports.figure import Chart, Dot, Dots
from tpubench.reports.findings import Findings, short
from tpubench.reports.pairs import TIME, UNIT_OF, Pair, Side, by_title, pairs
from tpubench.reports.sections._shared import badge, distinct, plural
from tpubench.results.metrics import METRICS

_PANELS = 8
"""Pieces of work drawn; all are in the tables."""
_SENTENCES = 5
_NEAR_ROWS = 30
_CURRENT = 2
"""Generations of TPUs whose comparisons are shown unfolded: the newest two."""


def section(findings: Findings) -> Section | None:
    found = sorted(pairs(findings), key=_order)
    if not found:
        return None
    like = [pair for pair in found if pair.like]
    near = [pair for pair in found if not pair.like]
    blocks: list[Block] = []
    sentences = [_sentence(pair) for pair in _headlines(like)]
    if sentences:
        blocks.append(Text(items=tuple(sentences)))
    else:
        text = "No TPU and GPU did the same work in the same way: what follows is near, no verdict."
        blocks.append(Note(tone="warn", text=text))
    blocks.append(Drawing(chart=_chart(found, cost=False)))
    if any(side.cost is not None for pair in found for side in (pair.tpu, pair.gpu)):
        blocks.append(Drawing(chart=_chart(found, cost=True)))
    newest = sorted((d for d in devices().values() if d.is_tpu), key=lambda d: d.on_sale)[
        -_CURRENT:
    ]
    current = [
        pair for pair in like if pair.tpu.rate.first.device in {sheet.name for sheet in newest}
    ]
    older = [pair for pair in like if pair not in current]
    if current:
        blocks.append(_like_table(current, "Like for like"))
    if older:
        blocks.append(_like_table(older, "Like for like, older TPUs", folded=bool(current)))
    if near:
        blocks.append(_near_table(near))
    blocks += [_price_table(found, findings), _sources(found)]
    return Section(
        title="TPU against GPU",
        lead=(
            "The same work on both, per physical chip: how fast, what it costs, and what would"
            " turn the answer round. Of several figures of a device the fastest stands for it."
        ),
        blocks=tuple(blocks),
    )


def usd(amount: float) -> str:
    """Dollars: cents from ten of them on, three significant digits below."""
    return f"${amount:,.2f}" if amount >= 0.1 else f"${quantity.number(amount)}"


def _order(pair: Pair) -> tuple[object, ...]:
    def age(device: str) -> int:
        """Newest devices first."""
        return -devices()[device].on_sale.toordinal()

    tpu, gpu = pair.tpu.rate.first.device, pair.gpu.rate.first.device
    return (not pair.like, age(tpu), pair.title, age(gpu), gpu, pair.tpu.rate.first.dtype)


def _headlines(like: list[Pair]) -> list[Pair]:
    """One pair for each TPU and piece of work, so that no single comparison fills the list."""
    chosen: dict[tuple[str, str, str], Pair] = {}
    for pair in like:
        row = pair.tpu.rate.first
        chosen.setdefault((row.device, pair.title, row.dtype), pair)
    return list(chosen.values())[:_SENTENCES]


def _sentence(pair: Pair) -> str:
    tpu, gpu = pair.tpu.rate.first, pair.gpu.rate.first
    precision = "" if tpu.dtype == "not-stated" else f" in {tpu.dtype}"
    text = (
        f"{pair.title}{precision}: a {vendors.label(tpu.device)} chip does"
        f" {quantity.number(pair.tpu.value / pair.gpu.value)} times the work of"
        f" an {vendors.label(gpu.device)}"
    )
    verdict = _verdict(pair)
    return f"{text}; {verdict}." if verdict else f"{text}; there is no price for both."


def _verdict(pair: Pair) -> str:
    """Who is cheaper and by how much, and what would make them level; empty without prices."""
    if pair.tpu.cost is None or pair.gpu.cost is None:
        return ""
    ratio = pair.gpu.cost / pair.tpu.cost
    cheaper, times = (pair.tpu, ratio) if ratio >= 1 else (pair.gpu, 1 / ratio)
    who = vendors.label(cheaper.rate.first.device)
    if times < 1.005:
        return f"level at {_rate(pair.tpu)} and {_rate(pair.gpu)} a chip-hour"
    return (
        f"at {_rate(pair.tpu)} and {_rate(pair.gpu)} a chip-hour the {who} is"
        f" {quantity.number(times)} times cheaper for the same work"
        f" (level at {usd(_flip(pair))} per GPU-hour; {_sure(pair)})"
    )


def _rate(side: Side) -> str:
    return quantity.MISSING if side.usd_per_chip_hour is None else usd(side.usd_per_chip_hour)


def _flip(pair: Pair) -> float:
    """GPU price, $/chip-hour, at which both cost the same for the same work."""
    assert pair.tpu.cost is not None and pair.gpu.cost is not None
    return (pair.gpu.usd_per_chip_hour or 0.0) * pair.tpu.cost / pair.gpu.cost


def _sure(pair: Pair) -> str:
    """Whether the verdict holds at every list price of the GPU."""
    asked = pair.gpu.asked
    if asked is None:
        return "no other price is known"
    low, high = asked.cheapest.usd_per_chip_hour, asked.dearest.usd_per_chip_hour
    flip = _flip(pair)
    if low == high:
        return "one price is known"
    span = f"{usd(low)} to {usd(high)}"
    if low < flip < high:
        return f"list prices run from {span}: the price decides"
    return f"the same at every list price, {span}"


def _chart(found: list[Pair], *, cost: bool) -> Chart:
    panels = []
    for heading, group in by_title(found).items():
        if group[0].metric == TIME and not cost:
            continue  # hours until done are no rate; their price is in the other chart
        sides: dict[tuple[object, ...], Side] = {}
        for pair in group:
            for side in (pair.tpu, pair.gpu):
                row = side.rate.first
                sides[row.device, row.dtype, row.run_id, row.params, row.chips] = side
        panel = _panel(heading, group[0].metric, list(sides.values()), cost=cost)
        if panel is not None:
            panels.append(panel)
    more = len(panels) - _PANELS
    what = "Cost of the same work at list prices" if cost else "Rate of one chip on the same work"
    order = "Farther left is cheaper." if cost else "Farther right is faster."
    rest = f" {more} more pieces of work are in the tables." if more > 0 else ""
    return Chart(
        name="tpu-gpu-cost" if cost else "tpu-gpu-rate",
        alt=f"{what}, TPU and GPU side by side; the same figures are in the tables.",
        panels=tuple(panels[:_PANELS]),
        caption=f"{what}. {order} Single figures from their sources, so there are no intervals"
        f" unless repetitions were measured.{rest}",
    )


def _panel(heading: str, metric: str, sides: list[Side], *, cost: bool) -> Dots | None:
    unit_of = UNIT_OF[metric]
    rows = []
    for side in sides:
        row, value = side.rate.first, side.cost if cost else side.value
        if value is None:
            continue
        text = usd(value) if cost else side.text
        precision = "" if row.dtype == "not-stated" else f", {row.dtype}"
        label = short(f"{vendors.label(row.device)}{precision}, {plural(row.chips, 'chip')}", 52)
        paid = f"\n{_rate(side)} a chip-hour" if cost else ""
        rows.append(
            Dot(
                label=label,
                text=text,
                hover=f"{label}\n{text}{f' per {unit_of}' if cost else ''}{paid}\n{row.evidence}",
                series="TPU" if vendors.is_tpu(row.device) else "GPU",
                evidence=row.evidence,
                point=value,
                low=None,
                high=None,
            )
        )
    if not rows:
        return None
    rows.sort(key=lambda dot: dot.point, reverse=not cost)
    unit = (
        f"$ per {unit_of}" if cost else f"{metric}, {METRICS[metric].unit.replace('token', 'tok')}"
    )
    return Dots(title=short(heading, 64), unit=unit, rows=tuple(rows), series=("TPU", "GPU"))


def _precision(dtype: str) -> str:
    return "" if dtype == "not-stated" else f", {dtype}"


def _money(side: Side) -> str:
    return quantity.MISSING if side.cost is None else usd(side.cost)


def _like_table(like: list[Pair], heading_of_all: str, *, folded: bool = False) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for heading, group in by_title(like).items():
        rows.append((f"{heading} ($ per {UNIT_OF[group[0].metric]})",))
        for pair in group:
            tpu, gpu = pair.tpu.rate.first, pair.gpu.rate.first
            costs = pair.tpu.cost is not None and pair.gpu.cost is not None
            rows.append(
                (
                    f"{vendors.label(tpu.device)} and {vendors.label(gpu.device)}"
                    f"{_precision(tpu.dtype)}",
                    f"{quantity.number(pair.tpu.value / pair.gpu.value)}×:"
                    f" {pair.tpu.text} and {pair.gpu.text}",
                    f"{_money(pair.tpu)} and {_money(pair.gpu)}",
                    f"{usd(_flip(pair))}; {_sure(pair)}" if costs else quantity.MISSING,
                    "; ".join(pair.differences) or "nothing that is stated",
                    badge(tpu),
                )
            )
    return Table(
        caption="" if folded else heading_of_all,
        folded=f"{heading_of_all}: {plural(len(like), 'pair')}" if folded else "",
        columns=columns(
            "Devices",
            "TPU ÷ GPU, work of a chip",
            "Cost",
            "Level at this GPU price",
            "What still differs",
            "Evidence",
        ),
        rows=tuple(rows),
        stacks=True,
        foot=(
            "Differences are written TPU ↔ GPU. Same work, model, precision, lengths and load;"
            " MLPerf results of one round and scenario, whose rules fix quality instead of"
            " precision. Software, batch and number of chips are each source's own best; on more"
            " chips a training ends sooner and takes more chip-hours."
        ),
    )


def _near_table(near: list[Pair]) -> Table:
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
        caption="Near, but not alike: no verdict",
        columns=columns("Work", "Devices", "Rate of a chip", "Cost", "What differs", "Evidence"),
        rows=tuple(rows),
        stacks=True,
        foot="The difference in precision or load may be worth more than the devices are apart."
        + (f" {more} more are left out." if more > 0 else ""),
    )


def _price_table(found: list[Pair], findings: Findings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    seen = {}
    rules: set[str] = set()
    for pair in found:
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


def _sources(found: list[Pair]) -> Table:
    rows: dict[tuple[str, ...], None] = {}
    for pair in found:
        for side in (pair.tpu, pair.gpu):
            row = side.rate.first
            rows[
                pair.title, vendors.label(row.device), side.text, row.source or "", row.reason or ""
            ] = None
    titles = distinct([row[0] for row in rows], 40)
    return Table(
        folded=f"Where each figure comes from: {plural(len(rows), 'figure')} of {len(titles)}"
        " pieces of work",
        columns=columns("Work", "Device", "Rate of a chip", "Source", "Remark"),
        rows=tuple(rows),
        stacks=True,
    )

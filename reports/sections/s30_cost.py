"""What a million output tokens cost, against how quick the service is for each user."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from tpubench.devices.prices import STALE_AFTER_DAYS, Price
from tpubench.devices.vendors import colour_name
from tpubench.reports import quantity
from tpubench.reports.blocks import Cell, Drawing, Note, Section, Table, columns
from tpubench.reports.figure import Chart, Plane, Point, Series, axis, spans_decades, variants
from tpubench.reports.findings import Findings, Names
from tpubench.reports.sections._shared import (
    MADE_UP,
    TABLE_ROWS,
    badge,
    by,
    cut,
    further,
    interval,
    left_out,
    series_name,
    spread,
    value,
)
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.summary import Summary, case_key

_UNIT = "USD/Mtoken"


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    costs = findings.of("usd_per_mtok_out")
    lead = (
        "What the chips cost while they write a million answer tokens, against how many tokens a"
        " second each user gets. Serving more users together makes a token cheaper and each user's"
        " answer slower; this shows where that trade stands."
    )
    if not costs:
        missing = Note(
            text="No cost among these results: no run that makes tokens had a price.",
            command=(
                "tpubench run --workload llama-infer --usd-per-chip-hour X"
                "    (or --price ID from: tpubench price list)"
            ),
        )
        return Section(title="Cost", lead=lead, blocks=(missing,))
    names = Names(costs)
    paces = {case_key(s.first): s.estimate for s in findings.of("tpot_s")}
    paired = [(s, paces[case_key(s.first)]) for s in costs if case_key(s.first) in paces]
    blocks: list[Drawing | Table | Note] = []
    if paired:
        blocks.append(Drawing(chart=_chart(paired, names)))
    else:
        reason = "No time per output token among these results, so cost has nothing to be set"
        blocks.append(Note(text=f"{reason} against."))
    blocks += [_table(costs, paces, names), _price_table(costs, findings)]
    return Section(title="Cost", lead=lead, blocks=tuple(blocks))


def _chart(paired: list[tuple[Summary, Estimate | None]], names: Names) -> Chart:
    valued = {id(s): tpot for s, tpot in paired if s.estimate and tpot and tpot.point > 0}
    costs = spread([s for s, _ in paired if id(s) in valued])
    pace = {id(s): _inverse(valued[id(s)]) for s in costs}
    groups = by(costs, lambda s: s.first.backend == "fake")
    panels = tuple(_plane(group, pace, names) for group in groups)
    shared = names.shared()
    return Chart(
        name="cost",
        alt="Cost of a million output tokens against tokens a second for each user, by case.",
        panels=panels,
        caption=(f"All cases: {shared}. " if shared else "")
        + "Farther right is quicker for the user, farther down is cheaper: the best place is the"
        " lower right. Bars are 95 % intervals between repetitions; the price itself is taken as"
        " exact." + cut(panels) + left_out(len(paired)),
    )


def _plane(costs: list[Summary], pace: Mapping[int, Estimate], names: Names) -> Plane:
    dashes = variants((_line(s), colour_name(s.first.device)) for s in costs)
    series = tuple(
        Series(
            name=_line(group[0]),
            evidence=group[0].first.evidence,
            draw="points+line",
            colour=colour_name(group[0].first.device),
            variant=dashes[_line(group[0])],
            points=tuple(_point(s, pace[id(s)], names) for s in group),
        )
        for group in by(costs, lambda s: (_line(s), s.first.evidence))
    )
    points = [point for one in series for point in one.points]
    made_up = MADE_UP if costs[0].first.backend == "fake" else ""
    return Plane(
        title=f"Cost against speed for each user{made_up}",
        x=axis(
            "tokens a second for each user (1 ÷ tpot_s)",
            [point.x for point in points],
            [point.x_interval for point in points],
            log=spans_decades(point.x for point in points),
        ),
        y=axis(
            "$ per million output tokens",
            [point.y for point in points],
            [point.y_interval for point in points],
            log=spans_decades(point.y for point in points),
        ),
        series=series,
    )


def _line(summary: Summary) -> str:
    row = summary.first
    if row.usd_per_chip_hour is None:
        return f"{series_name(row)}, {row.dtype}, price not stored"
    rate = quantity.number(row.usd_per_chip_hour)
    return f"{series_name(row)}, {row.dtype}, ${rate}/chip-hour"


def _rate(row: Row) -> str:
    if row.usd_per_chip_hour is None:
        return "a price not stored"
    return f"${quantity.number(row.usd_per_chip_hour)} a chip-hour"


def _inverse(tpot: Estimate) -> Estimate:
    """Tokens a second for one user; the interval turns over with it."""
    low = None if tpot.high is None or tpot.high <= 0 else 1 / tpot.high
    high = None if tpot.low is None or tpot.low <= 0 else 1 / tpot.low
    return Estimate(point=1 / tpot.point, low=low, high=high, n=tpot.n)


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high


def _point(summary: Summary, pace: Estimate, names: Names) -> Point:
    cost = summary.estimate
    assert cost is not None
    batch = summary.params.get("batch")
    label = names.label(summary, most=44)
    return Point(
        x=pace.point,
        y=cost.point,
        x_interval=_ends(pace),
        y_interval=_ends(cost),
        label=label if batch is None else f"batch {str(batch)[:12]}",
        hover=(
            f"{label}\n{value(cost.point, _UNIT)} per million output tokens"
            f"\n{interval(cost, _UNIT)}\n{quantity.estimate(pace, 'token/s')} a user"
            f"\n{badge(summary.first).text}"
        ),
    )


def _table(
    costs: list[Summary], paces: dict[tuple[object, ...], Estimate | None], names: Names
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    shown = spread(costs, TABLE_ROWS)
    for summary in shown:
        tpot = paces.get(case_key(summary.first))
        pace = quantity.MISSING if tpot is None else quantity.estimate(_inverse(tpot), "token/s")
        assert summary.estimate is not None
        rows.append(
            (
                names.label(summary),
                f"${quantity.estimate(summary.estimate, _UNIT).replace(' $/Mtok', '')}",
                str(summary.estimate.n),
                pace,
                _rate(summary.first),
                badge(summary.first),
            )
        )
    return Table(
        caption="Cost of output tokens",
        columns=columns(
            "Case",
            "$ per million output tokens#",
            "Repetitions#",
            "Speed for each user#",
            "Price#",
            "Evidence",
        ),
        rows=tuple(rows),
        foot=(
            "Each figure carries the whole bill of the chips for the run, prompt reading included:"
            " do not add the cost of input tokens to it. It assumes that every paid hour does this"
            " work; at half the utilisation a token costs twice as much. It moves in step with the"
            " price: a price 10 % lower makes each figure 10 % lower."
            + further(len(costs), len(shown))
        ),
    )


def _price_table(costs: list[Summary], findings: Findings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for row in {(s.first.price_id, s.first.price_sha256): s.first for s in costs}.values():
        rows.append(
            (
                row.price_id or quantity.MISSING,
                _rate(row),
                row.price_as_of or quantity.MISSING,
                _age(row.price_as_of, findings.now),
                *_origin(row, findings.prices),
            )
        )
    return Table(
        caption="Prices behind these figures",
        columns=columns("Price", "Rate#", "As of", "Age", "Terms", "Source"),
        rows=tuple(rows),
    )


def _age(as_of: str | None, now: dt.datetime) -> str:
    try:
        days = (now.date() - dt.date.fromisoformat(as_of or "")).days
    except ValueError:
        return "no readable date"
    return f"{days} days{' (stale)' if days > STALE_AFTER_DAYS else ''}"


def _origin(row: Row, known: Mapping[str, Price]) -> tuple[str, str]:
    """Terms and source of a price, only if the table still holds the very same entry."""
    if row.price_id == "given":
        return "as typed; taken as the whole bill of a chip", "given on the command line"
    entry = known.get(row.price_id or "")
    if entry is None:
        return quantity.MISSING, "not in this version's price table"
    if entry.sha256 != row.price_sha256:
        return quantity.MISSING, "this version's price table has another entry of that name"
    host = "host included" if entry.includes_host else "host billed beside it"
    terms = f"{entry.provider}, {entry.region}, {entry.term.replace('_', ' ')}, {host}"
    return terms, f"{entry.source}{f' ({entry.note})' if entry.note else ''}"

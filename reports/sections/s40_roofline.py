"""The roofline: what limits each phase, and how near the limit it comes."""

from __future__ import annotations

from collections.abc import Sequence

from tpubench.devices.vendors import colour_name, label
from tpubench.reports import quantity
from tpubench.reports.blocks import Block, Cell, Drawing, Note, Section, Table, columns
from tpubench.reports.figure import (
    MAX_CASES,
    Chart,
    Plane,
    Point,
    Series,
    axis,
)
from tpubench.reports.findings import Findings, Names, run_name, short
from tpubench.reports.roofline import Roof, RooflinePoint, Unplaced, place
from tpubench.reports.sections._shared import (
    TABLE_ROWS,
    badge,
    cut,
    distinct,
    further,
    left_out,
    series_name,
)
from tpubench.results.plain_text import plural
from tpubench.results.summary import Summary

_LABELLED = 16
"""Points above which their labels would only cover each other."""


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    placed, unplaced = place(findings.summaries)
    lead = (
        "What holds the program back. A chip can be held back by its arithmetic (FLOP/s,"
        " floating-point operations a second) or by its memory (bytes a second). Arithmetic"
        " intensity, the operations done for each byte moved, decides which. The dashed roof is"
        " the most the chip can do at that intensity; the gap below it is speed not used."
    )
    blocks: list[Block] = []
    if placed:
        names = Names(_summaries(placed))
        blocks += [Drawing(chart=_chart(placed, names)), _table(placed, names)]
        roofs = _roofs(placed)
        if roofs:
            blocks.append(_roof_table(roofs))
        else:
            text = "No peaks of these devices are known, so the chart has points and no roof."
            blocks.append(Note(text=text, command="tpubench list devices"))
    blocks += _beyond(placed)
    blocks += _left_out(unplaced, drawn=bool(placed))
    return Section(title="Roofline", lead=lead, blocks=tuple(blocks))


def _summaries(placed: Sequence[RooflinePoint]) -> list[Summary]:
    return [placement.summary for placement in placed]


def _phase(placement: RooflinePoint) -> str:
    """The phase, or the workload where it has only one."""
    workload = placement.summary.first.workload
    return short(workload if placement.phase == "pass" else placement.phase, 24)


def _roofs(placed: Sequence[RooflinePoint]) -> list[Roof]:
    return list(dict.fromkeys(p.roof for p in placed if p.roof is not None))


def _roof_name(roof: Roof) -> str:
    chips = f"{roof.chips} × " if roof.chips > 1 else ""
    run = f", {run_name(roof.run_id)}" if roof.run_id else ""
    kind = "measured" if roof.measured else "published"
    return short(f"roof of {chips}{label(roof.device)}, {roof.dtype}{run} ({kind})", 60)


def _chart(placed: Sequence[RooflinePoint], names: Names) -> Chart:
    chosen = list(placed)[:MAX_CASES]
    # Made-up times have no place under a real roof.
    real = [p for p in chosen if p.summary.first.backend != "fake"]
    chosen = real or chosen
    label_each = len(chosen) <= _LABELLED
    devices = {p.summary.first.device for p in chosen}
    groups: dict[tuple[str, str], list[RooflinePoint]] = {}
    for placement in chosen:
        row = placement.summary.first
        program = label(row.device) if placement.phase == "pass" else series_name(row)
        name = program if len(devices) > 1 else f"{_phase(placement)}, {program}"
        groups.setdefault((name, row.evidence), []).append(placement)
    intensities = [p.flops_per_byte for p in chosen]
    left, right = min(intensities) / 3, max(intensities) * 3
    for roof in _roofs(chosen):
        left, right = min(left, roof.ridge / 3), max(right, roof.ridge * 3)
    series = [
        Series(
            name=_roof_name(roof),
            evidence=None,
            draw="roof",
            colour=colour_name(roof.device),
            points=tuple(
                Point(x=x, y=roof.at(x), hover=f"{_roof_name(roof)}\n{_roof_text(roof)}")
                for x in (left, roof.ridge, right)
            ),
        )
        for roof in _roofs(chosen)
    ]
    for (name, evidence), group in groups.items():
        series.append(
            Series(
                name=name,
                evidence=evidence,
                colour=colour_name(group[0].summary.first.device),
                points=tuple(_point(p, names, label_each=label_each) for p in group),
            )
        )
    panel = Plane(
        title="Attained against possible",
        x=axis("arithmetic intensity, FLOP a byte", [left, right], log=True),
        y=axis(
            "FLOP/s",
            [p.flop_s.point for p in chosen] + [roof.flop_s for roof in _roofs(chosen)],
            [point.y_interval for one in series for point in one.points],
            log=True,
        ),
        series=tuple(series),
    )
    return Chart(
        name="roofline",
        alt="Attained FLOP/s against arithmetic intensity for each phase and case, with the roof.",
        panels=(panel,),
        caption=(
            "Under the slanted part of the roof memory is the limit, under the flat part"
            " arithmetic. Both axes are logarithmic: each step is a factor. A measured roof is the"
            " best this suite saw in the same run, not a data sheet, so a point may lie above it."
            + cut([panel])
            + left_out(len(placed))
        ),
    )


def _point(placement: RooflinePoint, names: Names, *, label_each: bool) -> Point:
    rate, row = placement.flop_s, placement.summary.first
    ends = None if rate.low is None or rate.high is None else (rate.low, rate.high)
    label = names.label(placement.summary, most=44)
    batch = placement.summary.params.get("batch")
    return Point(
        x=placement.flops_per_byte,
        y=rate.point,
        y_interval=ends,
        label=f"{_phase(placement)} {str(batch)[:8]}" if label_each and batch is not None else "",
        hover=(
            f"{_phase(placement)}, {label}\n{quantity.estimate(rate, 'FLOP/s')}"
            f"\nat {quantity.number(placement.flops_per_byte)} FLOP a byte\n{badge(row).text}"
        ),
    )


def _table(placed: Sequence[RooflinePoint], names: Names) -> Table:
    rows: list[tuple[Cell, ...]] = []
    shown = placed[:TABLE_ROWS]
    for placement in shown:
        share, limit, roof = placement.share(), placement.limit(), placement.roof
        rows.append(
            (
                _phase(placement),
                names.label(placement.summary),
                quantity.number(placement.flops_per_byte),
                quantity.quantity(placement.flop_s.point, "FLOP/s"),
                (
                    quantity.quantity(roof.at(placement.flops_per_byte), "FLOP/s")
                    if roof
                    else quantity.MISSING
                ),
                quantity.quantity(share, "fraction"),
                limit or f"no roof: {placement.no_roof}",
                badge(placement.summary.first),
            )
        )
    return Table(
        caption="Placements",
        columns=columns(
            "Phase",
            "Case",
            "FLOP a byte#",
            "Attained#",
            "Possible#",
            "Share#",
            "Limited by",
            "Evidence",
        ),
        rows=tuple(rows),
        foot=(
            "FLOPs and bytes are those the program must do and move by closed form, so the"
            " intensity is that of the program, not a counter's reading. Attained and share are"
            " over the measured time of that phase alone." + further(len(placed), len(shown))
        ),
    )


def _roof_table(roofs: Sequence[Roof]) -> Table:
    return Table(
        caption="Roofs",
        columns=columns("Roof", "Arithmetic#", "Memory#", "Source"),
        rows=tuple(
            (
                _roof_name(roof),
                quantity.quantity(roof.flop_s, "FLOP/s"),
                quantity.quantity(roof.bytes_s, "byte/s"),
                roof.source,
            )
            for roof in roofs
        ),
    )


def _roof_text(roof: Roof) -> str:
    return (
        f"{quantity.quantity(roof.flop_s, 'FLOP/s')},"
        f" {quantity.quantity(roof.bytes_s, 'byte/s')}\n{short(roof.source, 60)}"
    )


def _beyond(placed: Sequence[RooflinePoint]) -> list[Note]:
    """Faster than a published peak is not a feat but a mistake somewhere."""
    beyond = [p for p in placed if p.roof and not p.roof.measured and (p.share() or 0.0) > 1]
    if not beyond:
        return []
    names = Names(_summaries(placed))
    return [
        Note(
            tone="bad",
            text="Above a published roof: faster than the device can be. Do not use these figures.",
            items=distinct([f"{_phase(p)}, {names.label(p.summary)}" for p in beyond]),
        )
    ]


def _left_out(unplaced: Sequence[Unplaced], *, drawn: bool) -> list[Note]:
    if not unplaced:
        return [] if drawn else [Note(text="Nothing to place.", command="tpubench run …")]
    reasons: dict[str, list[str]] = {}
    for point in unplaced:
        reasons.setdefault(point.reason, []).append(point.summary.first.workload)
    items = [
        f"{', '.join(distinct(workloads))} ({plural(len(workloads), 'case')}): {reason}"
        for reason, workloads in reasons.items()
    ]
    return [Note(text="Not on the roofline, and why:", items=distinct(items))]

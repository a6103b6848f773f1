"""What was run, on what, with which evidence, and the key figures."""

from __future__ import annotations

from collections import Counter

from tpubench.devices import vendors
from tpubench.devices.sheets import AMD, GOOGLE, NVIDIA
from tpubench.reports import quantity
from tpubench.reports.blocks import Block, Card, Cards, Note, Section, Table, Text, columns
from tpubench.reports.findings import Findings, Names, part
from tpubench.reports.sections._shared import badge, by, distinct, interval, value
from tpubench.results.calibration import results_of
from tpubench.results.metrics import METRICS
from tpubench.results.plain_text import plural
from tpubench.results.summary import IMPORTED, Summary, case_key, estimated

_PROGRAMS = 6
"""Programs shown here; further ones are in the tables."""
_SENTENCES = 3

_KEY_FIGURES = {
    "usd_per_mtok_out": ("Cost per million output tokens", "The whole bill of the chips."),
    "decode_tok_s": ("Decode throughput", "Answer tokens written a second, all users together."),
    "prefill_tok_s": ("Prefill throughput", "Prompt tokens read a second, all users together."),
    "ttft_s": ("Time to first token", "How long a user waits for the answer to begin."),
    "tpot_s": ("Time per output token", "How long each further token takes for one user."),
    "usd_per_train_mtok": ("Cost per million training tokens", "The whole bill of the chips."),
    "train_tok_s": ("Training throughput", "Tokens learnt from a second, all chips together."),
    "samples_s": ("Samples a second", "All chips together."),
}
_LIMITS = {
    "flop_s": ("Arithmetic", "Operations a second in matrix multiplication"),
    "bandwidth_bytes_s": ("Memory bandwidth", "Bytes read and written a second"),
}
_RATES = {
    "output_tok_s": "output tokens a second",
    "train_tok_s": "training tokens a second",
    "samples_s": "samples a second",
}
"""What the headline case of a program is chosen by."""
_COSTS = {"output_tok_s": "usd_per_mtok_out", "train_tok_s": "usd_per_train_mtok"}


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return _survey(findings)
    valued = [s for s in findings.summaries if s.estimate is not None]
    title, scope = "What was found", Text(text=_scope(findings))
    if not valued:
        note = Note(tone="bad", text="There is no figure to show.", command="tpubench doctor")
        lead = "Every repetition failed or was invalid."
        return Section(title=title, lead=lead, blocks=(note, scope))
    programs = [_latest(group, rate) for rate in _RATES for group in _programs(valued, rate)]
    programs.sort(key=_standing)
    machines = _machines(valued)
    blocks: list[Block] = [_cards(group) for group in programs[:_PROGRAMS]]
    blocks += [_limits(group) for group in machines[:_PROGRAMS]]
    blocks += _unseen(programs, machines)
    devices = {group[0].first.device: group for group in reversed(programs)}
    first = [group for group in programs if devices[group[0].first.device] is group]
    real = [group for group in first if group[0].first.backend != "fake"]
    sentences = [_sentence(group) for group in (real or first)[:_SENTENCES]]
    if len(sentences) > 1:
        lead = f"{len(sentences)} devices, each by its case with the highest output:"
        blocks.insert(0, Text(items=tuple(sentences)))
    else:
        limits = "Only the hardware's own limits were measured, no whole program."
        lead = "".join(sentences) or limits
    return Section(title=title, lead=lead, blocks=(*blocks, scope))


def _survey(findings: Findings) -> Section:
    """What a collection of published results holds, by kind of work and device."""
    cases = [group[0].first for group in findings.by_case().values()]
    counts = Counter((row.workload, row.device) for row in cases)
    works = sorted({row.workload for row in cases})
    makers = Counter(vendors.vendor(row.device) for row in cases)
    sources = {row.run_id for row in cases}
    devices = sorted({row.device for row in cases})
    days = sorted({f"{row.started_at:%Y-%m}" for row in cases})
    return Section(
        title="What is here",
        lead=(
            f"{plural(len(cases), 'published case')}: {makers[GOOGLE]} on TPUs, {makers[NVIDIA]}"
            f" on NVIDIA and {makers[AMD]} on AMD GPUs, from {plural(len(sources), 'source')} of"
            f" {days[0]} to {days[-1]}. None was measured here."
        ),
        blocks=(
            Table(
                folded=f"Cases by device and work: {plural(len(devices), 'device')}",
                columns=columns("Device", *(f"{work}#" for work in works)),
                rows=tuple(
                    (vendors.label(device), *(str(counts[work, device] or "") for work in works))
                    for device in devices
                ),
            ),
        ),
    )


def _unseen(programs: list[list[Summary]], machines: list[list[Summary]]) -> list[Block]:
    """What has no card of its own, named."""
    left = [
        f"{group[0].first.workload} {group[0].first.preset} ({group[0].first.dtype}) on"
        f" {_device(group[0])}, {badge(group[0].first).text}"
        for group in programs[_PROGRAMS:]
    ]
    left += [f"the limits of {_device(group[0])}" for group in machines[_PROGRAMS:]]
    if not left:
        return []
    text = f"{plural(len(left), 'program')} more without a card here; all are in the table of every"
    return [Note(text=f"{text} figure.", items=distinct(left, 12))]


def _scope(findings: Findings) -> str:
    rows = results_of(findings.rows)
    cases = {case_key(row)[1:] for row in rows}
    ran = [row for row in rows if not estimated(row)]
    repetitions = {(case_key(row), row.repetition) for row in ran}
    good = repetitions - {(case_key(row), row.repetition) for row in ran if row.status != "ok"}
    computed = len({case_key(row) for row in rows if estimated(row)})
    days = sorted({f"{row.started_at:%Y-%m-%d}" for row in rows})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    text = (
        f"{plural(len({row.run_id for row in rows}), 'run')} of {plural(len(cases), 'case')},"
        f" {when}"
    )
    if computed:
        text += f"; for {'all' if not ran else f'{computed:,}'} of them nothing ran: estimates"
    if not ran:
        return f"{text}."
    text += f": {plural(len(repetitions), 'repetition')}, "
    text += "all succeeded." if good == repetitions else f"of which {len(good):,} succeeded."
    return (
        f"{text} Each repetition is a process of its own. A value is the geometric mean of its"
        " repetitions; the 95 % interval says how far it may be off, judging by how much the"
        " repetitions differ."
    )


def _programs(valued: list[Summary], rate: str) -> list[list[Summary]]:
    """The summaries of each program that has this rate."""

    def program(summary: Summary) -> object:
        row = summary.first
        what = row.workload, row.preset, row.dtype
        return (*what, row.device, row.chips, row.backend, row.evidence)

    return [group for group in by(valued, program) if any(s.first.metric == rate for s in group)]


def _latest(group: list[Summary], rate: str) -> list[Summary]:
    """The newest run of a program; the case with the highest rate comes first."""
    newest = max(s.first.run_id for s in group if s.first.metric == rate)
    group = [summary for summary in group if summary.first.run_id == newest]
    return sorted(group, key=lambda s: (s.first.metric == rate, _value(s)), reverse=True)


def _standing(group: list[Summary]) -> tuple[bool, bool, bool]:
    """Real before made up, measured before the rest, priced before unpriced."""
    row = group[0].first
    priced = any(summary.first.price_id is not None for summary in group)
    return row.backend == "fake", row.evidence != "measured", not priced


def _cards(group: list[Summary]) -> Cards:
    best, row = group[0], group[0].first
    rivals = [summary for summary in group if summary.first.metric == row.metric]
    names = Names(rivals)
    chosen = "Its one case"
    if len(rivals) > 1:
        chosen = f"Of {len(rivals)} cases, the one with the most {_RATES[row.metric]}"
    shared = names.shared("param") if len(rivals) > 1 else ""
    return Cards(
        title=f"{row.workload} {row.preset} ({row.dtype}) on {_device(best)}",
        evidence=badge(row),
        subtitle=f"{chosen}: {names.label(best)}.{f' All: {shared}.' if shared else ''}",
        cards=tuple(
            Card(
                label=label,
                value=value(other.estimate.point, METRICS[metric].unit),
                interval=interval(other.estimate, METRICS[metric].unit),
                meaning=meaning,
            )
            for metric, (label, meaning) in _KEY_FIGURES.items()
            if (other := _same_case(group, best, metric)) is not None and other.estimate is not None
        ),
        foot=_trade(group, best, names),
    )


def _sentence(group: list[Summary]) -> str:
    """The headline of one program, in words a buyer can repeat."""
    best, row = group[0], group[0].first
    label = Names([s for s in group if s.first.metric == row.metric]).label(best)
    text = "Made-up times, no measurement: " if row.backend == "fake" else ""
    text += f"{row.workload} {row.preset} on {_device(best)} makes"
    text += f" {value(_value(best), row.unit).replace('tok/s', _RATES[row.metric])}"
    cost = _same_case(group, best, _COSTS.get(row.metric, ""))
    if cost is not None and cost.estimate is not None:
        rate = quantity.number(cost.first.usd_per_chip_hour or 0.0)
        text += f", at {value(cost.estimate.point, cost.first.unit)} per million of them"
        text += f" (${rate} a chip-hour)"
    sure = interval(best.estimate, row.unit) if best.estimate else ""
    return f"{text}: {label}, {badge(row).text}, {sure}."


def _trade(group: list[Summary], best: Summary, names: Names) -> tuple[str, ...]:
    """The other end of the trade: the case that is quickest for each user."""
    paces = [s for s in group if s.first.metric == "tpot_s" and _value(s) > 0]
    quickest = min(paces, key=_value, default=None)
    if quickest is None or case_key(quickest.first) == case_key(best.first):
        return ()
    cost = _same_case(group, quickest, "usd_per_mtok_out")
    price = ""
    if cost is not None and cost.estimate is not None:
        price = f", at {value(cost.estimate.point, cost.first.unit)} per million output tokens"
    each = quantity.quantity(1 / _value(quickest), "token/s")
    return (
        f"Quickest for each user: {names.label(quickest)}, {each} a user{price}. Serving more"
        " users together makes a token cheaper and each user's answer slower.",
    )


def _machines(valued: list[Summary]) -> list[list[Summary]]:
    limits = [
        s
        for s in valued
        if s.first.metric in _LIMITS
        and s.first.unit == METRICS[s.first.metric].unit
        and s.first.backend != IMPORTED
    ]
    return by(limits, lambda s: (s.first.device, s.first.chips, s.first.backend, s.first.evidence))


def _limits(group: list[Summary]) -> Cards:
    cards = []
    for metric, (label, meaning) in _LIMITS.items():
        best = max((s for s in group if s.first.metric == metric), key=_value, default=None)
        if best is not None and best.estimate is not None:
            row = best.first
            cards.append(
                Card(
                    label=f"{label} ({row.dtype})",
                    value=value(best.estimate.point, row.unit),
                    interval=interval(best.estimate, row.unit),
                    meaning=f"{meaning}: {row.workload} {row.preset}.",
                )
            )
    return Cards(
        title=f"The hardware's own limits: {_device(group[0])}",
        evidence=badge(group[0].first),
        subtitle="The best of what gemm and hbm reached, to put the rest in scale.",
        cards=tuple(cards),
    )


def _device(summary: Summary) -> str:
    row = summary.first
    machine = part(row, "fingerprint")
    name = vendors.label(row.device)
    chips = f"{row.chips} × {name}" if row.chips > 1 else name
    model, cores = machine.get("cpu_model"), machine.get("usable_cores")
    if row.device == "cpu" and model:
        held = f", {plural(cores, 'core')}" if isinstance(cores, int) else ""
        return f"{chips} ({model}{held})"
    return chips


def _same_case(group: list[Summary], like: Summary, metric: str) -> Summary | None:
    return next(
        (
            s
            for s in group
            if s.first.metric == metric
            and case_key(s.first) == case_key(like.first)
            and s.first.unit == METRICS[metric].unit
        ),
        None,
    )


def _value(summary: Summary) -> float:
    return 0.0 if summary.estimate is None else summary.estimate.point

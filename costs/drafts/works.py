"""What stored rows can put into a plan: pieces of work, and how fast each chip does them.

One piece of work is one workload and model at the same lengths (1000 and 1024 tokens are the same).
Of several cases of a chip the best known stands for it, and of those the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tpubench.devices.sheets import devices
from tpubench.results.metrics import metric as metric_named
from tpubench.results.model_names import model_key
from tpubench.results.plain_text import one_line
from tpubench.results.row import Row
from tpubench.results.summary import Summary, case_key, summarise

EVIDENCE = ("measured", "published", "compiled", "modelled")
"""Best known first."""
LENGTHS = ("seq_len", "input_len", "output_len")
ROUND = ("scenario", "round")
"""Of MLPerf, whose rules fix what else matters."""
NEAR = 0.05
"""Part of each other within which two lengths are the same work."""
NAME_MOST = 90
"""Characters of a name in a plan, with room for a number behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSpeed:
    """The figure of one chip at one piece of work, and what else was known."""

    device: str
    summary: Summary
    others: tuple[Summary, ...]
    """Other cases of the same chip and work, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftWork:
    """One piece of work, with the chips that did it."""

    name: str
    speeds: tuple[ChipSpeed, ...]


def find_works(
    rows: Sequence[Row], metric: str, max_ttft_s: float | None, max_tpot_s: float | None
) -> tuple[list[DraftWork], list[str]]:
    """The works of some rows, and what was left out and why.

    ``metric`` is a rate per chip; the goals are held against the same case's latencies. UsageError
    for an unknown metric.
    """
    metric_named(metric)
    left_out: list[str] = []
    latencies = _latencies(rows)
    goals = {"ttft_s": max_ttft_s, "tpot_s": max_tpot_s}
    fit: list[Summary] = []
    strangers: dict[str, int] = {}
    for summary in _newest(summarise(row for row in rows if row.metric == metric)):
        if summary.estimate is None or summary.estimate.point <= 0:
            continue
        if summary.first.device not in devices():
            strangers[summary.first.device] = strangers.get(summary.first.device, 0) + 1
            continue
        missed = _missed(summary, latencies, goals)
        if missed is not None:
            left_out.append(f"{_where(summary)}: {missed}")
            continue
        fit.append(summary)
    for device, count in sorted(strangers.items()):
        left_out.append(f"{device}: no accelerator that can be planned for ({count} cases)")
    return _named(_grouped(fit)), left_out


def _latencies(rows: Iterable[Row]) -> dict[tuple[object, ...], float]:
    wanted = [row for row in rows if row.metric in {"ttft_s", "tpot_s"}]
    return {
        (case_key(s.first), s.first.device, s.first.metric): s.estimate.point
        for s in summarise(wanted)
        if s.estimate is not None
    }


def _missed(
    summary: Summary, latencies: dict[tuple[object, ...], float], goals: dict[str, float | None]
) -> str | None:
    for name, most in goals.items():
        if most is None:
            continue
        value = latencies.get((case_key(summary.first), summary.first.device, name))
        if value is None:
            return f"no {name} to hold against {most:g} s"
        if value > most:
            return f"{name} {value:.3g} s misses {most:g} s"
    return None


def _newest(summaries: Iterable[Summary]) -> list[Summary]:
    """Of the same case run again, the newest run."""
    held: dict[tuple[object, ...], Summary] = {}
    for summary in summaries:
        row = summary.first
        key = (case_key(row)[1:], row.device, row.source if row.evidence == "published" else None)
        if key not in held or row.run_id > held[key].first.run_id:
            held[key] = summary
    return list(held.values())


def _grouped(summaries: Iterable[Summary]) -> list[list[Summary]]:
    groups: list[list[Summary]] = []
    for summary in summaries:
        home = next((g for g in groups if same_work(g[0], summary)), None)
        if home is None:
            groups.append([summary])
        else:
            home.append(summary)
    return groups


def same_work(a: Summary, b: Summary) -> bool:
    """Whether two figures are of the same workload, model and lengths."""
    left, right = a.first, b.first
    if (left.workload, model_key(left.preset)) != (right.workload, model_key(right.preset)):
        return False
    if any(str(a.params.get(name)) != str(b.params.get(name)) for name in ROUND):
        return False
    return all(_near(a.params.get(name), b.params.get(name)) for name in LENGTHS)


def _near(a: object, b: object) -> bool:
    if a == b:
        return True
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return False
    return abs(a - b) <= NEAR * max(abs(a), abs(b))


def _named(groups: Iterable[list[Summary]]) -> list[DraftWork]:
    works: list[DraftWork] = []
    names: set[str] = set()
    for group in groups:
        name = title(group[0])
        number = 2
        while name in names:
            name, number = f"{title(group[0])} ({number})", number + 1
        names.add(name)
        by_device: dict[str, list[Summary]] = {}
        for summary in group:
            by_device.setdefault(summary.first.device, []).append(summary)
        speeds = []
        for device in sorted(by_device):
            best, *others = sorted(by_device[device], key=_rank)
            speeds.append(ChipSpeed(device=device, summary=best, others=tuple(others)))
        works.append(DraftWork(name=name, speeds=tuple(speeds)))
    return sorted(works, key=lambda work: (-len(work.speeds), work.name))


def _rank(summary: Summary) -> tuple[int, float]:
    assert summary.estimate is not None
    return EVIDENCE.index(summary.first.evidence), -summary.estimate.point


def title(summary: Summary) -> str:
    """The work in words: workload, model, lengths."""
    row, params = summary.first, summary.params
    words = [f"{row.workload} {row.preset}"]
    words += [str(params[name]) for name in ROUND if params.get(name)]
    if params.get("seq_len"):
        words.append(f"sequence {params['seq_len']}")
    if params.get("input_len"):
        words.append(f"{params['input_len']} in {params.get('output_len', '?')} out")
    return one_line(", ".join(words))[:NAME_MOST]


def _where(summary: Summary) -> str:
    return f"{title(summary)} on {summary.first.device}{case_words(summary)}"


def case_words(summary: Summary) -> str:
    """Precision, chips and what else tells a case from another, each with a comma before it."""
    row = summary.first
    hidden = {*LENGTHS, *ROUND, "dtype", "seed", "weights", "submission"}
    words = [row.dtype]
    words += [f"{row.chips} chips"] if row.chips > 1 else []
    words += [f"{key}={value}" for key, value in summary.params.items() if key not in hidden]
    return one_line("".join(f", {word}" for word in words))

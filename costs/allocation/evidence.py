"""Throughputs of a plan: as given, or from stored rows, each with how it is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tpubench.costs.allocation.plan import FromStore, Plan, Throughput
from tpubench.errors import UsageError
from tpubench.results import store
from tpubench.results.listing import Listing, naming
from tpubench.results.newest import newest
from tpubench.results.row import Row
from tpubench.results.rows import rows_of
from tpubench.results.statistics import between
from tpubench.results.summary import summarise


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpeed:
    """Throughput of a pair as used, with how it is known and how far its repetitions spread."""

    tok_s: float
    evidence: str
    source: str
    low: float | None = None
    high: float | None = None


KINDS = ("evidence", "dtype", "preset", "backend", "chips", "parallelism")
VALUES_SHOWN = 6
COLUMNS_OF_A_CASE = ("backend", "chips", "hosts", "parallelism", "evidence")
"""Columns of a row that say under what it was measured, beside its parameters."""
Speeds = dict[tuple[str, str], PairSpeed]


def find_speeds(plan: Plan, folder: Path) -> tuple[Speeds, list[str]]:
    """Speed of every pair that meets its SLO, and notes on those that do not.

    UsageError naming the entry when no stored row fits, or rows of several kinds do.
    """
    queries = [item.from_store for item in plan.throughput if item.from_store is not None]
    stored = rows_of(folder, store.files(folder) if queries else Listing(files=()))
    stored.keep("device", sorted({item.accelerator for item in plan.throughput}))
    stored.keep("workload", sorted({query.workload for query in queries}))
    if any(query.run_id is not None for query in queries):
        table = stored.read()
    else:
        table = newest(stored, valued=True).table
    rows = list(store.iter_rows(table))
    speeds: Speeds = {}
    notes = [f"left out: {bad.error}" for bad in stored.unreadable]
    for i, item in enumerate(plan.throughput):
        pair = (item.accelerator, item.workload)
        if item.from_store is None:
            speeds[pair] = PairSpeed(
                tok_s=item.tok_s or 0.0,
                evidence=item.evidence or "assumed",
                source=item.source or "the plan",
                low=item.low_tok_s,
                high=item.high_tok_s,
            )
            continue
        mine = _matching(rows, item, item.from_store)
        key = f"throughput[{i}].from_store ({item.workload} on {item.accelerator})"
        if not mine:
            with naming(stored.unreadable):
                raise UsageError(f"{key}: no stored row in {folder} fits{_nearest(rows, item)}")
        missed = _missed(rows, mine, item.from_store)
        if missed:
            notes.append(f"{item.workload} on {item.accelerator} is left out: {missed}")
            continue
        speeds[pair] = _speed(key, mine)
    return speeds, notes


def _matching(rows: list[Row], item: Throughput, query: FromStore) -> list[Row]:
    """Rows of the newest run that fits the query."""
    fits = [
        row
        for row in rows
        if row.status == "ok"
        and row.value is not None
        and row.metric == query.metric
        and row.device == item.accelerator
        and row.workload == query.workload
        and query.preset in {None, row.preset}
        and query.dtype in {None, row.dtype}
        and query.run_id in {None, row.run_id}
        and _has(row, query)
    ]
    newest = max((row.run_id for row in fits), default="")
    return [row for row in fits if row.run_id == newest]


def _has(row: Row, query: FromStore) -> bool:
    """Whether the row's case has all parameter values asked for."""
    wanted = query.model_extra or {}
    if not wanted:
        return True
    case = _case(row)
    return all(key in case and case[key] == value for key, value in wanted.items())


def _case(row: Row) -> dict[str, object]:
    """What a query may narrow by beside workload, preset and precision."""
    params = json.loads(row.params)
    columns = {name: getattr(row, name) for name in COLUMNS_OF_A_CASE}
    return {**columns, **(params if isinstance(params, dict) else {})}


def _missed(rows: list[Row], mine: list[Row], query: FromStore) -> str | None:
    """Which latency goal the same case of the same run misses, or None."""
    goals = (("ttft_s", query.max_ttft_s), ("tpot_s", query.max_tpot_s))
    for metric, most in goals:
        if most is None:
            continue
        near = [
            row.value
            for row in rows
            if row.metric == metric
            and row.run_id == mine[0].run_id
            and row.params == mine[0].params
            and row.value is not None
        ]
        if not near:
            return f"run {mine[0].run_id} has no {metric} to hold against {most:g} s"
        if between(near).point > most:
            return f"{metric} {between(near).point:.3g} s misses {most:g} s"
    return None


def _speed(key: str, mine: list[Row]) -> PairSpeed:
    kinds = {(row.params, *(getattr(row, name) for name in KINDS)) for row in mine}
    if len(kinds) > 1:
        raise UsageError(
            f"{key}: run {mine[0].run_id} has {len(kinds)} different cases that fit;"
            f" narrow it with {_what_differs(mine)}"
        )
    (summary,) = summarise(mine)
    estimate = summary.estimate
    assert estimate is not None, "every row has a value"
    count = "" if summary.estimated else f" ({estimate.n} repetitions)"
    return PairSpeed(
        tok_s=estimate.point,
        evidence=mine[0].evidence,
        source=f"run {mine[0].run_id}{count}",
        low=estimate.low,
        high=estimate.high,
    )


def _nearest(rows: list[Row], item: Throughput) -> str:
    """What there is of the same workload on the same chip, to correct a query by."""
    query = item.from_store
    assert query is not None
    near = [r for r in rows if r.device == item.accelerator and r.workload == query.workload]
    if not near:
        return f": none is of {query.workload} on {item.accelerator}"
    there = [r for r in near if r.metric == query.metric and r.status == "ok"]
    if not there:
        rates = sorted({r.metric for r in near if r.metric.endswith("_per_chip")})
        return f": there is no {query.metric}, only {', '.join(rates) or 'rows without a rate'}"
    return f"; there are rows with {_what_differs([*there])}"


def _what_differs(rows: list[Row]) -> str:
    """The keys by which rows differ, with their values, as they are written in a plan."""
    cases = [{**_case(row), "preset": row.preset, "dtype": row.dtype} for row in rows]
    words = []
    for name in dict.fromkeys(name for case in cases for name in case):
        values = dict.fromkeys(json.dumps(case.get(name), ensure_ascii=False) for case in cases)
        if len(values) > 1:
            words.append(f"{name} = {' or '.join(list(values)[:VALUES_SHOWN])}")
    return ", ".join(words) or "run_id"

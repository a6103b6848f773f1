"""What the page is made from: rows with harmless text, their summaries, and names for cases.

A store may come from anybody. Whatever a stored file claims, the sections downstream see text
without control characters, and JSON columns that hold an object.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpubench.devices.list_price import DevicePrice, device_prices
from tpubench.devices.prices import Price, prices
from tpubench.devices.vendors import label
from tpubench.reports.figure import MAX_CASES
from tpubench.results.metrics import METRICS
from tpubench.results.plain_text import one_line as clean
from tpubench.results.row import Row
from tpubench.results.store import Scan, iter_rows
from tpubench.results.summary import CaseKey, Summary, case_key, summarise

_RUN_ID = re.compile(r"\d{8}T\d{6}-([0-9a-f]{6})")
_UNTOLD = {"dtype", "seed", "weights"}
"""Parameters that a case's name leaves out unless cases differ in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A file that was left out, and why."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything the sections look at. ``now`` (UTC) decides which prices are stale; ``drawn`` says
    which of the selected rows these are, where they are too many to draw them all."""

    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    damaged: tuple[Damaged, ...]
    now: dt.datetime
    prices: Mapping[str, Price] = dataclasses.field(default_factory=prices)
    """Every price that is known here, by id: the shipped ones and the user's."""
    device_prices: Mapping[str, DevicePrice] = dataclasses.field(default_factory=device_prices)
    """The price of each device where none was named."""
    drawn: str | None = None

    def of(self, metric: str) -> list[Summary]:
        """Summaries of ``metric`` that have a positive value in its own unit, in case order."""
        return [
            summary
            for summary in self.summaries
            if summary.first.metric == metric
            and summary.first.unit == METRICS[metric].unit
            and summary.estimate is not None
            and summary.estimate.point > 0
        ]

    @property
    def survey(self) -> bool:
        """Whether this is a collection of published results, too many to draw each."""
        kinds = {row.evidence for row in self.rows if row.status == "ok"}
        return kinds == {"published"} and len(self.by_case()) > MAX_CASES

    def by_case(self) -> dict[CaseKey, list[Summary]]:
        """The summaries of each case, in case order and then in the order of the metrics."""
        cases: dict[CaseKey, list[Summary]] = {}
        for summary in self.summaries:
            cases.setdefault(case_key(summary.first), []).append(summary)
        return cases


def find(scan: Scan, now: dt.datetime, table: Mapping[str, Price] | None = None) -> Findings:
    """The rows of a scan made harmless, summarised, and sorted by case and metric.

    ``table`` holds every known price by id, the shipped ones by default.
    """
    rows = tuple(iter_rows(scan.table, _text))
    order = {name: index for index, name in enumerate(METRICS)}
    summaries = sorted(
        summarise(rows),
        key=lambda s: (*_sort_key(s), order.get(s.first.metric, len(order)), s.first.metric),
    )
    return Findings(
        rows=rows,
        summaries=tuple(summaries),
        damaged=tuple(
            Damaged(file=clean(str(bad.path)), problem=clean(str(bad.error)))
            for bad in scan.unreadable
        ),
        now=now,
        prices=prices() if table is None else table,
        device_prices=device_prices(table),
        drawn=scan.drawn,
    )


def short(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters; the middle is left out."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - most :]}"


def environment(row: Row) -> Mapping[str, Any]:
    """The row's environment; always an object."""
    return _parsed(row.environment)


def part(row: Row, name: str) -> Mapping[str, Any]:
    """One part of the row's environment; empty when it is absent or no object."""
    value = environment(row).get(name)
    return value if isinstance(value, dict) else {}


def run_name(run_id: str) -> str:
    """A run in few characters."""
    match = _RUN_ID.fullmatch(run_id)
    return f"run {match[1]}" if match else f"run {short(run_id, 24)}"


class Names:
    """What to call each case among these: no more than tells them apart, and what they share.

    Traits are added, the most telling first, as long as each tells more cases apart; a device is
    told wherever two cases differ in it. Different cases never get the same name.
    """

    def __init__(self, summaries: Sequence[Summary]) -> None:
        groups: dict[str, list[Mapping[str, str]]] = {}
        for summary in summaries:
            groups.setdefault(summary.first.workload, []).append(_traits(summary))
        everything = [traits for group in groups.values() for traits in group]
        # Never one precision beside another as if they were the same work.
        always = [
            key for key in ("device", "dtype") if len({traits[key] for traits in everything}) > 1
        ]
        self._told = {name: _telling(group, always) for name, group in groups.items()}
        self._several = len(groups) > 1
        self._shared = {
            key: text
            for key, text in (everything[0] if everything else {}).items()
            if all(traits.get(key) == text for traits in everything)
        }
        seen: dict[str, set[str]] = {}
        for summary in summaries:
            seen.setdefault(self._plain(summary), set()).add(summary.first.run_id)
        self._reruns = any(len(runs) > 1 for runs in seen.values())
        self._full = list(dict.fromkeys(self._with_run(summary) for summary in summaries))
        self._alike: dict[int, dict[str, list[str]]] = {}

    def label(self, summary: Summary, *, most: int = 60) -> str:
        """Name of the case in at most ``most`` characters."""
        full = self._with_run(summary)
        if most not in self._alike:
            self._alike[most] = {}
            for other in self._full:
                self._alike[most].setdefault(short(other, most), []).append(other)
        alike = self._alike[most].get(short(full, most), [])
        if len(alike) < 2:
            return short(full, most)
        number = f" ({alike.index(full) + 1})"
        return short(full, most - len(number)) + number

    def shared(self, kind: str = "") -> str:
        """What all cases have in common, in words; empty when there is nothing to say.

        ``kind="param"`` tells the parameters only.
        """
        untold = {"backend", *(f"param {name}" for name in _UNTOLD)}
        traits = [
            text
            for key, text in self._shared.items()
            if text and key.startswith(kind) and key not in untold
        ]
        return short(", ".join(traits), 240)

    def _with_run(self, summary: Summary) -> str:
        text = self._plain(summary)
        if not self._reruns:
            return text or clean(summary.label()) or summary.first.preset
        run = run_name(summary.first.run_id)
        return f"{text} · {run}" if text else run

    def _plain(self, summary: Summary) -> str:
        row, traits = summary.first, _traits(summary)
        names = [key for key in self._told.get(row.workload, ()) if key in traits]
        words = [traits[key] for key in names if " " not in key]
        params = " ".join(traits[key] for key in names if " " in key)
        if params:
            words.append(params)
        if self._several:
            words = [row.workload, *(words or [row.preset])]
        return " · ".join(words)


def _traits(summary: Summary) -> Mapping[str, str]:
    """What a case is. Keys of parameters hold a space, no others do."""
    row = summary.first
    return _traits_of(
        row.workload, row.preset, row.device, row.chips, row.dtype, row.backend, row.params
    )


@functools.lru_cache(maxsize=1 << 15)
def _traits_of(
    workload: str, preset: str, device: str, chips: int, dtype: str, backend: str, params: str
) -> Mapping[str, str]:
    """Asked for once by each section that names the case."""
    return {
        "workload": workload,
        "preset": preset,
        "device": label(device),
        "chips": _chips(chips),
        "dtype": dtype,
        "backend": f"{backend} backend",
        **{f"param {k}": f"{k}={v}" for k, v in _parsed(params).items() if k != "dtype"},
    }


def _chips(count: int) -> str:
    if not count:
        return "chips not stated"
    return f"{count} chip{'' if count == 1 else 's'}"


def _telling(group: Sequence[Mapping[str, str]], always: Sequence[str]) -> list[str]:
    """The traits, the most telling first, that together tell these cases apart."""
    first = ["device", "preset", "param batch", "chips"]
    last = ["dtype", *(f"param {name}" for name in sorted(_UNTOLD)), "backend"]
    keys = dict.fromkeys(key for traits in group for key in traits if key != "workload")
    keys = dict.fromkeys([*first, *(key for key in keys if key not in last), *last])
    names = list(always)
    apart = len({tuple(traits.get(key) for key in names) for traits in group})
    for key in keys:
        more = len({tuple(traits.get(k) for k in [*names, key]) for traits in group})
        if more > apart:
            names.append(key)
            apart = more
    return names


def _sort_key(summary: Summary) -> tuple[object, ...]:
    row = summary.first
    params = tuple((key, *_number_first(value)) for key, value in sorted(summary.params.items()))
    return (row.workload, row.preset, row.device, row.evidence, row.dtype, params, row.run_id)


def _number_first(value: object) -> tuple[int, float, str]:
    """Sorts numbers by size, before everything else."""
    if isinstance(value, (int, float)) and abs(value) < 1e300:
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _text(column: str, text: str) -> str:
    """A cell's text made harmless."""
    if column in {"params", "environment"}:
        return _object_text(text)
    shown = clean(text)
    return shown if shown or not text or column != "reason" else "no reason that can be shown"


@functools.lru_cache(maxsize=4096)
def _object_text(text: str) -> str:
    try:
        value = _clean_value(json.loads(text))
    except (ValueError, RecursionError):
        value = {"not JSON": clean(short(text, 400))}
    return json.dumps(value if isinstance(value, dict) else {"value": value}, sort_keys=True)


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Mapping[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean_value(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_clean_value(entry) for entry in value]
    return value

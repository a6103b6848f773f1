"""Several repetitions of one case as one estimate: what tables, charts and verdicts look at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tpubench.results.row import Row
from tpubench.results.statistics import Estimate, between

CaseKey = tuple[object, ...]

IMPORTED = "imported"
"""Backend of rows that another tool or a publication made."""
PRICED_AT = "priced_at"
"""Key of the environment of a $ figure that was priced after its run: UTC time, ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One metric of one case in one run. ``rows`` are its repetitions, all statuses included.

    ``estimate`` is over the repetitions that are ok, or the model's own, interval included; None
    when none has a value, and ``reason`` then says why. ``failed`` counts repetitions that failed
    or were invalid.
    """

    first: Row
    params: Mapping[str, object]
    estimate: Estimate | None
    reason: str | None
    failed: int
    rows: tuple[Row, ...]

    @property
    def estimated(self) -> bool:
        """Whether nothing ran on the device: there are no repetitions to speak of."""
        return estimated(self.first)

    def label(self) -> str:
        """The case in words: what differs between cases of a workload."""
        hidden = {"dtype", "seed", "weights"}
        return " ".join(f"{k}={v}" for k, v in self.params.items() if k not in hidden)


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Group by run, case and metric; repetitions of a group are aggregated by :func:`between`.

    Of a figure that was priced again, the price that was put last is summarised.
    A repetition that failed has one row under the workload's primary metric only; it is counted
    in every group of its case.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    failures: dict[tuple[object, ...], list[Row]] = {}
    seen = set()
    for row in rows:
        if row_key(row) in seen:
            continue  # a copied file is no further repetition
        seen.add(row_key(row))
        if row.status == "ok":
            price = (row.price_id, row.price_sha256)
            groups.setdefault((*case_key(row), row.device, row.metric, price), []).append(row)
        else:
            failures.setdefault(case_key(row), []).append(row)
    for case, failed in failures.items():
        if not any(key[: len(case)] == case for key in groups):
            groups[(*case, failed[0].device, failed[0].metric, (None, None))] = []
    summaries = []
    for key, good in _at_the_last_price(groups).items():
        bad = failures.get(key[:-3], [])
        values = [row.value for row in good if row.value is not None]
        reasons = [row.reason for row in (*good, *bad) if row.reason]
        first = good[0] if good else bad[0]
        summaries.append(
            Summary(
                first=first,
                params=_params(first.params),
                estimate=_estimate(good, values),
                reason=None if values else (reasons[0] if reasons else "no value"),
                failed=len(bad),
                rows=(*good, *bad),
            )
        )
    return summaries


def _at_the_last_price(groups: dict[CaseKey, list[Row]]) -> dict[CaseKey, list[Row]]:
    """The groups without those whose figure was priced again later; several prices that were there
    from the start stay side by side.
    """
    rivals: dict[CaseKey, list[CaseKey]] = {}
    for key in groups:
        rivals.setdefault(key[:-1], []).append(key)
    overtaken: set[CaseKey] = set()
    for keys in rivals.values():
        if len(keys) > 1:
            priced = {
                key: max((_priced_at(row.environment) for row in groups[key]), default="")
                for key in keys
            }
            last = max(keys, key=priced.__getitem__)
            if priced[last]:
                overtaken |= {key for key in keys if key != last}
    return {key: rows for key, rows in groups.items() if key not in overtaken}


@lru_cache(maxsize=4096)
def _priced_at(environment: str) -> str:
    document = json.loads(environment)
    return str(document.get(PRICED_AT, "")) if isinstance(document, dict) else ""


def _estimate(good: list[Row], values: list[float]) -> Estimate | None:
    if not values:
        return None
    if len(good) == 1 and good[0].evidence == "modelled" and good[0].samples is None:
        row = good[0]
        return Estimate(point=values[0], low=row.ci_low, high=row.ci_high, n=1)
    return between(values)


def estimated(row: Row) -> bool:
    """Whether a row was computed or compiled, and nothing ran for it."""
    return row.evidence in {"compiled", "modelled"} and row.backend != "fake"


def _params(text: str) -> dict[str, object]:
    params = json.loads(text)
    return params if isinstance(params, dict) else {"params": params}


def row_key(row: Row) -> tuple[object, ...]:
    """What no two facts share."""
    price = (row.price_id, row.price_sha256)
    return (*case_key(row), row.device, row.repetition, row.metric, *price, row.source)


def case_key(row: Row) -> CaseKey:
    """What makes two rows repetitions of the same case in the same run."""
    return (
        row.run_id,
        row.evidence,
        row.workload,
        row.workload_version,
        row.preset,
        row.params,
        row.backend,
        # Not the device: a repetition that died may not know it. Imported results do know it, and
        # one source may have the same case on several.
        row.device if row.backend == IMPORTED else None,
        row.chips,
        row.dtype,
    )

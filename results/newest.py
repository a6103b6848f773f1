"""What a page is drawn from where a store holds more than a page can show: the newest run of each
case, chosen by DuckDB, so that only the rows of those become Python objects.

A case is drawn from one run: its newest. Each source of published figures counts as a case of its
own, since it is no earlier run of another. Of a case with very many repetitions the first ones are
taken, and where the cases are still too many, some of each device.
"""

from __future__ import annotations

from tpubench.results.rows import Rows
from tpubench.results.store import Scan

FEW_ROWS, MOST_ROWS = 50_000, 100_000
"""Rows up to which every run is drawn, and of the newest at most: a page of them takes 4 and 8 s of
processor time, 400 and 700 MiB.
"""
MOST_REPETITIONS = 100
"""Of a case; the interval of more is no narrower than a reader can tell."""

_CASE = (
    *("evidence", "workload", "workload_version", "preset", "params", "backend", "chips", "dtype"),
    "parallelism",
)
_LISTED = ", ".join(_CASE)


def newest(rows: Rows) -> Scan:
    """The rows to draw: all where they are few, else of the newest run of each case; which they
    are is said in ``drawn``.
    """
    count = len(rows)
    if count <= FEW_ROWS:
        return Scan(table=rows.read(), unreadable=rows.unreadable)
    on = ("run_id", "device", *_CASE)
    chosen = rows.ask(_query(), (*on, "repetition"))
    cases, runs = (chosen[name][0].as_py() for name in ("cases", "runs"))
    shortened = any(chosen["shortened"].to_pylist())
    rows.match(chosen.select([*on, "below"]), "repetition", "below")
    table = rows.read()
    which = f"the newest run of each case, {cases:,} in all"
    if chosen.num_rows < cases:
        which = f"the newest run of {chosen.num_rows:,} of {cases:,} cases, some of every device"
    if table.num_rows == count:
        return Scan(table=table, unreadable=rows.unreadable)
    words = f"of {count:,} rows in {runs:,} runs {table.num_rows:,} are drawn: {which}"
    if shortened:
        words += f", of a case with more than {MOST_REPETITIONS} repetitions the first of them"
    return Scan(table=table, unreadable=rows.unreadable, drawn=words)


def _query() -> str:
    """One line for each case that is drawn, with its run; the rest of :meth:`.Rows.ask`.

    A repetition that died may name its backend as its device, which it did not learn: it belongs to
    the case whatever its device.
    """
    return f"""
    , last AS (
        SELECT {_LISTED}, device, CASE WHEN evidence = 'published' THEN run_id END AS source,
            max(run_id) AS run_id
        FROM selected GROUP BY ALL
    ),
    newest AS (
        SELECT * FROM last QUALIFY device <> backend
            OR run_id = max(run_id) OVER (PARTITION BY source, {_LISTED})
    ),
    sized AS (
        SELECT run_id, device, {_LISTED}, count(*) AS many, min(repetition) AS least,
            count(*) FILTER (repetition < {MOST_REPETITIONS}) AS first_ones
        FROM selected SEMI JOIN newest USING (run_id, device, {_LISTED}) GROUP BY ALL
    ),
    turns AS (
        SELECT *, CASE WHEN first_ones > 0 THEN first_ones ELSE many END AS size,
            CASE WHEN first_ones > 0 THEN 0 ELSE least END + {MOST_REPETITIONS} AS below,
            row_number() OVER (PARTITION BY device ORDER BY run_id DESC, {_LISTED}) AS turn
        FROM sized
    ),
    room AS (
        SELECT *, sum(size) OVER (ORDER BY turn, device ROWS UNBOUNDED PRECEDING) AS upto
        FROM turns
    )
    SELECT run_id, device, {_LISTED}, below, many > first_ones AS shortened,
        (SELECT count(*) FROM newest) AS cases,
        (SELECT count(DISTINCT run_id) FROM selected) AS runs
    FROM room WHERE upto - size < {MOST_ROWS}
"""

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
"""Rows up to which every run is drawn, and of the newest at most: a page of 75,000 takes 5 s of
processor time and 500 MiB.
"""
MOST_REPETITIONS = 100
"""Of a case; the interval of more is no narrower than a reader can tell."""

_CASE = (
    *("evidence", "workload", "workload_version", "preset", "params", "backend", "chips", "dtype"),
    "parallelism",
)
_LISTED = ", ".join(_CASE)
_KEY = ("run_id", "device", *_CASE)
_RUNS = "SELECT count(DISTINCT run_id) AS runs FROM selected"
# A repetition that died may name its backend as its device, which it did not learn: it belongs to
# the case whatever its device.
_NEWEST = f"""
    , last AS (
        SELECT {_LISTED}, device, CASE WHEN evidence = 'published' THEN run_id END AS source,
            max(run_id) AS run_id
        FROM selected WHERE status = 'ok' OR NOT $valued GROUP BY ALL
    )
    SELECT run_id, device, {_LISTED}, {2**62} AS below FROM last
    QUALIFY device <> backend OR run_id = max(run_id) OVER (PARTITION BY source, {_LISTED})
"""


def newest(rows: Rows, *, valued: bool = False) -> Scan:
    """The rows to draw: all where they are few, else of the newest run of each case, or with
    ``valued`` of the newest in which some repetition was ok; which they are is said in ``drawn``.
    """
    count = len(rows)
    if count <= FEW_ROWS:
        return Scan(table=rows.read(), unreadable=rows.unreadable)
    runs = rows.ask(_RUNS, ["run_id"])["runs"][0].as_py()
    # Two questions: asked as one, DuckDB holds every row to find the sizes of the newest runs.
    last = rows.ask(_NEWEST.replace("$valued", str(valued)), (*_KEY, "status"))
    rows.match(last, "repetition", "below")
    chosen = rows.ask(_room(), (*_KEY, "repetition"))
    shortened = any(chosen["shortened"].to_pylist())
    rows.match(chosen.select([*_KEY, "below"]), "repetition", "below")
    table = rows.read()
    if table.num_rows == count:
        return Scan(table=table, unreadable=rows.unreadable)
    cases = last.num_rows
    which = f"the newest run of each case, {cases:,} in all"
    if chosen.num_rows < cases:
        which = f"the newest run of {chosen.num_rows:,} of {cases:,} cases, some of every device"
    words = f"of {count:,} rows in {runs:,} runs {table.num_rows:,} are drawn: {which}"
    if shortened:
        words += f", of a case with more than {MOST_REPETITIONS} repetitions the first of them"
    return Scan(table=table, unreadable=rows.unreadable, drawn=words)


def _room() -> str:
    """A line for each case that there is room for, of each device in turn."""
    return f"""
    , sized AS (
        SELECT run_id, device, {_LISTED}, count(*) AS many, min(repetition) AS least,
            count(*) FILTER (repetition < {MOST_REPETITIONS}) AS first_ones
        FROM selected GROUP BY ALL
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
    SELECT run_id, device, {_LISTED}, below, many > first_ones AS shortened
    FROM room WHERE upto - size < {MOST_ROWS}
"""

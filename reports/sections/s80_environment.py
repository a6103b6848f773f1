"""The machines, libraries and settings, and what differs between them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from tpubench.reports import quantity, time_spent
from tpubench.reports.blocks import Badge, Block, Cell, Note, Section, Table, columns
from tpubench.reports.findings import Findings, Names, part, run_name, short
from tpubench.reports.sections._shared import TABLE_ROWS, distinct, spread
from tpubench.results.plain_text import plural
from tpubench.results.row import Row
from tpubench.results.summary import case_key

_CASE_FIELDS = {"params", "preset", "shape", "workload", "workload_version", "workload_sha256"}
"""Fingerprint fields that belong to the case; all others belong to the machine."""
_MOST_MACHINES = 8


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    machines: dict[str, list[Row]] = {}
    # A repetition that failed may have died before it could say where it ran.
    rows = [row for row in findings.rows if row.status == "ok"] or findings.rows
    for row in rows:
        machines.setdefault(_machine(row.environment, row.source), []).append(row)
    fields = [json.loads(text) for text in machines]
    blocks: list[Block] = []
    if len(fields) > 1:
        differing = [key for key in _keys(fields) if len({f.get(key) for f in fields}) > 1]
        blocks.append(
            Note(
                tone="warn",
                text=(
                    f"{len(fields)} different environments. Figures from different ones may differ"
                    " for reasons other than the device. What differs:"
                    f" {', '.join(distinct(differing, 12))}."
                ),
            )
        )
    blocks += [_machines(fields, list(machines.values())), _programs(findings), _checks(findings)]
    blocks += [
        Note(text=f"{line[0].upper()}{line[1:]}.") for line in time_spent.lines(findings.rows)
    ]
    return Section(
        title="Environment",
        lead=(
            "Where the figures come from: the machine, the libraries, the settings, and the exact"
            " programs. Only an allow-list is recorded; no environment variables, no names."
        ),
        blocks=tuple(blocks),
    )


@functools.lru_cache(maxsize=4096)
def _machine(environment: str, source: str | None) -> str:
    """Where a row is from, as JSON text; most rows of a store are from the same few machines."""
    parts = json.loads(environment)
    match = {k: v for k, v in _part(parts, "fingerprint").items() if k not in _CASE_FIELDS}
    described = match.pop("description", None)
    if isinstance(described, dict):
        match |= described
    host = {k: v for k, v in _part(parts, "host").items() if k not in match}
    fields = {**_flat(match), **{f"host {k}": v for k, v in _flat(host).items()}}
    return json.dumps({**fields, "written by": source or "not stored"}, sort_keys=True)


def _part(parts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = parts.get(name)
    return part if isinstance(part, dict) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, entry in value.items():
        name = short(f"{prefix}{key}", 48)
        if isinstance(entry, dict) and prefix.count(" ") < 4:
            texts |= _flat(entry, f"{name} ")
        elif key.endswith("_bytes") and isinstance(entry, int):
            texts[name] = quantity.quantity(min(entry, 2**70), "byte")
        else:
            text = entry if isinstance(entry, str) else json.dumps(entry)
            texts[name] = quantity.MISSING if entry is None else short(text, 400)
    return texts


def _keys(fields: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(key for field in fields for key in field))


def _machines(fields: list[dict[str, str]], rows: list[list[Row]]) -> Table:
    shown = fields[:_MOST_MACHINES]
    keys = _keys(shown)
    differing = {key for key in keys if len({field.get(key) for field in shown}) > 1}
    table: list[tuple[Cell, ...]] = []
    if len(shown) > 1:
        runs = [sorted({row.run_id for row in group}) for group in rows[:_MOST_MACHINES]]
        names = [run_name(run[0]) if len(run) == 1 else plural(len(run), "run") for run in runs]
        table.append(("seen in", *names))
    for key in sorted(keys, key=lambda key: key not in differing):
        label: Cell = Badge(text=key, tone="warn") if key in differing else key
        table.append((label, *(field.get(key, quantity.MISSING) for field in shown)))
    headings = ["Value"] if len(shown) == 1 else [f"Environment {i + 1}" for i in range(len(shown))]
    more = len(fields) - len(shown)
    return Table(
        caption="Machine and settings",
        columns=columns("Field", *headings),
        rows=tuple(table),
        foot=f"{more} more environments are not shown." if more > 0 else "",
    )


def _programs(findings: Findings) -> Table:
    programs: dict[tuple[str, ...], None] = {}
    for row in findings.rows:
        sha = str(part(row, "fingerprint").get("workload_sha256") or quantity.MISSING)
        commit = row.git_sha or quantity.MISSING
        dirty = " with uncommitted changes" if row.git_dirty else ""
        version = str(row.workload_version)
        programs[row.workload, version, sha[:16], f"{commit[:12]}{dirty}"] = None
    return Table(
        caption="Programs",
        columns=columns("Workload", "Version#", "SHA-256 of its files", "Commit of the folder"),
        rows=tuple(programs),
        foot="Two results compare only if the workload's version is the same.",
    )


def _checks(findings: Findings) -> Table:
    cases = [case[0] for case in findings.by_case().values()]
    names = Names(cases)
    rows: list[tuple[Cell, ...]] = []
    shown = spread(cases, TABLE_ROWS)
    for summary in shown:
        ok = [row for row in summary.rows if row.status == "ok"]
        timing = [part(row, "timing") for row in ok]
        errors = [t.get("parity_error") for t in timing]
        numbers = [e for e in errors if isinstance(e, (int, float)) and 0 <= e < 1e30]
        allowed = next((t.get("parity_tolerance") for t in timing), None)
        rows.append(
            (
                f"{names.label(summary)}",
                run_name(summary.first.run_id),
                str(len({row.repetition for row in ok})),
                str(len({(case_key(row), row.repetition) for row in summary.rows}) - len(ok)),
                ", ".join(str(t.get("passes", quantity.MISSING)) for t in timing[:8]),
                ", ".join(dict.fromkeys(str(t.get("steadiness")) for t in timing)),
                f"{quantity.number(max(numbers))} of {allowed}{_check(timing)}"
                if numbers
                else quantity.MISSING,
            )
        )
    return Table(
        folded=f"How each case was timed and checked: {len(rows)} of {plural(len(cases), 'case')}",
        columns=columns(
            "Case", "Run", "Repetitions#", "Failed#", "Timed passes", "Speed", "Error of allowed#"
        ),
        rows=tuple(rows),
        foot=(
            "Each repetition warms up until its times settle, then is timed between waits for the"
            " device. What it computes is then held to several checks against float32 and itself:"
            " shown is the one nearest to its limit. A larger error makes the repetition invalid."
        ),
    )


def _check(timing: list[Mapping[str, Any]]) -> str:
    """The name of the check that was nearest to its limit, where rows have several."""
    for entry in timing:
        checks, worst = entry.get("parity"), entry.get("parity_error")
        if isinstance(checks, dict) and len(checks) > 1:
            for name, check in checks.items():
                if isinstance(check, dict) and check.get("error") == worst:
                    return f" ({short(str(name), 32)})"
    return ""

"""Rows for the gate by selector: run ids, files, commits, git revisions, or the last release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results import git
from tpubench.results.calibration import results_of
from tpubench.results.duet import is_baseline, is_duet, partner_of
from tpubench.results.gate import duet as gate_duet
from tpubench.results.gate import rows as gate_rows
from tpubench.results.gate.duet import gate_stored
from tpubench.results.gate.policy import Rules, check
from tpubench.results.gate.report import GateReport
from tpubench.results.listing import Unreadable, naming
from tpubench.results.row import Row
from tpubench.results.rows import rows_of
from tpubench.results.select import select
from tpubench.results.store import files, iter_rows

RELEASE = "release"
_RELEASE_TAGS = "v[0-9]*"


def gate_selected(
    store: Path,
    baseline: str | None,
    candidate: str,
    rules: Rules,
    confirm: str | None = None,
) -> tuple[GateReport, list[Unreadable]]:
    """The verdict on stored rows, and files that could not be read.

    Without a ``baseline``: the last release, else the first run of the same cases; and no verdict
    where there is none before. Several ``column=value`` of a side are joined by commas. With
    ``confirm``, an alarm stands only if those later rows raise it too. UsageError when a side picks
    nothing.
    """
    new, unreadable = _rows(store, candidate)
    with naming(unreadable):
        check(rules, {row.metric for row in new})
        if baseline is None or baseline == RELEASE:
            before = _before(store, new, released=baseline == RELEASE)
            unreadable += before.unreadable
            old, note = before.rows, before.note
            if is_duet(new) and is_baseline(new[0]):
                old, new = new, old
        else:
            old, bad = _rows(store, baseline)
            unreadable[:0], note = bad, None
        if not old or not new:
            report = GateReport(title="gate", findings=[], notes=[note or ""], first=True)
            return report, unreadable
        later: list[Row] = []
        if confirm:
            later, bad = _rows(store, confirm)
            unreadable += bad
        if is_duet(old) and is_duet(new):
            report = gate_stored(old, new, rules)
        else:
            report = gate_rows.gate(old, new, rules)
            if later:
                report = _confirmed(report, gate_rows.gate(old, later, rules))
    notes = [*([] if note is None else [note]), *report.notes]
    return replace(report, notes=notes), unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What a run is held against, in words, and files that could not be read."""

    rows: list[Row]
    note: str
    unreadable: list[Unreadable]


def _before(store: Path, new: Sequence[Row], *, released: bool) -> _Before:
    """The rows that come before ``new``: the documented rule of docs/gate.md.

    UsageError where only a release will do and none has rows.
    """
    scanned = rows_of(store, files(store))
    mine = {row.run_id for row in new}
    if is_duet(new):
        scanned.keep("run_id", list({partner_of(row) for row in new} - mine))
        rows = list(iter_rows(scanned.read()))
        return _Before(rows=rows, note="baseline: the other side", unreadable=scanned.unreadable)
    scanned.keep("evidence", [new[0].evidence])
    runs = [
        row for row in iter_rows(scanned.read()) if row.run_id not in mine and not is_duet([row])
    ]
    for tag, sha in _releases(new):
        rows = [row for row in runs if row.git_sha == sha]
        if rows:
            note = f"baseline: release {tag}, commit {sha[:12]}"
            return _Before(rows=rows, note=note, unreadable=scanned.unreadable)
    if released:
        with naming(scanned.unreadable):
            raise UsageError(
                "no release (tag v*) that the candidate descends from has other rows in the store"
            )
    cases = {_case(row) for row in results_of(new)}
    first = min((row.run_id for row in runs if _case(row) in cases), default=None)
    if first is None:
        note = (
            f"run {max(mine)} is the first of its cases in {store}: later ones are held against it"
        )
        return _Before(rows=[], note=note, unreadable=scanned.unreadable)
    rows = [row for row in runs if row.run_id == first]
    note = f"baseline: run {first}, the first of these cases (no release has rows here)"
    return _Before(rows=rows, note=note, unreadable=scanned.unreadable)


def _case(row: Row) -> tuple[str, str, str]:
    return row.workload, row.preset, row.params


def _releases(new: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Release tags that the candidate descends from, and their commits, the newest first."""
    for head in (new[0].git_sha, "HEAD"):
        query = ("tag", "--list", _RELEASE_TAGS, "--sort=-version:refname", "--merged")
        tags = git.ask(*query, head) if head is not None else None
        if tags is None:  # no such commit here
            continue
        for tag in tags.splitlines():
            sha = git.ask("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
            if sha is not None:
                yield tag, sha
        return


def _confirmed(first: GateReport, second: GateReport) -> GateReport:
    later = {(f.case, f.metric): f for f in second.findings}
    findings = []
    for finding in first.findings:
        again = later.get((finding.case, finding.metric))
        if finding.state == "regressed" and again is not None:
            finding = gate_duet.confirmed(finding, again)
        findings.append(finding)
    return GateReport(title=first.title, findings=findings, notes=first.notes)


def _rows(store: Path, selector: str) -> tuple[list[Row], list[Unreadable]]:
    sources = [text.strip() for text in selector.split(",")]
    if not all(sources):
        raise UsageError(f"{selector!r} is an empty selector")
    try:
        scan = select(store, sources)
    except UsageError:
        commits = [commit for text in sources if (commit := _commit(text)) is not None]
        if len(commits) != len([text for text in sources if "=" not in text]):
            raise
        pairs = [text for text in sources if "=" in text]
        scan = select(store, [*commits, *pairs])
    rows = list(iter_rows(scan.table))
    if not rows:
        with naming(scan.unreadable):
            raise UsageError(f"no rows match {selector!r}")
    return rows, scan.unreadable


def _commit(text: str) -> str | None:
    """The commit that a git revision names here."""
    if "=" in text:
        return None
    return git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")

"""Rows for the gate by selector: run ids, files, commits, git revisions, or the last release."""

from __future__ import annotations

from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results import gate_duet, gate_rows, git
from tpubench.results.duet import is_duet
from tpubench.results.gate_duet import gate_stored
from tpubench.results.gate_policy import Rules
from tpubench.results.gate_report import GateReport
from tpubench.results.row import Row
from tpubench.results.select import select
from tpubench.results.store import Unreadable, files, iter_rows, scan

RELEASE = "release"
_RELEASE_TAGS = "v[0-9]*"


def gate_selected(
    store: Path, baseline: str, candidate: str, rules: Rules, confirm: str | None = None
) -> tuple[GateReport, list[Unreadable]]:
    """The verdict on stored rows, and files that could not be read.

    Several ``column=value`` of a side are joined by commas. With ``confirm``, an alarm stands only
    if those later rows raise it too. UsageError when a side picks nothing.
    """
    sides, unreadable = [], []
    for selector in (baseline, candidate, *([confirm] if confirm else [])):
        rows, bad = _rows(store, selector)
        sides.append(rows)
        unreadable += bad
    if is_duet(sides[0]) and is_duet(sides[1]):
        return gate_stored(sides[0], sides[1], rules), unreadable
    found = gate_rows.gate(sides[0], sides[1], rules)
    if confirm:
        found = _confirmed(found, gate_rows.gate(sides[0], sides[2], rules))
    return found, unreadable


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
        found = select(store, sources)
    except UsageError:
        commits = [commit for text in sources if (commit := _commit(store, text)) is not None]
        if len(commits) != len([text for text in sources if "=" not in text]):
            raise
        pairs = [text for text in sources if "=" in text]
        found = select(store, [*commits, *pairs])
    rows = list(iter_rows(found.table))
    if not rows:
        for bad in found.unreadable:
            raise bad.error
        raise UsageError(f"no rows match {selector!r}")
    return rows, found.unreadable


def _commit(store: Path, text: str) -> str | None:
    """The commit that a git revision names here; ``release``: the newest tagged one with rows."""
    if "=" in text:
        return None
    if text != RELEASE:
        return git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    tags = git.ask("tag", "--list", _RELEASE_TAGS, "--merged", "HEAD", "--sort=-version:refname")
    stored = {sha for sha in scan(files(store)).table["git_sha"].to_pylist() if sha}
    for tag in (tags or "").splitlines():
        sha = git.ask("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
        if sha in stored:
            return sha
    raise UsageError("no release (tag v*) that this checkout descends from has rows in the store")

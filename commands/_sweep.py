"""What ``tpubench sweep`` does with its options and its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tpubench.errors import UsageError


def sweep(
    spec: str,
    *,
    resume: bool,
    dry_run: bool,
    ids: Sequence[str],
    usd_per_chip_hour: float | None,
    store: Path | None,
    as_json: bool,
) -> int:
    """Survey, run and print; the exit code. UsageError before anything runs, where nothing can."""
    from tpubench.reports import progress
    from tpubench.reports.terminal import sweep as terminal_sweep
    from tpubench.results.store import default_store
    from tpubench.results.sweep_report import SweepReport
    from tpubench.suite import processes, sweep, sweep_spec

    if usd_per_chip_hour is not None and not 0 < usd_per_chip_hour < math.inf:
        raise UsageError(f"--usd-per-chip-hour {usd_per_chip_hour:g} is no price")
    wanted = sweep.chosen(sweep_spec.read(spec), ids)
    priced = [
        replace(cell, usd_per_chip_hour=cell.usd_per_chip_hour or usd_per_chip_hour)
        for cell in wanted.cells
    ]
    wanted = replace(wanted, cells=tuple(priced))
    where = store or wanted.store or default_store()
    entries = sweep.survey(wanted, where, anew=not resume)
    if dry_run:
        report = SweepReport(name=wanted.name, store=where, entries=entries)
        terminal_sweep.show(report, as_json=as_json, planned=True)
        return 0
    processes.adopt_orphans()
    with progress.observer(show=not as_json) as observe:
        watch = terminal_sweep.watcher(show=not as_json)
        report = sweep.execute(wanted, entries, where, observe, watch)
    terminal_sweep.show(report, as_json=as_json, planned=False)
    return report.exit_code

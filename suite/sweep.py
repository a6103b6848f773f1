"""Runs the cells of a sweep, and knows which are done, cannot fit or belong on another machine.

What is done is read from the store, by what was run and not by a list of its own: cells may be run
by hand, by several machines at once, or in any order. A cell that fails stops no other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tpubench.devices.list_price import device_price
from tpubench.devices.sheets import GOOGLE, NVIDIA, devices
from tpubench.errors import RunFailedError, TpubenchError, UsageError, interruption
from tpubench.results import labels, spent
from tpubench.results.events import Observer
from tpubench.results.fingerprint import canonical_json
from tpubench.results.listing import files
from tpubench.results.row import Row
from tpubench.results.store import iter_rows, scan
from tpubench.results.sweep_report import Basis, CellReport, SweepReport, Watch
from tpubench.suite import registry, run
from tpubench.suite.backend import Backend
from tpubench.suite.sweep_spec import Cell, Sweep
from tpubench.suite.workload import Case

AROUND_S = 1.0
"""Least seconds of a repetition outside its windows: an interpreter that imports torch."""


def survey(sweep: Sweep, store: Path, *, anew: bool = False) -> list[CellReport]:
    """Every cell with its state. anew: as if nothing had been run yet.

    UsageError for a cell that no machine could run: an unknown workload, preset or parameter.
    """
    known = _StoredRuns(rows=_rows(store))
    return [_entry(cell, store, known, anew=anew) for cell in sweep.cells]


def execute(
    sweep: Sweep,
    entries: Sequence[CellReport],
    store: Path,
    observe: Observer,
    watch: Watch,
) -> SweepReport:
    """Run what is missing, in order; each cell is stored as it goes, and tagged with the sweep."""
    cells = {cell.id: cell for cell in sweep.cells}
    todo = [entry for entry in entries if entry.state == "missing"]
    cut_short = None
    for number, entry in enumerate(todo, start=1):
        watch(entry, number, len(todo), _left(todo[number - 1 :]))
        began = time.monotonic()
        try:
            plan = run.make_plan(cells[entry.id].request(entry.missing))
            report = run.execute(plan, store, observe)
        except KeyboardInterrupt as error:
            cut_short = interruption(error)
        except TpubenchError as error:
            entry.state, entry.reason = "failed", str(error)
        else:
            entry.run_id = report.run_id
            cut_short = report.cut_short
            entry.state = "ran" if not report.failed else "failed"
            bad = (row for row in report.rows if row.status not in {"ok", "skipped"})
            entry.reason = next((row.reason for row in bad), None)
            if report.rows:
                labels.say(store, report.run_id, tags=[sweep.name])
        entry.took_s = time.monotonic() - began
        if cut_short:
            entry.state = "not begun" if entry.run_id is None else "failed"
            entry.reason = entry.reason or cut_short
        watch(entry, number, len(todo), _left(todo[number:]))
        if cut_short:
            break
    for entry in todo:
        if entry.state == "missing":
            entry.state = "not begun"
    return SweepReport(name=sweep.name, store=store, entries=entries, cut_short=cut_short)


def chosen(sweep: Sweep, ids: Sequence[str]) -> Sweep:
    """The cells with these ids alone; UsageError for an id that is none of them."""
    if not ids:
        return sweep
    unknown = sorted(set(ids) - {cell.id for cell in sweep.cells})
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no cell of {sweep.name}: --dry-run lists them")
    return replace(sweep, cells=tuple(cell for cell in sweep.cells if cell.id in ids))


def _left(entries: Sequence[CellReport]) -> float | None:
    known = [entry.expected_s for entry in entries]
    return None if None in known or not known else sum(s for s in known if s is not None)


def _rows(store: Path) -> list[Row]:
    listing = files(store)
    return list(iter_rows(scan(listing).table)) if listing else []


Key = tuple[str, int, str, str, str, int, str]
"""Workload, its version, preset, parameters, backend, chips, device."""


@dataclass(slots=True, kw_only=True)
class _StoredRuns:
    """What a store says: repetitions that are ok and seconds that repetitions took, by case."""

    rows: Sequence[Row]
    good: dict[Key, dict[str, set[tuple[str, int]]]] = field(default_factory=dict)
    """By case and then by compile mode."""
    took_s: dict[Key, list[float]] = field(default_factory=dict)
    probes: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[tuple[str, Key, int]] = set()
        for row in self.rows:
            key = (
                row.workload, row.workload_version, row.preset, row.params, row.backend,
                row.chips, row.device,
            )  # fmt: skip
            repetition = row.run_id, key, row.repetition
            if row.evidence not in {"measured", "modelled"} or repetition in seen:
                continue
            seen.add(repetition)
            if row.status == "ok":
                mode = _mode(row)
                self.good.setdefault(key, {}).setdefault(mode, set()).add(
                    (row.run_id, row.repetition)
                )
            seconds = sum(spent.by_phase([row]).values())
            if seconds:
                self.took_s.setdefault(key, []).append(seconds)

    def repetitions(self, cell: Cell, case: Case, backend: str) -> int:
        params = canonical_json(dict(case.params))
        total: set[tuple[str, int]] = set()
        for key, by_mode in self.good.items():
            same = key[:5] == (
                case.workload, case.workload_version, case.preset, params, backend,
            )  # fmt: skip
            if same and key[5] == cell.chips and cell.device in {None, key[6]}:
                for mode, repetitions in by_mode.items():
                    if cell.compile_mode in {None, mode}:
                        total |= repetitions
        return len(total)

    def seconds(self, cell: Cell, case: Case, backend: str) -> tuple[float, Basis] | None:
        params = canonical_json(dict(case.params))
        own: list[float] = []
        like: list[float] = []
        for key, took in self.took_s.items():
            if (key[0], key[2], key[4], key[5]) == (
                case.workload,
                case.preset,
                backend,
                cell.chips,
            ):
                like += took
                own += took if key[3] == params else []
        if own:
            return sum(own) / len(own), "its own"
        return (sum(like) / len(like), "cells like it") if like else None


def _mode(row: Row) -> str:
    environment = json.loads(row.environment)
    match: Mapping[str, object] = environment.get("fingerprint") or {}
    return str(match.get("compile_mode"))


def _entry(cell: Cell, store: Path, known: _StoredRuns, *, anew: bool) -> CellReport:
    entry = CellReport(
        id=cell.id,
        label=cell.label(),
        command=cell.command(store),
        chips=cell.chips,
        usd_per_chip_hour=cell.usd_per_chip_hour,
        state="missing",
        missing=cell.repeats,
    )
    if entry.usd_per_chip_hour is None:
        listed = device_price(cell.device or "")
        if listed is not None:
            entry.usd_per_chip_hour, entry.at_list_price = listed.price.usd_per_chip_hour, True
    where = _where(cell, known)
    if isinstance(where, str):
        entry.state, entry.reason = "elsewhere", where
        backend = _backend_there(cell)
    else:
        backend = where
    if backend is None:
        return entry
    cases = run.cases_of(registry.workload(cell.workload), backend, cell.request(cell.repeats))
    if not anew:
        done = min(known.repetitions(cell, case, backend.name) for case in cases)
        entry.missing = max(0, cell.repeats - done)
        if not entry.missing:
            entry.state, entry.reason = "done", None
            return entry
    entry.expected_s, entry.basis = _expected(cell, cases, backend, entry.missing, known)
    needs = [registry.workload(case.workload).memory_bytes(case) for case in cases]
    if needs and None not in needs:
        entry.needed_bytes = -(-max(need or 0 for need in needs) // cell.chips)
    here = entry.state == "missing"
    free = _capacity(cell, backend) if here or cell.device is not None else None
    if free is not None and entry.needed_bytes is not None and entry.needed_bytes > free:
        entry.state = "refused"
        entry.reason = (
            f"does not fit: needs at least {entry.needed_bytes:,} bytes on each chip,"
            f" {free:,} are there"
        )
    return entry


def _where(cell: Cell, known: _StoredRuns) -> Backend | str:
    """The backend of a cell, or why this machine cannot run it."""
    try:
        backend, _, _ = run.choose_backend(cell.backend, cell.python)
    except RunFailedError as error:
        return str(error)
    present = _device_here(backend, known)
    if cell.device is not None and present is not None and present != cell.device:
        return f"wants {cell.device}; this machine has {present}"
    return backend


def _backend_there(cell: Cell) -> Backend | None:
    """The backend that a machine with the cell's device would take; None where that is open."""
    if cell.backend != "auto":
        return registry.backend(cell.backend)
    sheet = devices().get(cell.device or "")
    name = {GOOGLE: "tpu", NVIDIA: "cuda"}.get(sheet.vendor) if sheet else None
    return None if name is None else registry.backend(name)


def _device_here(backend: Backend, known: _StoredRuns) -> str | None:
    """The device that the backend would use, asked once."""
    if backend.name not in known.probes:
        known.probes[backend.name] = backend.device_present()
    return known.probes[backend.name]


def _capacity(cell: Cell, backend: Backend) -> int | None:
    """Bytes that a program may have on each chip; None where that is not known beforehand."""
    sheet = devices().get(cell.device or "")
    if sheet is not None:
        return int(sheet.hbm_bytes)
    free = None if backend.accelerator else backend.free_memory_bytes()
    return None if free is None else free // cell.chips  # the ranks of a CPU share its memory


def _expected(
    cell: Cell, cases: Sequence[Case], backend: Backend, repeats: int, known: _StoredRuns
) -> tuple[float, Basis]:
    pace = backend.pace
    least = AROUND_S / len(cases) + pace.warm_up_s + pace.window_s
    total, basis = 0.0, "its own"
    order: tuple[Basis, ...] = ("its own", "cells like it", "at least")
    for case in cases:
        seconds, how = known.seconds(cell, case, backend.name) or (least, "at least")
        total += seconds
        basis = max(basis, how, key=order.index)
    return total * repeats, basis  # type: ignore[return-value]

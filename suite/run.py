"""One run: its plan, its repetitions one after another, and its facts as they are obtained.

    plan = make_plan(request)
    for finished in execute(plan, store):
        ...

Each repetition is stored before the next begins, so an interruption loses only the one in flight.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tpubench.costs.prices import Price
from tpubench.results import fingerprint, store
from tpubench.results.errors import RunFailedError, UsageError
from tpubench.results.row import Row
from tpubench.suite import facts, registry
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job, Outcome
from tpubench.suite.launch import OnPhase, run_child
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Weights, Workload

DEFAULT_REPEATS = 3
DEFAULT_TIMEOUT_S = 900.0
UNASKED_BUDGET_S = 75.0
"""With no ``--repeats``: no further round is begun that would end later than this."""
LIMIT_PACE = Pace(warm_up_s=2.0, window_s=1.0)
_LIMIT_PRESETS = {"hbm": "read", "gemm": "square-2048"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for, as typed. None means: choose, and say why."""

    workload: str
    backend: str = "auto"
    preset: str | None = None
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repeats: int | None = None
    weights: Path | None = None
    prompt: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    python: str | None = None
    compile_mode: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    chips: int = 1
    price: Price | None = None
    seed: int | None = None
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Exactly what will run. ``notes`` say what was chosen on the user's behalf, and why."""

    run_id: str
    workload: Workload
    backend: Backend
    compile_mode: str
    cases: list[Case]
    limits: list[Case]
    """Cases of other workloads that measure this machine's own peaks first."""
    repeats: int
    repeats_asked: bool
    weights: Weights
    python: str | None
    timeout_s: float
    price: Price | None
    pace: Pace
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One repetition that ended, well or not, and the file that records it."""

    job: Job
    outcome: Outcome
    rows: list[Row]
    path: Path
    log: str


def choose_backend(name: str) -> tuple[Backend, str | None]:
    """The backend asked for, or the best one present and a note saying so.

    RunFailedError when it cannot run here, with the command that would change that.
    """
    if name != "auto":
        chosen = registry.backend(name)
        found = chosen.probe()
        if not found.available:
            raise RunFailedError(f"backend {name} cannot run here: {found.detail}{_fix(found.fix)}")
        return chosen, None
    absent = []
    for chosen in registry.backends().values():
        if chosen.rank < 0:
            continue
        found = chosen.probe()
        if found.available:
            why = f" ({'; '.join(absent)})" if absent else ""
            return chosen, f"backend {chosen.name}: the best one present{why}"
        absent.append(f"no {chosen.name}: {found.detail}{_fix(found.fix)}")
    raise RunFailedError(f"no backend can run here: {'; '.join(absent)}")


def make_plan(request: Request) -> Plan:
    """Everything decided before anything runs. UsageError or RunFailedError, never a surprise."""
    workload = registry.workload(request.workload)
    notes: list[str] = []
    if request.repeats is not None and request.repeats < 1:
        raise UsageError(f"--repeats {request.repeats} is below 1")
    if not 0 < request.timeout_s < 1e7:
        raise UsageError(f"--timeout {request.timeout_s:g} is not a positive number of seconds")
    if request.chips != 1:
        raise UsageError(f"--chips {request.chips}: this version runs on one chip")
    backend, note = choose_backend(request.backend)
    notes += [note] if note else []
    mode = request.compile_mode or backend.compile_modes[0]
    if mode not in backend.compile_modes:
        raise UsageError(
            f"backend {backend.name} has no compile mode {mode!r};"
            f" it has {', '.join(backend.compile_modes)}"
        )
    preset = request.preset
    if preset is None and request.weights is None:
        preset, why = workload.default_preset(backend.accelerator)
        notes.append(f"preset {preset}: {why}")
    weights = _weights(workload, request)
    overrides = dict(request.overrides)
    if request.seed is not None:
        overrides["seed"] = [str(request.seed)]
    if weights.prompt_ids is not None:
        overrides = {"batch": ["1"], "output_len": ["64"]} | overrides
    shape_preset = preset or workload.default_preset(backend.accelerator)[0]
    cases = [
        workload.prepare(case, weights)
        for case in workload.cases(shape_preset, overrides, accelerator=backend.accelerator)
    ]
    unique = list({case.key: case for case in cases}.values())
    started = dt.datetime.now(dt.UTC)
    return Plan(
        run_id=f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        workload=workload,
        backend=backend,
        compile_mode=mode,
        cases=unique,
        limits=_limit_cases(backend, workload, unique),
        repeats=request.repeats or DEFAULT_REPEATS,
        repeats_asked=request.repeats is not None,
        weights=weights,
        python=request.python,
        timeout_s=request.timeout_s,
        price=request.price,
        pace=request.pace,
        notes=notes,
    )


def execute(
    plan: Plan, where: Path, *, on_start: Callable[[Job], None], on_phase: OnPhase
) -> Iterator[Finished]:
    """Run the plan, storing and yielding each repetition as it ends.

    Rounds go through all cases before any case is repeated, so that the machine's moods spread
    over all of them. With no number of repetitions asked for, rounds stop when the next one would
    not end within the budget.
    """
    store.prepare(where)
    git = fingerprint.git_state(Path.cwd())
    measured: list[Row] = []
    began = time.monotonic()

    def one(case: Case, repetition: int, pace: Pace) -> Finished:
        workload = registry.workload(case.workload)
        own = workload is plan.workload
        job = Job(
            backend=plan.backend.name,
            compile_mode=plan.compile_mode,
            case=case,
            weights=plan.weights if own else Weights(),
            pace=pace,
            repetition=repetition,
        )
        on_start(job)
        context = facts.Context(
            run_id=plan.run_id,
            started_at=dt.datetime.now(dt.UTC),
            price=plan.price if own else None,
            git=git,
        )
        ended = run_child(job, python=plan.python, timeout_s=plan.timeout_s, on_phase=on_phase)
        device = ended.outcome.device
        peaks = (facts.data_sheet(device) if device else None) or measured_peaks(measured)
        found = facts.rows(context, plan.backend, workload, job, ended.outcome, peaks)
        path = store.write(where, f"{case.workload}-{case.key}-{repetition:03d}", found)
        return Finished(job=job, outcome=ended.outcome, rows=found, path=path, log=ended.log)

    for case in plan.limits:
        finished = one(case, 0, LIMIT_PACE)
        measured += finished.rows
        yield finished
    for repetition in range(plan.repeats):
        round_began = time.monotonic()
        for case in plan.cases:
            yield one(case, repetition, plan.pace)
        now = time.monotonic()
        if not plan.repeats_asked and now - began + (now - round_began) > UNASKED_BUDGET_S:
            return


def measured_peaks(rows: Sequence[Row]) -> facts.Peaks | None:
    """The highest rates that ``gemm`` and ``hbm`` reached in this run; None before they ran."""
    flop_s: dict[str, float] = {}
    bytes_s: float | None = None
    for row in rows:
        if row.status != "ok" or not row.samples:
            continue
        best = max(row.samples)
        if row.metric == "flop_s":
            flop_s[row.dtype] = max(best, flop_s.get(row.dtype, 0.0))
        elif row.metric == "bandwidth_bytes_s":
            bytes_s = max(best, bytes_s or 0.0)
    if not flop_s and bytes_s is None:
        return None
    source = "measured by gemm and hbm in this run"
    return facts.Peaks(flop_s=flop_s, bytes_s=bytes_s, source=source, measured=True)


def _limit_cases(backend: Backend, workload: Workload, cases: Sequence[Case]) -> list[Case]:
    if workload.name in backend.limits:
        return []
    dtypes = sorted({case.dtype for case in cases})
    found = []
    for name in backend.limits:
        limit = registry.workload(name)
        overrides = {} if name == "hbm" else {"dtype": dtypes}
        found += limit.cases(_LIMIT_PRESETS[name], overrides)
    return found


def _weights(workload: Workload, request: Request) -> Weights:
    if request.prompt is not None and request.prompt_ids is not None:
        raise UsageError("give --prompt or --prompt-ids, not both")
    weights = Weights(path=request.weights, prompt_ids=request.prompt_ids)
    if request.prompt is not None:
        return replace(weights, prompt_ids=workload.encode(request.prompt, weights))
    return weights


def _fix(command: str | None) -> str:
    return f" (try: {command})" if command else ""

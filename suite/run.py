"""One run: its plan, its rounds one after another, and its facts as they are obtained.

    report = execute(make_plan(request), store, observe=print)

A round is one child process that runs every case once, in an order of its own. Each case is stored
as it ends, so an interruption loses only the one in flight.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpubench.devices.prices import Price, today
from tpubench.errors import RunFailedError, UsageError, interruption
from tpubench.results import fingerprint, store
from tpubench.results.events import Observer, RunReport
from tpubench.results.figure import new_run_id
from tpubench.results.sealing import manifest
from tpubench.suite import calibration, compile_cache, config, ranks, registry, variables
from tpubench.suite.backend import Backend
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.request import Request
from tpubench.suite.rounds import Rounds
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Weights, Workload

DEFAULT_REPEATS = 3
UNASKED_BUDGET_S = 180.0
"""With no ``--repeats``: no further round is begun that would end later than this. Enough for
three, and so for an interval, of the main job on two cores whose compile cache is empty (90 s for
the first, 30 s for each other)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
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
    chips: int
    weights: Weights
    interpreter: Interpreter
    timeout_s: float
    price: Price | None
    pace: Pace
    notes: list[str]

    @property
    def python(self) -> str | None:
        """Interpreter of the children; None for this one."""
        return self.interpreter.path

    def describe(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "run_id": self.run_id,
            "workload": self.workload.name,
            "workload_version": self.workload.version,
            "backend": self.backend.name,
            "compile_mode": self.compile_mode,
            "python": self.python,
            "repeats": self.repeats,
            "chips": self.chips,
            "timeout_s": self.timeout_s,
            "price": None if self.price is None else self.price.dated(today()),
            "notes": self.notes,
            "limits": [_describe(registry.workload(case.workload), case) for case in self.limits],
            "cases": [_describe(self.workload, case) for case in self.cases],
        }


def choose_backend(name: str, python: str | None = None) -> tuple[Backend, Interpreter, str | None]:
    """The backend asked for, or the best one present and a note saying so; and its interpreter.

    That is ``python``, else what the configuration file says, else this one. RunFailedError when
    the backend cannot run there, with the command that would change that.
    """
    configured = config.interpreters() if python is None else {}

    def interpreter(backend: str) -> Interpreter:
        return configured.get(backend, Interpreter(path=python))

    if name != "auto":
        chosen = registry.backend(name)
        probe = registry.probe(chosen, interpreter(name))
        if not probe.available:
            fix = _fix(probe.fix, interpreter(name))
            raise RunFailedError(f"backend {name} cannot run here: {probe.detail}{fix}")
        return chosen, interpreter(name), None
    absent: list[str] = []
    for chosen in registry.backends().values():
        if chosen.rank < 0:
            continue
        probe = registry.probe(chosen, interpreter(chosen.name))
        if probe.available:
            why = f" ({'; '.join(absent)})" if absent else ""
            note = f"backend {chosen.name}: the best one present{why}"
            return chosen, interpreter(chosen.name), note
        fix = _fix(probe.fix, interpreter(chosen.name))
        absent.append(f"no {chosen.name}: {probe.detail}{fix}")
    raise RunFailedError(f"no backend can run here: {'; '.join(absent)}")


def make_plan(request: Request) -> RunPlan:
    """Everything decided before anything runs. UsageError or RunFailedError, never a surprise."""
    workload = registry.workload(request.workload)
    notes: list[str] = []
    backend, interpreter, note = choose_backend(request.backend, request.python)
    notes += [text for text in (note, request.python is None and config.passed_over()) if text]
    mode, note = backend.default_mode(trains=workload.trains)
    if request.compile_mode is not None:
        mode, note = request.compile_mode, None
    notes += [note] if note else []
    if mode not in backend.compile_modes:
        raise UsageError(
            f"backend {backend.name} has no compile mode {mode!r};"
            f" it has {', '.join(backend.compile_modes)}"
        )
    preset = request.preset
    if preset is None and request.weights is None:
        preset, why = workload.default_preset(backend.accelerator)
        notes.append(f"preset {preset}: {why}")
    notes += [text for text in (variables.in_words(), compile_cache.absence()) if text]
    _refuse_contradictions(workload, request)
    if request.chips > 1:
        _refuse_many_chips(workload, backend, request.chips)
        _refuse_more_than_visible(backend, request.chips)
    weights = _weights(workload, request)
    unique = cases_of(workload, backend, request)
    for case in unique:
        _describe(workload, case)  # what cannot say its work fails before its first process
    started = dt.datetime.now(dt.UTC)
    return RunPlan(
        run_id=new_run_id(started),
        workload=workload,
        backend=backend,
        compile_mode=mode,
        cases=unique,
        # What one process reaches is no limit of several.
        limits=calibration.cases(backend, workload, unique) if request.chips == 1 else [],
        repeats=request.repeats or (DEFAULT_REPEATS if weights.prompt_ids is None else 1),
        # Ranks that torchrun started must all run the same repetitions.
        repeats_asked=request.repeats is not None or ranks.from_environment() != ranks.ALONE,
        chips=request.chips,
        weights=weights,
        interpreter=interpreter,
        timeout_s=request.timeout_s,
        price=request.price,
        pace=request.pace or backend.pace,
        notes=notes,
    )


def cases_of(workload: Workload, backend: Backend, request: Request) -> list[Case]:
    """The cases that a request means, each once; UsageError where its parameters make no sense."""
    weights = _weights(workload, request)
    overrides = dict(request.overrides)
    if request.seed is not None:
        overrides["seed"] = [str(request.seed)]
    if weights.prompt_ids is not None:
        overrides = {"batch": ["1"], "output_len": ["64"]} | overrides
    preset = request.preset or workload.default_preset(backend.accelerator)[0]
    cases = [
        workload.on_devices(workload.prepare(case, weights), backend.devices(request.chips))
        for case in workload.cases(preset, overrides, accelerator=backend.accelerator)
    ]
    return list({case.key: case for case in cases}.values())


def execute(plan: RunPlan, where: Path, observe: Observer) -> RunReport:
    """Run the plan, storing each case as it ends.

    Rounds go through all cases before any case is repeated, so that the machine's moods spread
    over all of them. With no number of repetitions asked for, rounds stop when the next one would
    not end within the budget. Cut short by an interruption or a full disk, it reports what had
    ended.
    """
    store.prepare(where)
    done = Rounds(
        plan=plan,
        where=where,
        git=fingerprint.git_state(Path.cwd()),
        observe=observe,
        budget_s=UNASKED_BUDGET_S,
    )
    cut_short = None
    try:
        for repetition in range(plan.repeats):
            done.run(repetition)
            if not plan.repeats_asked and not done.another_fits():
                break
    except KeyboardInterrupt as error:
        kept = f"{done.stored} finished repetitions are kept in {where / plan.run_id}"
        cut_short = f"{interruption(error)}: {kept if done.stored else 'none had ended'}"
    except store.NotStoredError as error:
        cut_short = str(error)
    finally:
        manifest.close(done.files)
        compile_cache.prune()
    return RunReport(
        run_id=plan.run_id,
        store=where,
        rows=done.rows,
        notes=[*plan.notes, *done.notes],
        failed=done.failed,
        generated=done.generated,
        store_s=done.store_s,
        cut_short=cut_short,
    )


def _refuse_contradictions(workload: Workload, request: Request) -> None:
    """UsageError for settings that another one would silently overrule."""
    prompted = request.prompt is not None or request.prompt_ids is not None
    if not workload.takes_prompt and (prompted or request.weights is not None):
        raise UsageError(f"{workload.name} has no weights: drop --weights and --prompt")
    if request.weights is not None and request.preset is not None:
        raise UsageError("give --weights or --preset, not both: a checkpoint has its own shape")
    if prompted and "input_len" in request.overrides:
        raise UsageError("drop --set input_len: the prompt decides it")
    if prompted and list(request.overrides.get("batch", ["1"])) != ["1"]:
        raise UsageError("drop --set batch: a prompt runs at batch 1")
    if request.seed is not None and "seed" in request.overrides:
        raise UsageError("give --seed or --set seed, not both")


def _refuse_many_chips(workload: Workload, backend: Backend, chips: int) -> None:
    if workload.parallelism is None:
        raise UsageError(f"--chips {chips}: {workload.name} runs on one chip")
    if backend.collectives is None and backend.processes(2) > 1:
        raise UsageError(f"--chips {chips}: backend {backend.name} runs on one chip")


def _refuse_more_than_visible(backend: Backend, chips: int) -> None:
    """RunFailedError when this machine's share of the chips is more than a child may see."""
    here, visible = math.ceil(chips / ranks.from_environment().hosts), backend.visible_chips()
    if visible is not None and here > visible:
        raise RunFailedError(
            f"--chips {chips}: {visible} chip{'s' * (visible != 1)} of {backend.name} can be seen"
            f" here; give --chips {visible}, or make more visible"
        )


def _weights(workload: Workload, request: Request) -> Weights:
    weights = Weights(path=request.weights, prompt_ids=request.prompt_ids)
    if request.prompt is not None:
        return replace(weights, prompt_ids=workload.encode(request.prompt, weights))
    return weights


def _describe(workload: Workload, case: Case) -> dict[str, Any]:
    work = workload.work(case)
    return {
        "workload": case.workload,
        "preset": case.preset,
        "params": dict(case.params),
        "items_per_pass": work.items,
        "unit": work.unit,
        "flops_per_pass": work.flops,
        "bytes_per_pass": work.bytes,
    }


def _fix(command: str | None, python: Interpreter) -> str:
    if command and python.path and command.startswith("pip "):
        command = f"{python.path} -m {command}"
    return f" (try: {command})" if command else ""

"""The rounds of a run: each runs every case once, and stores each case as it ends.

A round is one child process that takes the device once and runs its cases in an order of its own,
so that what a case inherits from the one before it differs from round to round. A case that has
failed once has a process to itself from then on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.results import fingerprint, store
from tpubench.results.calibration import as_calibration
from tpubench.results.events import Event, Generated, Observer
from tpubench.results.row import Row
from tpubench.suite import calibration, compile_cache, facts, ranks, references, registry
from tpubench.suite.job import Job, Outcome
from tpubench.suite.launch import Ended, run_jobs
from tpubench.suite.peaks import data_sheet
from tpubench.suite.time_left import TimeLeft
from tpubench.suite.workload import Case, Weights, Workload

if TYPE_CHECKING:
    from tpubench.suite.run import RunPlan


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Where a run stands, and how it takes its next step."""

    plan: RunPlan
    where: Path
    git: fingerprint.GitState
    observe: Observer
    budget_s: float
    """Seconds that a run with no number of rounds asked for may take."""
    rows: list[Row] = field(default_factory=list)
    stored: int = 0
    files: list[Path] = field(default_factory=list)
    failed: int = 0
    generated: Generated | None = None
    began: float = field(default_factory=time.monotonic)
    alone: set[str] = field(default_factory=set)
    """Keys of cases that have failed: each runs in a process of its own."""
    time_left: TimeLeft = field(init=False)
    store_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    memory: calibration.Memory | None = None
    best: list[calibration.Best] = field(default_factory=list)
    """The best rates of this machine, remembered or measured in the first round."""
    measuring: list[Case] = field(default_factory=list)
    """What measures them, where nothing of today is remembered."""

    def __post_init__(self) -> None:
        keys = [case.key for case in self.plan.cases]
        self.time_left = TimeLeft(keys=keys, repeats=self.plan.repeats)

    def run(self, repetition: int) -> None:
        """One round: first, before any other, the cases that measure this machine's peaks."""
        plan = self.plan
        together = [case for case in plan.cases if case.key not in self.alone]
        # Ranks that torchrun started are runs of their own, and must agree.
        seed = plan.run_id if ranks.from_environment() == ranks.ALONE else ""
        random.Random(f"{seed} {repetition}").shuffle(together)
        limits = self._calibration() if repetition == 0 else []
        self._process(repetition, [*limits, *together])
        for case in plan.cases:
            if case.key in self.alone and case not in together:
                self._process(repetition, [case])

    def _calibration(self) -> list[Case]:
        """The cases that measure this machine's peaks, but those measured earlier today."""
        plan = self.plan
        if not plan.limits:
            return []
        self.memory = calibration.Memory(plan.backend, plan.interpreter, plan.compile_mode)
        for case in plan.limits:
            known = self.memory.recall(case)
            self.best += known or []
            if known is None:
                self.measuring.append(case)
        if self.best:
            self.notes.append(
                f"peaks {self.memory.source}: once a day, kept in {self.memory.folder}"
            )
        return self.measuring

    def another_fits(self) -> bool:
        """Whether a further round would end within the budget."""
        spent_s = time.monotonic() - self.began
        return spent_s + self.time_left.round_s() <= self.budget_s

    def _process(self, repetition: int, cases: Sequence[Case]) -> None:
        """Run cases in one child process, or in as many as it takes."""
        plan = self.plan
        if not cases:
            return
        jobs = [self._job(case, repetition) for case in cases]
        position = 0
        event = self._start(jobs[0])

        def on_phase(phase: str, expected_s: float | None) -> None:
            if phase == "open":
                store.get_ready()  # the child takes its device meanwhile
            self.observe(
                replace(
                    event, kind="phase", phase=phase, expected_s=expected_s, left_s=self._left_s()
                )
            )

        ends = run_jobs(jobs, python=plan.python, timeout_s=plan.timeout_s, on_phase=on_phase)
        with contextlib.closing(ends):
            for ended in ends:
                job = jobs[position]
                self.time_left.end(job.case.key)
                self._keep(job, ended, event)
                position += 1
                if position < len(jobs):
                    event = self._start(jobs[position])

    def _job(self, case: Case, repetition: int) -> Job:
        plan = self.plan
        own = case.workload == plan.workload.name
        return Job(
            backend=plan.backend.name,
            compile_mode=plan.compile_mode,
            case=case,
            weights=plan.weights if own else Weights(),
            pace=plan.pace if own else calibration.PACE,
            repetition=repetition,
            chips=plan.chips if own else 1,
        )

    def _start(self, job: Job) -> Event:
        self.time_left.begin(job.case.key)
        event = Event(
            kind="start",
            case=f"{job.case.workload} {job.case.label()}",
            repetition=job.repetition,
            done=self.stored,
            total=len(self.measuring) + self.plan.repeats * len(self.plan.cases),
            left_s=self._left_s(),
        )
        self.observe(event)
        return event

    def _left_s(self) -> float | None:
        """Seconds until the end; None before the first case has ended."""
        left_s = self.time_left.left_s()
        if left_s is not None and not self.plan.repeats_asked:
            left_s = min(left_s, max(0.0, self.began + self.budget_s - time.monotonic()))
        return left_s

    def _keep(self, job: Job, ended: Ended, event: Event) -> None:
        """Turn what a child said into rows, and store them."""
        plan, case, outcome = self.plan, job.case, ended.outcome
        began = time.monotonic()
        own = case.workload == plan.workload.name
        workload = plan.workload if own else registry.workload(case.workload)
        context = facts.RunContext(
            run_id=plan.run_id,
            started_at=dt.datetime.now(dt.UTC),
            price=plan.price if own else None,
            git=self.git,
        )
        peaks = data_sheet(outcome.device) if outcome.device else None
        if own and peaks is None and self.memory is not None:
            peaks = calibration.peaks(self.best, self.memory.source)
        rows_of = partial(facts.rows, context, plan.backend, workload, job, peaks=peaks)
        try:
            rows = rows_of(outcome=outcome)
        except references.ERRS as error:  # a third party's workload; its case fails, and no other
            why = references.blamed(error)
            if why is None or outcome.status != "ok":
                raise
            outcome = replace(outcome, status="failed", reason=why)
            rows = rows_of(outcome=outcome)
        if not own:
            rows = [as_calibration(row) for row in rows]
            self._remember(case, rows)
        self.rows += rows
        if ranks.from_environment().rank == 0:  # under torchrun every rank is a run; one keeps it
            name = f"{case.workload}-{case.key}-{job.repetition:03d}"
            self.files.append(store.write(self.where, name, rows))
        self.notes += [ended.note] if ended.note else []
        self.stored += 1
        status, reason = rows[0].status, rows[0].reason
        self.failed += own and status != "ok"
        if status == "failed":
            self.alone.add(case.key)
        kept = compile_cache.in_use(plan.backend.name)
        self.time_left.compiled(case.key, _not_again_s(outcome) if kept else 0.0)
        if own and self.generated is None and plan.weights.prompt_ids is not None:
            self.generated = _generated(workload, job, outcome)
        self.store_s += time.monotonic() - began
        log = ended.log if status == "failed" else None
        end = replace(event, kind="end", done=self.stored, status=status, log=log)
        reason = None if status == "ok" else reason
        self.observe(replace(end, reason=reason, left_s=self._left_s()))

    def _remember(self, case: Case, rows: Sequence[Row]) -> None:
        best = calibration.best_of(rows)
        self.best += best
        if self.memory is not None:
            self.memory.keep(case, best)


def _not_again_s(outcome: Outcome) -> float:
    """Seconds of compiling that the next process is spared, as the compile cache has it now."""
    cache = outcome.compile_cache or {}
    programs = cache.get("hits", 0) + cache.get("misses", 0)
    if not programs:
        return 0.0
    compiling_s = outcome.compile_s or 0.0
    if outcome.warm_up_s:  # some compilers begin only when the program is first run
        compiling_s += max(0.0, outcome.warm_up_s[0] - outcome.warm_up_s[-1])
    return compiling_s * cache["misses"] / programs


def _generated(workload: Workload, job: Job, outcome: Outcome) -> Generated | None:
    if outcome.status != "ok" or outcome.generated_ids is None:
        return None
    text = workload.decode(outcome.generated_ids, job.weights)
    return Generated(ids=outcome.generated_ids, text=text)

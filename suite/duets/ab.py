"""``tpubench ab``: a duet for each case, looked at as it goes, stored, and judged.

Every pair is stored as it is taken, one file a side, so an interrupted duet keeps its facts and
``tpubench gate`` on the two run ids gives the same verdict again. An alarm is confirmed on fresh
pairs after all other cases have run, in another moment of the machine.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast, get_args

from tpubench.errors import NotComparableError, UsageError, interruption
from tpubench.results import duet as facts_of_duet
from tpubench.results import fingerprint, store
from tpubench.results.duet import Design, Pair, log_ratio
from tpubench.results.figure import new_run_id
from tpubench.results.gate.duet import confirmed, finding, refused, unconfirmed
from tpubench.results.gate.looks import Judged, judge
from tpubench.results.gate.policy import Policy, Rules
from tpubench.results.gate.report import Finding, GateReport
from tpubench.results.row import Row
from tpubench.results.sealing import manifest
from tpubench.suite import cores, facts, registry
from tpubench.suite.duets import refs, sides
from tpubench.suite.duets.duet import TakenPair, design_for, stage
from tpubench.suite.duets.partner import Side
from tpubench.suite.duets.proof import Witness
from tpubench.suite.duets.refs import Built
from tpubench.suite.job import Outcome
from tpubench.suite.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTaken:
    """Progress: a pair of a case has been taken, and what the pairs so far say."""

    case: str
    number: int
    done: int
    cases: int
    judged: Judged
    confirming: bool


Watch = Callable[[PairTaken], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What will be compared: the sides of each case, and how."""

    title: str
    cases: Sequence[tuple[Side, Side]]
    runs: tuple[str, str]
    rules: Rules
    timeout_s: float
    design: Design | None = None
    quads: int | None = None
    """ABBA turns a pair; None for 15, fewer of long ones."""
    confirm: bool = True
    """Whether an alarm must be proven again by fresh pairs, taken after all other cases."""
    cores: int | None = cores.DEFAULT
    """Of the CPU, where that is what is compared; None for all."""
    notes: tuple[str, ...] = ()


def parse_design(text: str) -> Design | None:
    """``--design``; None for auto. UsageError for another word."""
    if text == "auto":
        return None
    for design in get_args(Design):
        if text == design:
            return cast(Design, design)
    raise UsageError(f"--design {text!r} is not one of auto, duet, runs")


def arrange(
    baseline: str,
    candidate: str,
    request: Request,
    rules: Rules,
    *,
    design: Design | None = None,
    quads: int | None = None,
    confirm: bool = True,
    on_cores: int | None = cores.DEFAULT,
) -> Contest:
    """Everything decided before anything runs; git revisions are built here.

    UsageError when the sides are the same or their cases do not pair up.
    """
    if quads is not None and not 1 <= quads <= 1000:
        raise UsageError(f"--quads {quads} is not between 1 and 1000")
    specs = [sides.parse(baseline), sides.parse(candidate)]
    _refuse_itself(specs)
    built = sides.built(specs)
    _offer(built)
    plans = [sides.plan(spec, request) for spec in specs]
    counts = [len(plan.cases) for plan in plans]
    if counts[0] != counts[1]:
        raise UsageError(f"the baseline has {counts[0]} cases, the candidate {counts[1]}")
    watched = _watched(request.workload, built)
    a, b = (
        [replace(side, watched=watched) for side in sides.sides(spec, plan, name, tree)]
        for spec, plan, name, tree in zip(
            specs, plans, ("baseline", "candidate"), built, strict=True
        )
    )
    notes = [*a[0].notes, *b[0].notes]
    if specs[0].ref and specs[1].ref:
        lines = refs.between(str(a[0].commit), str(b[0].commit))
        notes += [f"commit under test: {line}" for line in lines[:10]]
        notes += [f"… and {len(lines) - 10} more commits"] if len(lines) > 10 else []
    started = dt.datetime.now(dt.UTC)
    runs = tuple(new_run_id(started) for _ in range(2))
    return Contest(
        title=f"{candidate} against {baseline}",
        cases=list(zip(a, b, strict=True)),
        runs=(min(runs), max(runs)),
        rules=rules,
        timeout_s=request.timeout_s,
        design=design,
        quads=quads,
        confirm=confirm,
        cores=on_cores,
        notes=tuple(notes),
    )


def _offer(built: Sequence[Built | None]) -> None:
    """Have what the candidate's tree, else the baseline's, offers be known here too.

    The plan needs the workload's cases, and what is installed of it may be older, or nothing.
    """
    for tree in reversed(built):
        if tree is not None and tree.code.offers:
            sys.path.insert(0, str(tree.code.folder))
            registry.forget()
            return


def _watched(workload: str, built: Sequence[Built | None]) -> tuple[str, ...]:
    """Top-level modules of which each side must say where they come from."""
    names = {
        module.partition(".")[0]
        for module in (__name__, type(registry.workload(workload)).__module__)
    }
    return tuple(sorted(names.union(*(tree.code.names for tree in built if tree is not None))))


def _refuse_itself(specs: Sequence[sides.Spec]) -> None:
    one, other = (
        replace(spec, text="", ref=refs.commit(spec.ref) if spec.ref else None) for spec in specs
    )
    if one == other:
        raise UsageError(
            f"baseline and candidate are the same ({specs[0].text}): there is nothing to compare"
        )


def run(contest: Contest, where: Path, watch: Watch) -> GateReport:
    """Take pairs until each case is decided; store them; say what they prove.

    Cut short by an interruption or a full disk, it reports what was decided by then; RunFailedError
    when a process dies. Pairs taken by then are stored.
    """
    store.prepare(where)
    recorder = _Recorder(contest=contest, where=where)
    findings: list[Finding] = []
    cut_short = None
    if not any(registry.backend(b.job.backend).accelerator for _, b in contest.cases):
        chosen = cores.idlest(contest.cores)
        recorder.notes.append(cores.in_words(chosen))
        pairs = [(replace(a, cores=chosen), replace(b, cores=chosen)) for a, b in contest.cases]
        contest = replace(contest, cases=pairs)
    try:
        for index in range(len(contest.cases)):
            findings.append(_case(contest, index, recorder, watch))
        if contest.confirm:
            alarms = {n: first for n, first in enumerate(findings) if first.state == "regressed"}
            findings = [unconfirmed(one) if n in alarms else one for n, one in enumerate(findings)]
            for index, first in alarms.items():
                second = _case(contest, index, recorder, watch, alarm=recorder.pairs[index])
                findings[index] = confirmed(first, second)
    except KeyboardInterrupt as error:
        cut_short = (
            f"{interruption(error)}: {recorder.stored} pairs are kept in {where}, runs"
            f" {' and '.join(contest.runs)}"
        )
    except store.NotStoredError as error:
        cut_short = str(error)
    finally:
        manifest.close(recorder.files)
    return GateReport(
        title=contest.title,
        findings=findings,
        notes=(*contest.notes, *recorder.notes),
        runs=contest.runs if recorder.stored else (),
        cut_short=cut_short,
    )


def _case(
    contest: Contest, index: int, recorder: _Recorder, watch: Watch, alarm: Sequence[Pair] = ()
) -> Finding:
    """Pairs of one case until they prove something; ``alarm``: those whose alarm they confirm."""
    confirming = bool(alarm)
    a, b = contest.cases[index]
    case = b.job.case
    policy: Policy = contest.rules.policy(case.workload, facts_of_duet.METRIC)
    label = f"{case.workload} {case.preset} {case.label()}"
    evidence = registry.backend(b.job.backend).evidence
    taken: list[TakenPair] = []
    logs_of_alarm = [log_ratio(pair) for pair in alarm]
    judged = judge([], policy)
    witness = recorder.witnesses.setdefault(index, Witness(sides=(a, b)))
    try:
        with stage(
            a, b, timeout_s=contest.timeout_s, design=contest.design, quads=contest.quads
        ) as duet:
            while not judged.final:
                pair = duet.pair()
                code = [
                    witness.see(pair.prepared["A"], a),
                    witness.see(pair.prepared["B"], b),
                ]
                differing = witness.differing()
                taken.append(pair)
                recorder.keep(index, pair, (a, b), code, confirming=confirming)
                judged = judge([log_ratio(one.pair) for one in taken], policy, logs_of_alarm)
                watch(
                    PairTaken(
                        case=label,
                        number=len(taken),
                        done=index,
                        cases=len(contest.cases),
                        judged=judged,
                        confirming=confirming,
                    )
                )
    except NotComparableError as error:
        return refused(label, policy, evidence=evidence, reason=str(error))
    if differing and not confirming:
        recorder.notes.append(f"{label}: {differing}" if len(contest.cases) > 1 else differing)
    if duet.note is not None and duet.note not in recorder.notes:
        recorder.notes.append(duet.note)
    unsteady = sum(
        prepared["steadiness"] != "steady" for one in taken for prepared in one.prepared.values()
    )
    return finding(
        label,
        [one.pair for one in taken],
        policy,
        evidence=evidence,
        unsteady=unsteady / (2 * len(taken)),
        confirm=contest.confirm,
        alarm=alarm,
    )


@dataclass(slots=True, kw_only=True)
class _Recorder:
    """Stores pairs as they are taken."""

    contest: Contest
    where: Path
    stored: int = 0
    witnesses: dict[int, Witness] = field(default_factory=dict)
    """By case: what its sides import must not change from the first pair to the last."""
    notes: list[str] = field(default_factory=list)
    """What was learnt while it ran."""
    pairs: dict[int, list[Pair]] = field(default_factory=dict)
    """By case: the pairs before any confirmation."""
    numbers: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    git: fingerprint.GitState = field(default_factory=lambda: fingerprint.git_state(Path.cwd()))

    def keep(
        self,
        index: int,
        taken: TakenPair,
        pair: Sequence[Side],
        code: Sequence[str],
        *,
        confirming: bool,
    ) -> None:
        """One file for each side of a pair. ``code``: SHA-256 of what each imported."""
        stage_name = facts_of_duet.CONFIRMATION if confirming else facts_of_duet.FIRST
        if not confirming:
            self.pairs.setdefault(index, []).append(taken.pair)
        name = f"{pair[0].job.case.workload}-{index:03d}-{stage_name}"
        number = self.numbers.get(str(index), 0)
        self.numbers[str(index)] = number + 1
        for place, side in enumerate(pair):
            row = self._row(place, side, taken, number)
            environment = json.loads(row.environment)
            described = facts_of_duet.described(
                taken.pair,
                side=("baseline", "candidate")[place],
                partner=self.contest.runs[1 - place],
            )
            environment["duet"] = {
                **described,
                "case": f"{index:03d}",
                "stage": stage_name,
                "quads": len(taken.pair.order) // 4,
                "passes_a_block": len(taken.passes_s["A"][0]),
                "code_sha256": code[place],
                "cores": side.cores,
            }
            row = replace(row, environment=fingerprint.canonical_json(environment))
            self.files.append(store.write(self.where, f"{name}-{number:03d}", [row]))
        self.stored += 1

    def _row(self, place: int, side: Side, taken: TakenPair, number: int) -> Row:
        prepared = taken.prepared["B" if place else "A"]
        outcome = Outcome(
            status="ok",
            warm_up_s=prepared["warm_up_s"],
            steadiness=prepared["steadiness"],
            compile_s=prepared["compile_s"],
            device=prepared["device"],
            chips=prepared["chips"],
            description=prepared["description"],
        )
        backend = registry.backend(side.job.backend)
        workload = registry.workload(side.job.case.workload)
        context = facts.RunContext(
            run_id=self.contest.runs[place],
            started_at=dt.datetime.now(dt.UTC),
            price=None,
            git=self.git if not side.commit else fingerprint.GitState(sha=side.commit, dirty=False),
        )
        job = replace(side.job, repetition=number)
        blocks_s = taken.pair.candidate_s if place else taken.pair.baseline_s
        row = facts.one_row(
            context, backend, workload, job, outcome, facts_of_duet.METRIC, list(blocks_s)
        )
        return _as_the_child_had_it(row, prepared["workload_sha256"])


def _as_the_child_had_it(row: Row, workload_sha256: str) -> Row:
    """The row with the hash of the workload that ran, which may be another revision's."""
    environment = json.loads(row.environment)
    environment["fingerprint"]["workload_sha256"] = workload_sha256
    return replace(
        row,
        fingerprint=fingerprint.sha256(environment["fingerprint"]),
        environment=fingerprint.canonical_json(environment),
        source=f"tpubench {version('tpubench')} ab",
    )


def planned(contest: Contest) -> dict[str, object]:
    """The contest as JSON values, for a dry run."""
    return {
        "title": contest.title,
        "notes": list(contest.notes),
        "quads": contest.quads,
        "design": [design_for(a.job.backend, contest.design) for a, _ in contest.cases],
        "cases": [
            {
                "workload": b.job.case.workload,
                "preset": b.job.case.preset,
                "baseline": dict(a.job.case.params),
                "candidate": dict(b.job.case.params),
                "compile_modes": [a.job.compile_mode, b.job.compile_mode],
            }
            for a, b in contest.cases
        ],
    }

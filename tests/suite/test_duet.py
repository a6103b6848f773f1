"""The duet: turns, deaths, facts, and the same verdict again from what was stored."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from tpubench.errors import NotComparableError, RunFailedError, UsageError
from tpubench.results import store
from tpubench.results.duet import Pair, block_time_s, log_ratio, stored_pairs
from tpubench.results.gate.duet import gate_stored
from tpubench.results.gate.policy import Rules
from tpubench.results.row import Row
from tpubench.results.verify import verify_store
from tpubench.suite.duets import ab, duet
from tpubench.suite.request import Request

CASE = {"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}


def request(**changes: object) -> Request:
    fields = {
        "workload": "gemm",
        "backend": "fake",
        "preset": "square-512",
        "overrides": CASE,
        "timeout_s": 120.0,
        **changes,
    }
    return Request(**fields)  # type: ignore[arg-type]


def contest(candidate: str = "set:steps=2", **changes: object) -> ab.Contest:
    return ab.arrange("set:steps=1", candidate, request(**changes), Rules(), quads=1)


def test_a_pair_alternates_and_its_ratio_ignores_a_drift() -> None:
    drift = [1.0, 1.1, 1.2, 1.3]
    abba = Pair(order="ABBA", baseline_s=[drift[0], drift[3]], candidate_s=drift[1:3])
    assert abs(log_ratio(abba)) < 0.01
    assert log_ratio(dataclasses.replace(abba, design="runs")) == pytest.approx(
        (log_ratio(abba)), abs=0.01
    )
    assert block_time_s([5.0, 1.0, 9.0]) == 1.0
    assert block_time_s(list(range(1, 21))) == 2


def test_two_processes_that_do_not_fit_together_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = {"pass_s": [0.1], "free_bytes": 10**6}
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps(script))
    ((a, b),) = contest().cases
    with duet.stage(a, b, timeout_s=300.0, quads=1) as pairs:
        taken = pairs.pair()
    assert taken.pair.design == "runs"
    assert len(taken.pair.baseline_s) == len(taken.pair.candidate_s) == 2
    assert "one after the other" in str(pairs.note) and "0.001 GB are free" in str(pairs.note)


def test_one_duet_is_stored_verified_and_judged_again(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    # Every mark is 100 ms after the last, so both sides take equally long.
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"pass_s": [0.1]}))
    seen: list[ab.PairTaken] = []
    arranged = contest()
    report = ab.run(arranged, tmp_path, seen.append)
    (finding,) = report.findings
    assert (finding.state, report.exit_code, finding.n) == ("ok", 0, (10, 10))
    assert finding.evidence == "modelled"
    assert [taken.number for taken in seen] == list(range(1, 11))
    assert verify_store(tmp_path).ok
    rows = list(store.iter_rows(store.scan(store.files(tmp_path)).table))
    assert {row.run_id for row in rows} == set(arranged.runs) and len(rows) == 20
    assert {json.loads(row.params)["steps"] for row in rows} == {1, 2}
    duet_facts = json.loads(rows[0].environment)["duet"]
    assert sorted(duet_facts["order"]) == ["A", "A", "B", "B"]
    a, b = ([row for row in rows if row.run_id == run] for run in arranged.runs)
    again = gate_stored(a, b, Rules())
    assert (again.findings[0].state, again.findings[0].worse) == (finding.state, finding.worse)
    with pytest.raises(UsageError, match="swap the two"):
        stored_pairs(b, a)
    with pytest.raises(UsageError, match="give both its sides"):
        stored_pairs(a, [])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (["build", "abort"], "killed by SIGABRT in phase preparing"),
        (["open", "lost"], "the device was lost"),
        (["warm-up", "exit"], "exit code 3"),
    ],
)
def test_a_side_that_dies_ends_the_duet_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: list[str], reason: str
) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"faults": {"*": fault}}))
    with pytest.raises(RunFailedError, match=f"(baseline|candidate): .*{reason}"):
        ab.run(contest(), tmp_path, lambda taken: None)


def test_a_side_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"faults": {"*": ["open", "hang"]}}))
    with pytest.raises(RunFailedError, match="timed out after 6 s"):
        ab.run(contest(timeout_s=6.0), tmp_path, lambda taken: None)


def test_a_disk_that_fills_up_keeps_the_pairs_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    write = store.write

    def refuse(where: Path, name: str, rows: list[Row]) -> Path:
        if len(kept) == 6:
            raise store.NotStoredError("cannot store: No space left on device")
        kept.append(name)
        return write(where, name, rows)

    monkeypatch.setattr(store, "write", refuse)
    report = ab.run(contest(), tmp_path, lambda taken: None)
    assert (report.exit_code, report.findings) == (5, [])
    assert "No space left" in str(report.cut_short)
    assert len(store.files(tmp_path)) == 6


def test_a_wrong_result_is_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"faults": {"*": ["compile", "wrong"]}}))
    with pytest.raises(RunFailedError, match="parity check failed"):
        ab.run(contest(), tmp_path, lambda taken: None)


def test_one_process_at_a_time_where_the_device_admits_one() -> None:
    a, b = contest().cases[0]
    with duet.stage(a, b, timeout_s=120, design="runs", quads=1, seed=3) as staged:
        taken = [staged.pair() for _ in range(2)]
    assert {one.pair.order for one in taken} <= {"AABB", "BBAA"}
    assert all(one.pair.design == "runs" for one in taken)


def test_two_versions_of_a_workload_are_not_comparable() -> None:
    versions = {"A": {"workload_version": 1}, "B": {"workload_version": 2}}
    a, b = contest().cases[0]
    with (
        duet.stage(a, b, timeout_s=120) as staged,
        pytest.raises(NotComparableError, match=r"version 1 .* version 2"),
    ):
        staged._compare(versions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("baseline", "candidate", "reason"),
    [
        ("set:steps=1", "set:steps=1", "there is nothing to compare"),
        (".", ".", "there is nothing to compare"),
        ("set:steps", ".", "KEY=VALUE"),
        ("set:", ".", "nothing after set:"),
        ("nonsense-word", ".", "no interpreter and no git revision"),
        ("python:/nonexistent", ".", "not an executable"),
        ("mode:fast", ".", "no compile mode 'fast'"),
        ("backend:abacus", ".", "unknown backend"),
        ("set:size=1", ".", "no parameter 'size'"),
        ("ref:HEAD+python:" + sys.executable, ".", "brings its own interpreter"),
    ],
)
def test_a_bad_side_is_one_clear_line(baseline: str, candidate: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ab.arrange(baseline, candidate, request(), Rules())

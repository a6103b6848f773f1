"""The gate on stored rows: like with like, a process a sample, missing never ok."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate_rows import BASE, FINGERPRINT, LATER, NEW, changed, run_of

from tpubench.errors import UsageError
from tpubench.results.gate.policy import Rules, declared, load
from tpubench.results.gate.report import GateReport
from tpubench.results.gate.rows import gate
from tpubench.results.row import Row

STEADY = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2]


def scaled(factor: float) -> list[float]:
    return [value * factor for value in STEADY]


def one(report: GateReport) -> tuple[str, int, str]:
    (finding,) = report.findings
    return finding.state, report.exit_code, finding.reason


def test_ok_regressed_and_direction() -> None:
    rows = run_of(STEADY)
    assert one(gate(rows, run_of(scaled(1.0001), NEW), Rules()))[:2] == ("ok", 0)
    assert one(gate(rows, run_of(scaled(0.9), NEW), Rules()))[:2] == ("regressed", 1)
    assert one(gate(rows, run_of(scaled(1.1), NEW), Rules()))[:2] == ("ok", 0)
    times = run_of(STEADY, metric="step_time_s")
    slower = gate(times, run_of(scaled(1.1), NEW, "step_time_s"), Rules())
    assert one(slower)[:2] == ("regressed", 1)
    (finding,) = slower.findings
    assert finding.worse is not None and finding.worse.point == pytest.approx(1.1, rel=0.01)


def test_few_repetitions_are_inconclusive_and_say_how_many_would_do() -> None:
    state, code, reason = one(gate(run_of([100.0]), run_of([50.0], NEW), Rules()))
    assert (state, code) == ("inconclusive", 3)
    assert "1 and 1 repetitions" in reason and "about 5 a side would" in reason
    three = gate(run_of(STEADY[:3]), run_of([50.0, 51.0, 52.0], NEW), Rules())
    assert one(three)[0] == "inconclusive"


def test_passes_are_not_samples() -> None:
    """A thousand passes of one process are one sample."""
    a = run_of([100.0], samples=[100.0] * 1000)
    b = run_of([80.0], NEW, samples=[80.0] * 1000)
    assert one(gate(a, b, Rules()))[0] == "inconclusive"


@pytest.mark.parametrize(
    "fields", [{key: "other"} for key in FINGERPRINT] + [{key: None} for key in FINGERPRINT]
)
def test_any_differing_or_missing_field_is_refused_by_name(fields: dict[str, object]) -> None:
    (name,) = fields
    other = run_of(STEADY, NEW, fingerprint=changed(**fields))
    for sides in ((run_of(STEADY), other), (run_of(STEADY, LATER, fingerprint=changed(**fields)),
                                            run_of(STEADY, NEW))):  # fmt: skip
        state, code, reason = one(gate(*sides, Rules()))
        assert (state, code) == ("refused", 4)
        assert name in reason


def test_a_nested_field_is_named() -> None:
    other = changed(description={"torch": "2.14.0", "threads": 2})
    reason = one(gate(run_of(STEADY), run_of(STEADY, NEW, fingerprint=other), Rules()))[2]
    assert "description.torch: 2.13.0 ≠ 2.14.0" in reason and "threads" not in reason


def test_without_a_fingerprint_or_of_another_evidence_there_is_no_comparison() -> None:
    bare = run_of(STEADY, NEW, fingerprint={})
    assert one(gate(run_of(STEADY), bare, Rules()))[:2] == ("refused", 4)
    modelled = run_of(STEADY, NEW, evidence="modelled")
    assert "evidence: measured ≠ modelled" in one(gate(run_of(STEADY), modelled, Rules()))[2]
    newer = run_of(STEADY, NEW, workload_version=2)
    assert "workload_version: 1 ≠ 2" in one(gate(run_of(STEADY), newer, Rules()))[2]


def failed(run_id: str, number: int) -> Row:
    (row,) = run_of([1.0], run_id)
    import dataclasses

    return dataclasses.replace(
        row, repetition=number, status="failed", reason="killed by SIGSEGV", value=None,
        ci_low=None, ci_high=None, samples=None,
    )  # fmt: skip


def test_missing_and_failed_are_never_ok() -> None:
    rows = run_of(STEADY)
    batch_8 = run_of(STEADY, NEW, params=json.dumps({"batch": 8, "dtype": "bfloat16"}))
    report = gate(rows, batch_8, Rules())
    assert one(report)[:2] == ("missing", 3)
    assert "no baseline" in report.notes[0]
    renamed = run_of(STEADY, NEW, workload="llama-inference")
    assert "was it renamed?" in one(gate(rows, renamed, Rules()))[2]
    state, code, reason = one(gate(rows, [failed(NEW, 0)], Rules()))
    assert (state, code) == ("failed", 3) and "SIGSEGV" in reason
    partly = gate(rows, [*run_of(STEADY, NEW), failed(NEW, 9)], Rules())
    assert one(partly)[0] == "failed"
    no_metric = gate(rows, run_of(STEADY, NEW, metric="ttft_s"), Rules())
    assert one(no_metric)[:2] == ("missing", 3)


def test_all_equal_samples_have_an_answer() -> None:
    same = [5.0] * 5
    assert one(gate(run_of(same), run_of(same, NEW), Rules()))[0] == "ok"
    assert one(gate(run_of(same), run_of([4.0] * 5, NEW), Rules()))[0] == "regressed"


def test_the_candidate_may_not_be_the_baseline() -> None:
    with pytest.raises(UsageError, match="the same rows"):
        gate(run_of(STEADY), run_of(STEADY), Rules())


def priced(values: list[float], run_id: str, usd: float) -> list[Row]:
    prices = {"usd_per_chip_hour": usd, "price_id": "given"}
    costs = [1e6 * usd / 3600 / value for value in values]
    return [*run_of(values, run_id), *run_of(costs, run_id, "usd_per_mtok_out", **prices)]


def test_a_cost_regression_says_why() -> None:
    report = gate(priced(STEADY, BASE, 1.0), priced(scaled(1 / 1.04), NEW, 1.02), Rules())
    cost = next(f for f in report.findings if f.metric == "usd_per_mtok_out")
    assert cost.state == "regressed" and cost.cause is not None
    assert cost.cause.throughput == pytest.approx(1.04, rel=1e-3)
    assert cost.cause.price == pytest.approx(1.02, rel=1e-9)
    assert cost.worse is not None and cost.worse.point == pytest.approx(1.04 * 1.02, rel=0.01)


def test_many_figures_share_their_error() -> None:
    """Five against five gives p = 1/252 at best: enough for two figures, not for three."""
    five = STEADY[:5]

    def suite(run_id: str, factor: float, cases: int) -> list[Row]:
        return [
            row
            for batch in range(cases)
            for row in run_of(
                [v * factor for v in five], run_id, params=json.dumps({"batch": batch})
            )
        ]

    for cases, state in ((2, "regressed"), (3, "inconclusive")):
        report = gate(suite(BASE, 1, cases), suite(NEW, 0.8, cases), Rules())
        assert {finding.state for finding in report.findings} == {state}


def test_tails_are_gated_apart_and_only_with_enough_samples() -> None:
    def latencies(run_id: str, tail: float, count: int) -> list[Row]:
        samples = [0.010] * (count - 20) + [tail] * 20
        return run_of([0.010] * 6, run_id, "itl_s", samples=samples)

    rules = declared(Rules(), ["itl_s"])
    report = gate(latencies(BASE, 0.02, 1000), latencies(NEW, 0.06, 1000), rules)
    assert {f.metric: f.state for f in report.findings} == {"itl_s": "ok", "itl_s p99": "regressed"}
    few = gate(latencies(BASE, 0.02, 600), latencies(NEW, 0.06, 600), rules)
    assert [f.metric for f in few.findings] == ["itl_s"]


def test_a_policy_file_declares_metrics_margins_and_tests(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(
        'metrics = ["ttft_s"]\nlimit = 1.08\n[metric.ttft_s]\nlimit = 1.2\n'
        '[workload.gemm]\ntest = "sign"\n'
    )
    rules = load(path)
    assert rules.metrics == ("ttft_s",)
    assert rules.policy("llama-infer", "ttft_s").limit == 1.2
    assert rules.policy("gemm", "flop_s").test == "sign"
    assert rules.policy("gemm", "flop_s").limit == 1.08


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metrics = 3", "list of metric names"),
        ('metrics = ["speed"]', "unknown metric 'speed'"),
        ("margin = 0.5", "a ratio from 1 to 10"),
        ("margin = nan", "a ratio from 1 to 10"),
        ("margin = 1.2\nlimit = 1.1", "margin must be below limit"),
        ("limits = 1.1", "unknown key 'limits'"),
        ('[metric.ttft_s]\ntest = "t"', "test in metric.ttft_s"),
        ("[metric.nothing]\nlimit = 1.2", "unknown metric"),
        ("metric = 4", "[metric.NAME]"),
        ("= 3", "is not valid TOML"),
        (f"a = {'[' * 5000}", "nested too deeply"),
        (f"a = {'9' * 5000}", "Exceeds the limit"),
        (f"a{'.a' * 400} = 1", "more than 300 dots"),
    ],
)
def test_a_bad_policy_is_one_clear_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason.replace("[", r"\[").replace("]", r"\]")):
        load(path)

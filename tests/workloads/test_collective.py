"""``collective``: real ranks exchange what the definition says, and every fault of theirs shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from collective_defects import DEFECTS, OPERATIONS, judged, label

from tpubench.errors import UsageError
from tpubench.results.row import Row
from tpubench.suite import registry
from tpubench.suite import run as suite_run
from tpubench.suite.parity import Parity
from tpubench.suite.request import Request
from tpubench.suite.timing import Pace
from tpubench.workloads.collective import expected, held, sent_share

QUICK = Pace(warm_up_s=0.02, window_s=0.02, most_warm_up_s=0.2, latency_s=0.0)


@pytest.fixture(scope="module")
def checks() -> dict[str, list[Parity]]:
    return judged(2)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_right_exchange_passes(checks: dict[str, list[Parity]], operation: str) -> None:
    assert [(check.name, check.error) for check in checks[label(operation, "correct")]] == [
        ("window", 0.0),
        ("other values", 0.0),
    ]


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_of_any_rank_is_caught(
    checks: dict[str, list[Parity]], operation: str, defect: str
) -> None:
    caught = {check.name for check in checks[label(operation, defect)] if not check.ok}
    assert caught
    if defect == "nothing the second time":
        assert caught == {"other values"}, "what it left is right"
    if defect == "narrow on the way":
        assert "other values" in caught


@pytest.mark.parametrize(
    ("ranks", "dtype"),
    [(3, "bfloat16"), pytest.param(2, "float16", marks=pytest.mark.nightly)],
)
def test_ranks_exchange_in_less_than_float32(ranks: int, dtype: str) -> None:
    checks = judged(ranks, dtype)
    for name in OPERATIONS:
        assert all(check.ok for check in checks[label(name, "correct")])
        assert not all(check.ok for check in checks[label(name, "narrow on the way")])


def test_several_operations_a_pass_are_right_too() -> None:
    checks = judged(2, steps=3)
    assert all(check.ok for name in OPERATIONS for check in checks[label(name, "correct")])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
def test_what_arrives_is_what_was_sent(operation: str, ranks: int) -> None:
    workload = registry.workload("collective")
    (case,) = workload.cases(operation, {"kib": ["15"]})[:1]
    case = workload.on_devices(case, ranks)
    brought = [held(case, rank, 1) for rank in range(ranks)]
    arrived = [expected(case, rank, 1) for rank in range(ranks)]
    size, part = 15 * 256, 15 * 256 // ranks
    for rank in range(ranks):
        if operation in {"all-reduce", "reduce-scatter"}:
            total = sum(brought[1:], start=brought[0])
            mine = total if operation == "all-reduce" else total[rank * part : (rank + 1) * part]
            assert arrived[rank].equal(mine)
        else:
            assert len(arrived[rank]) == size
            own = 0 if operation == "all-gather" else rank * part
            for source in range(ranks):
                sent = brought[source][own : own + part]
                assert arrived[rank][source * part : (source + 1) * part].equal(sent)


def test_the_bus_rate_is_that_of_nccl_tests() -> None:
    # doc/PERFORMANCE.md: 2(n-1)/n for an all-reduce, (n-1)/n for the others.
    assert [sent_share("all-reduce", n) for n in (2, 4, 8)] == [1.0, 1.5, 1.75]
    assert [sent_share("all-gather", n) for n in (2, 4, 8)] == [0.5, 0.75, 0.875]


def run(store: Path, **asked: object) -> dict[str, Row]:
    fields = {"workload": "collective", "backend": "cpu", "repeats": 1, "pace": QUICK, **asked}
    report = suite_run.execute(
        suite_run.make_plan(Request(**fields)),  # type: ignore[arg-type]
        store,
        lambda event: None,
    )
    return {row.metric: row for row in report.rows}


def test_a_run_on_two_chips_has_both_rates(tmp_path: Path) -> None:
    rows = run(tmp_path, preset="all-gather", chips=2, overrides={"kib": ["4"]})
    bus, algorithm = rows["bus_bytes_s"], rows["algorithm_bytes_s"]
    assert (bus.status, bus.chips, bus.parallelism) == ("ok", 2, "ranks=2")
    assert bus.samples and algorithm.samples
    assert bus.samples == pytest.approx([value / 2 for value in algorithm.samples])
    assert '"ranks":2' in bus.params.replace(" ", "")


def test_a_run_on_one_chip_says_why_there_is_no_bus(tmp_path: Path) -> None:
    row = run(tmp_path, preset="all-reduce", overrides={"kib": ["4"]})["bus_bytes_s"]
    assert row.value is None and "give --chips 2 or more" in (row.reason or "")


@pytest.mark.parametrize(
    ("overrides", "chips", "words"),
    [
        ({"kib": ["1"]}, 3, "256 elements do not divide among 3 ranks"),
        ({"ranks": ["4"]}, 2, "ranks=4, but 2 take part: leave it to --chips"),
    ],
)
def test_what_makes_no_sense_is_refused(
    overrides: dict[str, list[str]], chips: int, words: str
) -> None:
    request = Request(workload="collective", backend="cpu", overrides=overrides, chips=chips)
    with pytest.raises(UsageError, match=words):
        suite_run.make_plan(request)

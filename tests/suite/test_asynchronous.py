"""The scripted device that runs ahead, and the guard that catches each of its lies."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import pytest
import torch
from test_contract import QUICK, cases_of
from torch import Tensor

from tpubench.suite import child, clock_check, registry
from tpubench.suite.backends import _shapes
from tpubench.suite.backends._asynchronous import Queue, Script, deferred
from tpubench.suite.backends.fake import Fake
from tpubench.suite.job import Job, Outcome
from tpubench.suite.workload import Case, Device, Mark, Step, Timed, Weights, Work, Workload
from tpubench.suite.workload import Laps as Samples


def execute(case: Case, mode: str = "graphs") -> Outcome:
    job = Job(
        backend="fake",
        compile_mode=mode,
        case=case,
        weights=Weights(),
        pace=QUICK,
        repetition=0,
    )
    return child.execute(job, lambda phase, expected_s: None)


def lying(monkeypatch: pytest.MonkeyPatch, **script: object) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps(script))


def test_results_are_poison_until_somebody_waits() -> None:
    queue = Queue(Script())
    with deferred(queue):
        y = torch.ones(3) * 2
        assert queue.pending and y.untyped_storage().data_ptr() in queue.ready_us
        raw = torch.frombuffer(bytearray(y.detach().numpy().tobytes()), dtype=torch.float32)
        assert raw.tolist() == [2.0, 2.0, 2.0]  # numpy() is a read: the host waited for it
        z = y + 1
        queue.barrier()
        assert not queue.pending
        assert z.tolist() == [3.0, 3.0, 3.0]


def test_what_backward_has_kept_is_not_taken_for_changed_when_the_device_comes_to_it() -> None:
    # A model of a library looks at its positions on the way, so that the queue runs dry there.
    queue, table = Queue(Script()), torch.nn.Embedding(4, 2)
    with deferred(queue):
        ids = torch.empty(3, dtype=torch.int64).copy_(torch.arange(3))
        rows = table(ids)
        assert ids.tolist() == [0, 1, 2]
        rows.sum().backward()
        queue.barrier()
    assert table.weight.grad is not None and table.weight.grad[:3].eq(1).all()


def test_the_host_runs_ahead_and_a_barrier_brings_it_back() -> None:
    queue = Queue(Script(kernel_us=1000.0))
    with deferred(queue):
        x = torch.ones(3)
        before_us = queue.host_us
        for _ in range(10):
            x = x * 1.5
        assert queue.host_us - before_us == pytest.approx(10 * queue.script.host_us)
        queue.barrier()
        assert queue.host_us - before_us > 10 * 1000
        assert x.tolist() == pytest.approx([1.5**10] * 3)


def test_random_numbers_come_in_the_order_of_the_program() -> None:
    torch.manual_seed(7)
    expected = [torch.empty(4).normal_(), torch.rand(4)]
    with deferred(Queue(Script())):
        torch.manual_seed(7)
        x = torch.empty(4).normal_()
        torch.manual_seed(8)
        torch.rand(1)
    assert torch.equal(x, expected[0])


def test_gradients_flow_and_an_optimizer_steps_as_without_it() -> None:
    def train() -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        losses = []
        for _ in range(4):
            loss = model(torch.ones(2, 8)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
        return losses

    plain = train()
    with deferred(Queue(Script())):
        assert train() == plain


@pytest.mark.parametrize(
    ("lie", "guard"),
    [
        ("barrier", "the barrier does not wait for the device"),
        ("skip", "twice the work took .* times as long: work is left out"),
        ("stale", "a read returns before the value is there"),
        ("passed", "a mark says it has passed when .* s of work was just submitted"),
        ("events", "the marks add up to 0.* of the wall time|a mark says it has passed"),
        ("pace", "the marks add up to 0.8"),
    ],
)
def test_each_lie_of_the_device_is_caught_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, lie: str, guard: str
) -> None:
    (case,) = cases_of("gemm", dtype=["float32"])
    lying(monkeypatch, lie=lie)
    outcome = execute(case)
    assert outcome.status == "invalid"
    assert outcome.windows == {}
    assert outcome.reason is not None
    assert re.search(guard, outcome.reason), outcome.reason


def test_an_honest_device_passes_the_same_proof() -> None:
    backend = Fake()
    backend.on_phase("open", 0, cases_of("gemm")[0])
    device = backend.open("graphs")
    timings, fault = clock_check.check(backend, device)
    assert fault is None
    assert timings.pending is True
    assert timings.marked == pytest.approx(1.0, abs=0.01)
    assert timings.twice_s == pytest.approx(2 * timings.once_s, rel=0.02)


@pytest.mark.parametrize("marks", ["device events", "lagged reads"])
def test_a_window_says_what_the_script_says(monkeypatch: pytest.MonkeyPatch, marks: str) -> None:
    lying(monkeypatch, marks=marks)
    (case,) = cases_of("llama-infer", dtype=["float32"])
    outcome = execute(case)
    assert (outcome.status, outcome.reason) == ("ok", None)
    timed = outcome.windows["pass"]
    assert timed.how == marks
    assert sum(timed.passes_s) == pytest.approx(timed.wall_s)
    assert ("shorter pass" in outcome.windows) == (marks == "lagged reads")


def test_lagged_reads_and_events_agree_on_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    means = {}
    (case,) = cases_of("llama-infer", dtype=["float32"])
    for marks in ("device events", "lagged reads"):
        lying(monkeypatch, marks=marks)
        laps_s = execute(case).windows["pass"].laps_s
        means[marks] = sum(sum(laps[1:]) for laps in laps_s) / len(laps_s)
    assert means["lagged reads"] == pytest.approx(means["device events"], rel=0.1)


def test_a_barrier_at_each_mark_would_have_overstated_it() -> None:
    (case,) = cases_of("llama-infer", dtype=["float32"])
    outcome = execute(case)
    timed = outcome.windows["pass"]
    stopped = timed.wall_s + timed.passes * len(timed.marks) * 45e-6
    assert stopped > 1.001 * timed.wall_s


class Careless(Workload):
    """A third party's workload that keeps what a compiled call returned."""

    name = "careless"
    version = 1
    summary = "keeps the outputs of two calls without cloning them"
    presets: ClassVar = {"only": "the only size"}
    parameters: ClassVar = cases_of("gemm")[0] and registry.workload("gemm").parameters
    primary_metric = "step_time_s"

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        class Keeps(Step):
            marks = ("pass",)
            module = torch.nn.Sequential(torch.nn.Linear(4, 4))

            @torch.no_grad()
            def run(self, mark: Mark) -> None:
                mark(self.module(torch.ones(1, 4)))

            @torch.no_grad()
            def probe(self) -> Tensor:
                kept = [self.module(torch.ones(1, 4)), self.module(-torch.ones(1, 4))]
                return torch.cat(kept).to("cpu", torch.float32)

            @torch.no_grad()
            def reference(self) -> Tensor:
                layer = self.module[0]
                return torch.cat([layer(torch.ones(1, 4)), layer(-torch.ones(1, 4))]).clone()

        return Keeps()

    def work(self, case: Case) -> Work:
        return Work(items=1, unit="pass", flops=32, bytes=64)

    def measure(self, case: Case, windows: dict[str, Timed]) -> Samples:  # type: ignore[override]
        return Samples(samples={"step_time_s": windows["pass"].passes_s})


def test_a_program_that_keeps_what_a_replay_overwrites_fails_parity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.workloads(), "careless", Careless())  # type: ignore[arg-type]
    (case,) = Careless().cases("only", {"dtype": ["float32"]})
    outcome = execute(case)
    assert outcome.status == "invalid"
    assert outcome.reason is not None and "parity" in outcome.reason
    assert execute(case, "eager").status == "ok"


def test_the_poison_is_not_a_number() -> None:
    assert torch.isnan(_shapes.poisoned(torch.empty(2, device="meta"))).all()
    ints = _shapes.poisoned(torch.empty(2, dtype=torch.int64, device="meta"))
    assert ints.tolist() == [_shapes.POISON_INT] * 2

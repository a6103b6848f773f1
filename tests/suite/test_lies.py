"""Every way in which the scripted device can lie about time, and what a run makes of it.

docs/adr/0010-clock.md has the table: what is asserted here is what it says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from test_contract import cases_of

from tpubench.errors import RunFailedError
from tpubench.results.figure import SampledValue
from tpubench.suite import child, facts, other_inputs, prepared, ranks, registry, stopwatch
from tpubench.suite.backends._lies import LIES
from tpubench.suite.duets import child as duets_child
from tpubench.suite.job import Job, Outcome
from tpubench.suite.marks import HostMarks, alike
from tpubench.suite.timing import Clockwork, Pace
from tpubench.suite.workload import Case, Mark, Step, Timed, Weights
from tpubench.workloads.llama import parity as llama_parity
from tpubench.workloads.llama.step import LlamaStep

PACE = Pace(warm_up_s=0.05, window_s=0.06, most_warm_up_s=0.1, latency_s=0.0)
(GEMM,) = cases_of("gemm", dtype=["float32"], m=["48"], k=["48"])
(LLAMA,) = cases_of("llama-infer", dtype=["float32"])


def run(
    monkeypatch: pytest.MonkeyPatch, case: Case = GEMM, mode: str = "graphs", **script: object
) -> Outcome:
    # A host slow enough that a device which does nothing still needs some of a window's time.
    costs = {"host_us": 20.0, "replay_us": 200.0}
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({**costs, **script}))
    job = Job(
        backend="fake", compile_mode=mode, case=case, weights=Weights(), pace=PACE, repetition=0
    )
    return child.execute(job, lambda phase, expected_s: None)


def rate(outcome: Outcome) -> float:
    workload = registry.workload("gemm")
    metric = workload.metric("flop_s")
    assert metric is not None
    samples = workload.measure(GEMM, outcome.windows).samples["flop_s"]
    value = SampledValue.of(metric, samples).value
    assert value is not None
    return value


@pytest.fixture(scope="module")
def honest() -> Iterator[float]:
    with pytest.MonkeyPatch.context() as patch:
        outcome = run(patch)
    assert (outcome.status, outcome.reason) == ("ok", None)
    yield rate(outcome)


@pytest.mark.parametrize(
    ("lie", "size", "guard"),
    [
        ("barrier", 0.3, "the marks add up to"),
        ("coherent", None, "the barrier did not wait: .* s of work were left"),
        ("timeout", None, "the marks add up to"),
        ("events", None, "the marks add up to"),
        ("events", 2, "no later than the one before|the marks add up"),
        ("pace", 0.95, "the marks add up to"),
        ("swapped", None, "no later than the one before"),
        ("late", 0.02, "the marks add up to"),
        ("jump", 0.01, "the marks add up to"),
        ("clock", 0.5, "the marks add up to"),
        ("memo", None, "on inputs that none had seen"),
        ("memo", 0.5, "on inputs that none had seen"),
        ("coalesce", None, "on inputs that none had seen"),
        ("skip", 60, "no later than the one before|work was left out"),
    ],
)
def test_a_device_that_begins_to_lie_once_it_was_believed_is_caught(
    monkeypatch: pytest.MonkeyPatch, lie: str, size: float | None, guard: str
) -> None:
    script: dict[str, Any] = {"lie": lie, "lie_since": "warm-up", "lie_size": size}
    outcome = run(monkeypatch, **script)
    assert outcome.status == "invalid"
    assert outcome.reason is not None
    assert re.search(guard, outcome.reason), outcome.reason


def test_a_clock_that_goes_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailedError, match="the host's clock went back by"):
        run(monkeypatch, lie="jump", lie_since="warm-up", lie_size=-1.0)


@pytest.mark.parametrize(
    ("lie", "size", "guard"),
    [
        ("newest", 40, "the barrier does not wait"),
        ("timeout", None, "the barrier does not wait"),
        ("coarse", None, "the device's clock moves in steps of 0.001 s"),
        ("coarse", 5e-5, "the device's clock moves in steps of 5e-05 s"),
        ("pinned", None, "a read returns before|nan"),
    ],
)
def test_a_device_that_lies_from_the_start_is_caught_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, lie: str, size: float | None, guard: str
) -> None:
    outcome = run(monkeypatch, lie=lie, lie_size=size)
    assert outcome.status == "invalid"
    assert re.search(guard, outcome.reason or ""), outcome.reason


@pytest.mark.parametrize(
    ("lie", "guard"),
    [
        ("stale", "the marks add up to|a read returned before"),
        ("pinned", "the marks add up to|a read returned before"),
        ("memo", "on inputs that none had seen"),
        ("skip", "work was left out"),
    ],
)
def test_so_is_one_without_events(monkeypatch: pytest.MonkeyPatch, lie: str, guard: str) -> None:
    size = 60 if lie == "skip" else None
    outcome = run(monkeypatch, marks="lagged reads", lie=lie, lie_size=size, lie_since="warm-up")
    assert outcome.status == "invalid"
    assert re.search(guard, outcome.reason or ""), outcome.reason


def test_lagged_reads_need_no_barrier(monkeypatch: pytest.MonkeyPatch, honest: float) -> None:
    outcome = run(monkeypatch, marks="lagged reads", lie="barrier", lie_since="warm-up")
    assert outcome.status == "ok"
    assert rate(outcome) == pytest.approx(honest, rel=0.02)


@pytest.mark.parametrize(
    ("lie", "size"), [("newest", 1), ("late", 5e-4), ("coarse", 1e-3), ("passed", None)]
)
def test_lies_that_are_not_caught_do_not_move_the_rate(
    monkeypatch: pytest.MonkeyPatch, honest: float, lie: str, size: float | None
) -> None:
    outcome = run(monkeypatch, lie=lie, lie_size=size, lie_since="warm-up")
    assert outcome.status == "ok"
    assert rate(outcome) == pytest.approx(honest, rel=0.02)


@pytest.mark.parametrize(("lie", "size"), [("throttle", 0.08), ("shrink", 0.05)])
def test_a_device_that_changes_its_pace_is_not_called_steady(
    monkeypatch: pytest.MonkeyPatch, lie: str, size: float
) -> None:
    outcome = run(monkeypatch, lie=lie, lie_size=size, lie_since="warm-up")
    assert outcome.status == "invalid" or outcome.steadiness != "steady"


def works(now_ns: list[int], passes_s: dict[bool, float]) -> tuple[Clockwork, Step]:
    """A step whose passes take one time on inputs that are new, and another on those before."""

    class Known(Step):
        marks = ("pass",)
        seen: ClassVar[list[int]] = [0]
        at = 0

        def run(self, mark: Mark) -> None:
            new = self.at not in self.seen
            self.seen.append(self.at)
            now_ns[0] += round(passes_s[new] * 1e9)
            mark()

        def vary(self, by: int) -> bool:
            self.at += by
            now_ns[0] += 1000
            return True

    clockwork = Clockwork(
        barrier=lambda: None,
        clock_ns=lambda: now_ns[0],
        recompiles=lambda: 0,
        marks=lambda count: HostMarks(lambda: now_ns[0], count),
        read=lambda tensor: tensor,
        copy=lambda tensor: tensor,
    )
    return clockwork, Known()


def timed(pass_s: float) -> Timed:
    return Timed(marks=("pass",), laps_s=[[pass_s]], wall_s=pass_s, passes=1, how="host clock")


@pytest.mark.parametrize(
    ("new_s", "known_s", "window_s", "words"),
    [
        (0.01, 0.01, 0.01, None),
        (0.0124, 0.01, 0.01, None),
        (0.0126, 0.01, 0.01, "on inputs that none had seen"),
        (0.01, 0.01, 0.0081, None),
        (0.01, 0.01, 0.0079, "work was left out"),
        (0.01, 0.02, 0.02, None),
    ],
)
def test_a_quarter_more_on_other_inputs_is_too_much(
    new_s: float, known_s: float, window_s: float, words: str | None
) -> None:
    clockwork, step = works([0], {True: new_s, False: known_s})
    fault = other_inputs.fault(clockwork, step, timed(window_s), 0.05)
    assert fault is None if words is None else words in (fault or "")
    assert step.at == 0  # type: ignore[attr-defined]


def test_a_program_whose_inputs_cannot_change_is_left_alone() -> None:
    clockwork, _ = works([0], {})

    class Fixed(Step):
        marks = ("pass",)

        def run(self, mark: Mark) -> None:
            raise AssertionError

    assert other_inputs.fault(clockwork, Fixed(), timed(1.0), 0.05) is None


def test_a_prompt_changes_and_comes_back() -> None:
    step = registry.workload("llama-infer").build(
        LLAMA, registry.backend("fake").open("eager"), Weights()
    )
    before = step.prompt_BL.clone()  # type: ignore[attr-defined]
    prompts = []
    for _ in range(5):
        assert step.vary(1)
        prompts.append(step.prompt_BL.clone())  # type: ignore[attr-defined]
    assert all((prompt != before).all() for prompt in prompts)
    assert not step.vary(-5) or torch.equal(step.prompt_BL, before)  # type: ignore[attr-defined]


def test_first_tokens_are_timed_on_a_prompt_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts = []
    plain = LlamaStep._first_token

    def watched(step: LlamaStep, mark: Mark) -> None:
        firsts.append(int(step.prompt_BL[0, 0]))
        plain(step, mark)

    monkeypatch.setattr(LlamaStep, "_first_token", watched)
    outcome = run(monkeypatch, LLAMA)
    assert (outcome.status, outcome.reason) == ("ok", None)
    count = outcome.windows["ttft"].passes
    assert len(set(firsts[-count:])) == count


def test_a_prompt_that_is_still_in_the_cache_is_no_prefill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, known = LlamaStep.prefill, {}

    def cached(step: LlamaStep) -> torch.Tensor:
        key = id(step), str(step.prompt_BL.tolist())
        if key not in known:
            known.clear()
            known[key] = plain(step).clone()
        return known[key]

    monkeypatch.setattr(LlamaStep, "prefill", cached)
    outcome = run(monkeypatch, LLAMA, mode="eager")
    assert outcome.status == "invalid"
    assert "on inputs that none had seen" in str(outcome.reason)
    assert any(c["name"] == "poisoned cache" and c["error"] > 1 for c in outcome.parity)


def test_a_program_that_is_right_in_its_last_pass_alone_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, last = LlamaStep._generate, []

    def hurried(step: LlamaStep, output_len: int, mark: Mark) -> list[torch.Tensor]:
        tokens = plain(step, output_len, mark)
        vocab = step.weights.config.vocab
        # The twin runs once; what is timed is wrong until its outputs are looked at.
        if len(step.prompt_BL) == LLAMA.number("batch") and step.prompt_BL.shape[1] != 28:
            last[:] = [[token.clone() for token in tokens]]
            return [(token + 1) % vocab for token in tokens]
        return tokens

    monkeypatch.setattr(LlamaStep, "_generate", hurried)
    observe = llama_parity.observe

    def looked_at(step: LlamaStep, drawn: Any) -> Any:
        if step.tokens and last and step.prompt_BL.shape[1] != 28:
            step.tokens = last[0]
        return observe(step, drawn)

    monkeypatch.setattr(llama_parity, "observe", looked_at)
    outcome = run(monkeypatch, LLAMA)
    assert outcome.status == "invalid"
    assert "regret of an earlier pass" in str(outcome.reason)


def test_a_side_of_a_duet_that_remembers_is_refused_before_its_first_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lie = {"lie": "memo", "lie_since": "warm-up", "host_us": 20.0, "replay_us": 200.0}
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps(lie))
    job = Job(
        backend="fake", compile_mode="graphs", case=GEMM, weights=Weights(), pace=PACE, repetition=0
    )
    reader, writer = os.pipe()
    duets_child.perform(job, duets_child.Stage(writer), ())
    os.close(writer)
    with os.fdopen(reader) as answers:
        (answer,) = [json.loads(line) for line in answers]
    assert "on inputs that none had seen" in answer["failed"]


def test_a_machine_that_sleeps_in_a_window_voids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = iter([0.0, 0.25] * 99)
    monkeypatch.setattr(prepared, "suspended_s", lambda: next(asleep))
    outcome = run(monkeypatch)
    assert outcome.status == "invalid"
    assert outcome.reason == "the machine was suspended for 0.25 s inside the timed window"


def test_this_machine_has_not_slept_since_a_moment_ago() -> None:
    before = stopwatch.suspended_s()
    assert abs(stopwatch.suspended_s() - before) < prepared.SUSPENDED_S


def test_a_window_that_ends_too_soon_is_timed_again_with_more_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepared.timing, "passes_for", lambda works, warm, pace: 2)
    outcome = run(monkeypatch)
    assert outcome.status == "ok"
    assert outcome.windows["pass"].wall_s > prepared.SHORT * PACE.window_s


def test_a_clock_that_is_untrue_on_one_rank_ends_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks, "from_environment", lambda: ranks.World(rank=0, size=2))
    monkeypatch.setattr(ranks, "join", lambda *_: None)
    monkeypatch.setattr(ranks, "leave", lambda: None)
    monkeypatch.setattr(ranks, "gathered", lambda value, device, size: [value, 1.0])
    monkeypatch.setattr(registry.backend("fake").__class__, "collectives", "gloo")
    outcome = run(monkeypatch)
    assert outcome.status == "invalid"
    assert outcome.reason == "the clock of rank 1 of 2 is not true"


def test_a_peak_of_memory_below_what_the_program_holds_is_none() -> None:
    workload = registry.workload("gemm")
    held = workload.memory_bytes(GEMM)
    assert held is not None
    job: Any = SimpleNamespace(case=GEMM, chips=1)
    for peak, kept in ((held, True), (held // 2, False)):
        samples = {"peak_memory_bytes": [float(peak)]}
        missing: dict[str, str] = {}
        facts._refuse_a_peak_below_its_content(samples, missing, workload, job)
        assert ("peak_memory_bytes" in samples) is kept
        assert ("peak_memory_bytes" in missing) is not kept


def test_reads_that_are_no_numbers_are_alike() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert alike(nan, nan.clone())
    assert not alike(nan, torch.tensor([0.0, 1.0]))


def test_every_lie_has_a_row_in_the_table_of_guards() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs/adr/0010-clock.md").read_text(encoding="utf-8")
    assert [lie for lie in LIES if f"`{lie}`" not in text] == []

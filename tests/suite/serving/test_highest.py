"""The search for the highest rate, over a server whose answer to every load is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tpubench.results import fingerprint
from tpubench.suite import registry
from tpubench.suite.serving import highest
from tpubench.suite.serving.figures import Figures
from tpubench.suite.serving.generator import Generator
from tpubench.suite.serving.load import Load
from tpubench.suite.serving.plan import ServingPlan
from tpubench.suite.serving.rows import Measured, ServingContext
from tpubench.suite.serving.run import Bench
from tpubench.suite.serving.server import Server
from tpubench.suite.serving.slo import parse

Answer = Callable[[float], Measured]
"""What a server does at a rate."""
ALONE_S = 0.5
SLO = parse(["ttft_p90=2"])


def measured(ttft_s: float, e2e_s: float = ALONE_S, good: float = 1.0) -> Measured:
    samples = {
        "ttft_s": [ttft_s] * 64,
        "ttft_p90_s": [ttft_s] * 64,
        "e2e_s": [e2e_s] * 64,
        "goodput_req_s": [good],
        "goodput_tok_s": [32 * good],
    }
    return Measured(status="ok", figures=Figures(samples=samples, reasons={}))


def capacity(most: float) -> Answer:
    """A queue that grows without end above ``most``: its delay is 1 ÷ (most − rate) below it."""

    def answer(rate: float) -> Measured:
        return measured(1 / (most - rate) if rate < most else 60.0, good=min(rate, most))

    return answer


class Scripted(Bench):
    """A bench whose loads are answered by a function of their rate; all else is as ever."""

    answer: Answer
    tried: list[float]

    def _measured(self, load: Load, repetition: int) -> Measured:
        del repetition
        if load.request_rate is None:
            return measured(0.1)
        self.tried.append(load.request_rate)
        return self.answer(load.request_rate)


def bench(answer: Answer, store: Path, repeats: int = 3) -> Scripted:
    service = registry.services()["llama-serve"]
    server = Server(url="http://h", model="m", engine="mock", version=None, max_len=None, here=True)
    generator = Generator(python="python", version="0.13.0")
    plan = ServingPlan(
        run_id="20260101T000000-abcdef",
        service=service,
        loads=service.loads("tiny", {}),
        slo=SLO,
        repeats=repeats,
        timeout_s=1.0,
        server=server.url,
        engine=None,
        model=None,
        generator=generator,
        device="tpu-v6e",
        chips=4,
        dtype="bfloat16",
        price=None,
        notes=[],
    )
    context = ServingContext(
        run_id=plan.run_id,
        service=service,
        server=server,
        generator=generator,
        slo=plan.slo,
        device=plan.device,
        chips=plan.chips,
        dtype=plan.dtype,
        price=None,
        git=fingerprint.GitState(sha=None, dirty=None),
    )
    scripted = Scripted(plan=plan, context=context, where=store, observe=lambda event: None)
    scripted.answer, scripted.tried = answer, []
    return scripted


@pytest.mark.parametrize("most", [0.7, 2.5, 3.0, 37.0, 900.0])
def test_the_highest_rate_that_keeps_the_level_is_found(most: float, tmp_path: Path) -> None:
    """ttft is 2 s at ``most`` − 0.5: the last rate that keeps it."""
    searched = bench(capacity(most), tmp_path)
    highest.search(searched)
    (note,) = highest.keep(searched)
    best = {row.value for row in searched.rows if row.metric == "slo_req_s"}
    assert len(best) == 1
    (rate,) = best
    assert rate is not None
    true = most - 0.5
    assert true / highest.CLOSE <= rate <= true
    assert searched.tried.count(rate) == 3, "it is repeated, for an interval"
    assert len(searched.tried) <= 12 + 2
    assert note.startswith(f"{rate:g} requests/s keep ttft_p90=2; ")
    assert "did not: ttft_p90_s" in note
    assert highest.missed(searched) is None
    chip = [row for row in searched.rows if row.metric == "goodput_tok_s_per_chip"]
    answer = [row for row in chip if '"load":"slo"' in row.params]
    assert len(answer) == 3
    assert all("request_rate" not in row.params for row in answer)
    assert answer[0].value == pytest.approx(32 * rate / 4)


def test_a_level_that_is_never_kept_is_said_with_the_lowest_rate(tmp_path: Path) -> None:
    searched = bench(lambda rate: measured(3.0), tmp_path)
    highest.search(searched)
    assert highest.keep(searched) == []
    said = highest.missed(searched) or ""
    lowest = min(searched.tried)
    assert lowest == 1 / ALONE_S / 16 and len(searched.tried) == 5, (
        "lower is of no use, and takes days"
    )
    assert said.startswith(f"no rate tried keeps ttft_p90=2: at {lowest:g} requests/s, the lowest,")
    assert "ttft_p90_s 3 s, limit 2 s" in said


def test_it_starts_at_half_of_what_a_crowd_gets(tmp_path: Path) -> None:
    """From one request at a time the way up takes the longest loads of all."""

    class Crowded(Scripted):
        def _measured(self, load: Load, repetition: int) -> Measured:
            if load.concurrency in {None, 1}:
                return super()._measured(load, repetition)
            assert (load.concurrency, load.requests) == (16, 64)
            crowd = Figures(samples={"requests_s": [44.0]}, reasons={})
            return Measured(status="ok", figures=crowd)

    searched = bench(capacity(40.0), tmp_path)
    crowded = Crowded(
        plan=searched.plan, context=searched.context, where=tmp_path, observe=lambda event: None
    )
    crowded.answer, crowded.tried = searched.answer, []
    highest.search(crowded)
    assert crowded.tried[0] == 22.0
    assert 39.5 / highest.CLOSE <= crowded.tried[-1] <= 39.5
    assert highest.missed(crowded) is None


def test_a_level_that_requests_alone_do_not_keep_is_not_looked_for(tmp_path: Path) -> None:
    class Slow(Scripted):
        def _measured(self, load: Load, repetition: int) -> Measured:
            assert load.concurrency == 1
            return measured(2.5)

    searched = bench(capacity(1.0), tmp_path)
    slow = Slow(
        plan=searched.plan, context=searched.context, where=tmp_path, observe=lambda event: None
    )
    highest.search(slow)
    assert highest.keep(slow) == []
    assert (highest.missed(slow) or "").startswith(
        "no rate keeps ttft_p90=2: of requests one after another, the median ttft_s 2.5 s, limit 2"
    )


def test_a_generator_that_is_late_bounds_the_answer_and_is_named(tmp_path: Path) -> None:
    late = Measured(status="invalid", reason="the generator was late: p90 9 ms")
    searched = bench(lambda rate: late if rate > 6 else measured(0.1), tmp_path)
    highest.search(searched)
    (note,) = highest.keep(searched)
    assert "did not: the generator was late" in note
    (rate,) = {row.value for row in searched.rows if row.metric == "slo_req_s"}
    assert rate is not None and 6 / highest.CLOSE <= rate <= 6


def test_a_repetition_that_misses_takes_the_rate_back(tmp_path: Path) -> None:
    """What kept the level once and missed it when repeated does not keep it."""
    seen: dict[float, int] = {}

    def answer(rate: float) -> Measured:
        seen[rate] = seen.get(rate, 0) + 1
        return measured(9.0 if rate > 7 or seen[rate] == 3 else 0.1)

    searched = bench(answer, tmp_path)
    highest.search(searched)
    (note,) = highest.keep(searched)
    kept = float(note.split()[0])
    assert kept < max(rate for rate, count in seen.items() if count == 3)


def test_a_search_stops_after_so_many_steps(tmp_path: Path) -> None:
    searched = bench(lambda rate: measured(0.1), tmp_path, repeats=1)
    highest.search(searched)
    assert len(searched.tried) == 12
    (note,) = highest.keep(searched)
    assert note.endswith("no higher rate was tried")
    assert not math.isinf(max(searched.tried))


def test_a_server_that_cannot_be_measured_alone_ends_the_search(tmp_path: Path) -> None:
    class Broken(Scripted):
        def _measured(self, load: Load, repetition: int) -> Measured:
            return Measured(status="invalid", reason="1 of 20 requests failed: HTTP 503 (1)")

    searched = bench(capacity(1.0), tmp_path)
    broken = Broken(
        plan=searched.plan, context=searched.context, where=tmp_path, observe=lambda event: None
    )
    highest.search(broken)
    assert (broken.failed, highest.keep(broken)) == (1, [])

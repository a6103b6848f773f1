"""A load that was not what was asked has a fault, and the fault says what it was.

Each case is AIPerf's real log of a sound run, with one thing wrong in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import LOADS, Recording, recording

from tpubench.suite.serving import arrivals, proof
from tpubench.suite.serving.log import Answer

Answers = list[Answer]


@pytest.fixture
def poisson(tmp_path: Path) -> Recording:
    return recording("poisson", tmp_path)


@pytest.fixture
def closed(tmp_path: Path) -> Recording:
    return recording("closed", tmp_path)


def fault(recorded: Recording, answers: Answers | None = None) -> str | None:
    return proof.prove(recorded.load, recorded.schedule, answers or recorded.answers).fault


def later(answer: Answer, seconds: float) -> Answer:
    """The same request, sent later by so much."""
    moved = {
        name: value + seconds
        for name in ("sent_s", "first_s", "last_s", "ended_s")
        if (value := getattr(answer, name)) is not None
    }
    return replace(answer, **moved)


@pytest.mark.parametrize("name", LOADS)
def test_a_sound_load_has_none(name: str, tmp_path: Path) -> None:
    recorded = recording(name, tmp_path)
    proved = proof.prove(recorded.load, recorded.schedule, recorded.answers)
    assert proved.fault is None
    assert (proved.sent, proved.errors) == (104, 0)
    if recorded.load.request_rate is not None:
        # Against the schedule as drawn: the nominal rate is 4 a second.
        assert proved.asked_req_s is not None and proved.delivered_req_s is not None
        measured = [ask.at_s or 0.0 for ask in recorded.schedule[recorded.load.warm_up :]]
        drawn = (len(measured) - 1) / (measured[-1] - measured[0])
        assert proved.delivered_req_s == pytest.approx(drawn, rel=0.01)
        assert proved.p_value is not None and proved.p_value > arrivals.DELIVERED
        assert proved.tail == "p90"
    else:
        assert proved.mean_in_flight == pytest.approx(4, rel=0.05)


WRONG: dict[str, tuple[Callable[[Answers], Answers], str]] = {
    "a request that failed": (
        lambda a: [*a[:-1], replace(a[-1], error="HTTP 503")],
        "1 of 104 requests failed: HTTP 503 (1)",
    ),
    "a request that was never sent": (lambda a: a[:-1], "logged 103 of 104 requests"),
    "answers that are too short": (
        lambda a: [replace(each, output_tokens=31) for each in a],
        "104 of 104 answers are not as long as asked: 31 tokens in place of 32",
    ),
    "a prompt that the server cut": (
        lambda a: [replace(a[0], input_tokens=60), *a[1:]],
        "1 of 104 prompts are not as long as asked: 60 tokens in place of 64",
    ),
    "tokens that nobody counted": (
        lambda a: [replace(each, output_tokens=None) for each in a],
        "counted no tokens for 104 of 104 requests",
    ),
    "no stream": (lambda a: [replace(a[0], first_s=None), *a[1:]], "does not stream"),
    "a generator that is late": (
        lambda a: [later(each, 0.05 * (n % 2)) for n, each in enumerate(a)],
        "the generator was late: p90 5",
    ),
    "a generator that waits for the server": (
        lambda a: [later(each, max(0.0, 3.0 - n / 10)) for n, each in enumerate(a)],
        "the generator was late",
    ),
    "a generator that falls behind": (
        lambda a: [later(each, 0.01 * n) for n, each in enumerate(a)],
        "the generator was late",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(what: str, poisson: Recording) -> None:
    spoil, words = WRONG[what]
    assert words in (fault(poisson, spoil(poisson.answers)) or "")


def test_a_constant_delay_is_no_fault_and_moves_no_latency(poisson: Recording) -> None:
    """The generator's clock has no zero of its own."""
    moved = [later(each, 5.0) for each in poisson.answers]
    assert fault(poisson, moved) is None


def test_a_generator_of_another_rate_is_noticed_by_its_arrivals(poisson: Recording) -> None:
    """Workers that all draw from one seed send in bursts: the schedule drawn has another shape."""
    asks = poisson.schedule
    bursts = [asks[n // 4 * 4] for n in range(len(asks))]
    recorded = replace(poisson, schedule=bursts)
    zero = poisson.answers[0].sent_s
    sent = [
        later(answer, zero + (ask.at_s or 0.0) - answer.sent_s)
        for answer, ask in zip(poisson.answers, bursts, strict=True)
    ]
    assert "arrivals were not Poisson" in (fault(recorded, sent) or "")


def test_a_closed_loop_that_idles_is_noticed(closed: Recording) -> None:
    lazy = replace(closed, load=replace(closed.load, concurrency=5))
    assert "kept 3.9" in (fault(lazy) or "") or "kept 4" in (fault(lazy) or "")


def test_latency_counts_from_when_a_request_was_due(poisson: Recording) -> None:
    """A generator that sends late, but within bounds, does not hide what users waited."""
    number, late_s = 40, 1.0
    answers = list(poisson.answers)
    answers[number] = later(answers[number], late_s)
    proved = proof.prove(poisson.load, poisson.schedule, answers)
    assert proved.fault is None, "one in 96 is beyond the p90"
    before = proof.prove(poisson.load, poisson.schedule, poisson.answers)
    assert proved.due_s == pytest.approx(before.due_s)


def test_schedules_look_poisson_and_follow_their_seed() -> None:
    first = arrivals.poisson(4.0, 200, seed=7)
    assert first == arrivals.poisson(4.0, 200, seed=7) != arrivals.poisson(4.0, 200, seed=8)
    for seed in range(50):
        at_s = arrivals.poisson(4.0, 64, seed)
        gaps = [b - a for a, b in zip([0.0, *at_s], at_s, strict=False)]
        assert arrivals.p_value(gaps, 4.0) >= arrivals.DRAWN


def test_the_test_of_arrivals_tells_other_processes_apart() -> None:
    generator = random.Random(1)
    even = [0.25] * 64
    faster = [generator.expovariate(8.0) for _ in range(64)]
    jittered = [0.25 + generator.uniform(-0.05, 0.05) for _ in range(64)]
    for gaps in (even, faster, jittered):
        assert arrivals.p_value(gaps, 4.0) < arrivals.DELIVERED

"""Generation by captured calls alone, on the scripted device: one launch a token, and no token that
a later call overwrites."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tpubench.suite import registry
from tpubench.suite.backends import _graphs
from tpubench.suite.backends._asynchronous import Queue, Script, deferred
from tpubench.suite.backends._replays import capture
from tpubench.suite.workload import Device, Weights
from tpubench.workloads.llama.step import LlamaStep

PROMPT, OUTPUT = 5, 6


def built() -> LlamaStep:
    workload = registry.workload("llama-infer")
    settings = {"batch": ["2"], "input_len": [str(PROMPT)], "output_len": [str(OUTPUT)]}
    (case,) = workload.cases("tiny", {**settings, "dtype": ["float32"]})
    case = workload.prepare(case, Weights())
    step = workload.build(case, Device(torch_device="cpu"), Weights())
    assert isinstance(step, LlamaStep)
    return step


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue(Script(flop_s=1e15))
    with deferred(queue):
        yield queue


@pytest.fixture
def step(queue: Queue) -> LlamaStep:
    step = built()
    step.static_shapes = True
    capture(queue, step.to_capture())
    return step


def ids(tokens: list[Tensor]) -> list[list[int]]:
    return [row.tolist() for row in torch.cat(tokens, dim=1)]


def test_between_two_tokens_the_host_launches_once_and_does_nothing_else(
    step: LlamaStep, queue: Queue
) -> None:
    at_us: list[float] = []
    step.run(lambda *_: None)  # captures
    step.run(lambda *_: at_us.append(queue.host_us))
    gaps_us = [later - earlier for earlier, later in itertools.pairwise(at_us)]
    assert len(gaps_us) == OUTPUT - 1
    assert gaps_us == pytest.approx([queue.script.replay_us] * len(gaps_us))


def test_its_tokens_are_those_of_the_program_as_written(step: LlamaStep) -> None:
    plain = built()
    plain.run(lambda *_: None)
    for _ in range(2):  # the first pass captures, the second one replays
        step.run(lambda *_: None)
        assert ids(step.tokens) == ids(plain.tokens)


def test_no_later_call_writes_into_the_tokens_of_a_pass(step: LlamaStep) -> None:
    step.run(lambda *_: None)
    kept, before = list(step.tokens), ids(step.tokens)
    step.prefill()
    for index in range(OUTPUT - 1):
        step.decode(torch.full((2, 1), 3), index)
    assert ids(kept) == before


def test_a_step_may_be_taken_again_from_any_token_of_the_pass(step: LlamaStep) -> None:
    """As the checks do, once the window has closed."""
    plain = built()
    plain.static_shapes = True
    for one in (plain, step):
        one.run(lambda *_: None)
    for index in (0, OUTPUT - 2, 2):
        expected = plain.decode(plain.tokens[index], index)
        torch.testing.assert_close(step.decode(step.tokens[index], index), expected)
    step.prefill()
    torch.testing.assert_close(step.prefill(), plain.prefill())


class Counter(nn.Module):
    """Three places, written one after another."""

    place: Tensor
    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.BatchNorm1d(1)
        self.register_buffer("place", torch.tensor([1]))
        self.register_buffer("places", torch.zeros(3))

    def forward(self) -> None:
        self.places.index_fill_(0, self.place, 1.0)
        self.place.add_(1)


def test_the_runs_before_a_capture_leave_the_state_as_it_was() -> None:
    """Or the first replay would begin where they ended, beyond the last place."""
    counter = Counter()
    _graphs._warm_up(counter, counter)
    assert counter.place.tolist() == [1] and counter.places.tolist() == [0.0] * 3
    counter()
    assert counter.places.tolist() == [0.0, 1.0, 0.0]

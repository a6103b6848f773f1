"""The requests of ``llama-serve``: lengths, seeds, shared prefixes, recorded traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.serving.load import Ask, Load

SERVICE = registry.services()["llama-serve"]


def one(preset: str, **settings: str) -> Load:
    (load,) = SERVICE.loads(preset, {key: [value] for key, value in settings.items()})
    return load


@pytest.mark.parametrize("preset", ["1k-1k", "8k-1k", "chat", "tiny"])
def test_prompts_have_the_length_asked_and_follow_the_seed(preset: str) -> None:
    load = one(preset, concurrency="1", requests="8")
    asks = SERVICE.asks(load, 1)
    assert len(asks) == load.warm_up + 8
    assert {len(ask.prompt) for ask in asks} == {load.input_len}
    assert {ask.output_len for ask in asks} == {load.output_len}
    assert asks == SERVICE.asks(load, 1) != SERVICE.asks(load, 2)
    assert len({ask.prompt for ask in asks}) == len(asks), "no prompt is sent twice"
    assert all(0 <= each < 32_000 for ask in asks for each in ask.prompt)


def test_no_load_or_repetition_repeats_another_ones_prompts() -> None:
    loads = SERVICE.loads("tiny", {"request_rate": ["1", "2"], "concurrency": ["4"]})
    seeds = {load.seed_of(repetition) for load in loads for repetition in range(3)}
    assert len(seeds) == 9


def shared(a: Ask, b: Ask) -> int:
    """Tokens at the start that two prompts share."""
    pairs = zip(a.prompt, b.prompt, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), len(a.prompt))


def test_a_chat_shares_its_first_tokens_and_no_other_shape_does() -> None:
    for preset, least, most in (("chat", 1536, 1540), ("1k-1k", 0, 2)):
        asks = SERVICE.asks(one(preset, concurrency="1", requests="4"), 3)
        assert all(least <= shared(asks[0], ask) <= most for ask in asks[1:])


LINES = (
    {"timestamp": 2500, "input_length": 1100, "output_length": 7, "hash_ids": [1, 2, 9]},
    {"timestamp": 1000, "input_length": 1030, "output_length": 5, "hash_ids": [1, 2, 3]},
    {"timestamp": 1500, "input_length": 300, "output_length": 6},
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n", encoding="utf-8")
    return path


def test_a_trace_is_replayed_by_its_own_clock_with_what_it_shared(trace: Path) -> None:
    load = one("trace", trace=str(trace))
    asks = SERVICE.asks(load, 5)
    assert [ask.at_s for ask in asks] == [0.0, 0.5, 1.5]
    assert [len(ask.prompt) for ask in asks] == [1030, 300, 1100]
    assert [ask.output_len for ask in asks] == [5, 6, 7]
    assert shared(asks[0], asks[2]) == 1024, "two blocks of 512 tokens"
    assert load.params["load"] == "trace"
    assert load.params["trace"] == "trace.jsonl", "its name, not where it lies"


def test_a_trace_at_a_rate_keeps_its_bursts(trace: Path) -> None:
    asks = SERVICE.asks(one("trace", trace=str(trace), request_rate="4"), 5)
    assert [ask.at_s for ask in asks] == pytest.approx([0.0, 0.5 / 3, 0.5])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("3", "line 1 is no JSON object"),
        ('{"timestamp": "now"}', "timestamp is no number"),
        ('{"timestamp": NaN, "input_length": 1, "output_length": 1}', "timestamp is no number"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 1}', "input_length is no count"),
        ('{"timestamp": 0, "input_length": 1e9, "output_length": 1}', "input_length is no count"),
        ('{"timestamp": 0, "input_length": 1}', "output_length is no count"),
        (
            '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": "x"}',
            "hash_ids is no list",
        ),
        ("", "holds no request"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        one("trace", trace=str(path))


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        one("trace", trace=str(tmp_path / "none"))


MOONCAKE = """\
{"timestamp": 9000, "input_length": 8772, "output_length": 1, "hash_ids": [0, 859, 860, 861, 862,\
 863, 864, 865, 866, 867, 868, 869, 870, 871, 872, 873, 874, 875]}
{"timestamp": 9000, "input_length": 2293, "output_length": 31, "hash_ids": [0, 959, 960, 961, 962]}
{"timestamp": 15000, "input_length": 898, "output_length": 324, "hash_ids": [0, 1099]}
{"timestamp": 18000, "input_length": 898, "output_length": 57, "hash_ids": [0, 1496]}
"""
"""Of kvcache-ai/Mooncake (a2a4b18), FAST25-release/traces/conversation_trace.jsonl."""


def test_a_recording_of_others_is_replayed_as_it_was(tmp_path: Path) -> None:
    """Two at once, an answer of one token, blocks of which the last is not full."""
    path = tmp_path / "conversation_trace.jsonl"
    path.write_text(MOONCAKE, encoding="utf-8")
    asks = SERVICE.asks(one("trace", trace=str(path)), 1)
    assert [(len(ask.prompt), ask.output_len, ask.at_s) for ask in asks] == [
        (8772, 1, 0.0), (2293, 31, 0.0), (898, 324, 6.0), (898, 57, 9.0),
    ]  # fmt: skip
    assert {shared(a, b) for a in asks for b in asks if a != b} <= {512, 513}

"""vLLM for real, on the cores of this machine, serving SmolLM2: started, loaded, read back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import smollm2
from command_line import Call, caller

from tpubench.errors import RunFailedError
from tpubench.suite.serving import engine, generator

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]
RUN = ("run", "--workload", "llama-serve", "--repeats", "1")
START = (*RUN, "--engine", "vllm", "--dtype", "bfloat16")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    for there, make in ((generator.find, generator.MAKE), (engine.installed, engine.MAKE)):
        try:
            there()
        except RunFailedError:
            pytest.skip(f"it is not installed: {make} builds its environment")
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path))
    return caller(monkeypatch, capfd)


@pytest.fixture
def server(call: Call) -> Iterator[str]:
    """A vLLM that runs already, for up to 512 tokens."""
    del call
    python, package, version = engine.installed()
    started = engine.Engine(
        name="vllm", python=python, package=package, version=version, device="cpu", chips=1,
        source=str(smollm2.folder()), model="smollm2", dtype="bfloat16",
    )  # fmt: skip
    with engine.started(started, 512, 600.0) as (url, _):
        yield url


def rows_of(done: Any) -> dict[str, Any]:
    assert done.code == 0, done
    return {row["metric"]: row for row in json.loads(done.out)["rows"]}


def test_its_figures_are_those_that_aiperf_gives_of_the_same_run(call: Call) -> None:
    done = call(
        *(*START, "--preset", "tiny", "--weights", str(smollm2.folder()), "--json"),
        *("--set", "concurrency=1", "--set", "requests=24", "--set", "warm_up=0"),
    )
    rows = rows_of(done)
    assert 1 < rows["cold_start_s"]["value"] < 600
    assert (rows["ttft_s"]["backend"], rows["ttft_s"]["device"]) == ("vllm", "cpu")
    assert rows["answer_tokens"]["samples"] == [32.0] * 24
    _are_aiperfs(rows)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_what_its_cache_of_prefixes_gave_is_counted_once(
    endpoint: str, server: str, call: Call
) -> None:
    """By its own counters, before and after: of every token that it looked up, the share it had."""
    before = _counters(server)
    done = call(
        *(*RUN, "--server", server, "--preset", "chat", "--endpoint", endpoint, "--json"),
        *("--set", "input_len=448", "--set", "prefix_len=384", "--set", "output_len=8"),
        *("--set", "concurrency=1", "--set", "requests=12", "--set", "warm_up=0"),
    )
    rows = rows_of(done)
    assert rows["prompt_tokens"]["samples"] == [448.0] * 12
    after = _counters(server)
    hits = after["hits"] - before["hits"]
    assert rows["cached_share"]["value"] == pytest.approx(hits / (12 * 448), abs=0.01)
    # The first request finds nothing, the others the shared part, in blocks of 128 tokens on a CPU.
    assert 11 / 12 * 256 / 448 <= rows["cached_share"]["value"] <= 11 / 12 * 400 / 448
    _are_aiperfs(rows)


def test_a_model_that_does_not_take_as_many_tokens_is_said_in_a_line(call: Call) -> None:
    said = call(
        *(*START, "--preset", "8k-1k", "--weights", str(smollm2.folder())),
        *("--set", "concurrency=1"),
    ).error(5)
    assert "max_model_len (9216) is greater than the derived max_model_len" in said


def _are_aiperfs(rows: dict[str, Any]) -> None:
    says = rows["ttft_s"]["environment"]["generator_says"]
    for metric, its, scale in (
        ("ttft_s", "time_to_first_token_p50", 1e3),
        ("e2e_s", "request_latency_p50", 1e3),
        ("tpot_s", "inter_token_latency_p50", 1e3),
        ("output_tok_s", "output_token_throughput_avg", 1.0),
        ("requests_s", "request_throughput_avg", 1.0),
    ):
        # Its duration ends a moment later: when the last answer had been read.
        rel = 1e-6 if scale > 1 else 5e-3
        assert scale * rows[metric]["value"] == pytest.approx(says[its], rel=rel), metric


def _counters(url: str) -> dict[str, float]:
    """Tokens that vLLM looked up in its cache of prefixes, and found there, since it started."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(f"vllm:prefix_cache_{name}_total{{")
        )
        for name in ("hits", "queries")
    }

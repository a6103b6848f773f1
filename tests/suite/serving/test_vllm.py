"""vLLM for real, on the cores of this machine, serving SmolLM2: started, loaded, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import smollm2
from command_line import caller

from tpubench.errors import RunFailedError
from tpubench.suite.serving import engine, generator

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]


@pytest.fixture
def vllm() -> None:
    for there, make in ((generator.find, generator.MAKE), (engine.installed, engine.MAKE)):
        try:
            there()
        except RunFailedError:
            pytest.skip(f"it is not installed: {make} builds its environment")


@pytest.mark.usefixtures("vllm")
def test_its_figures_are_those_that_aiperf_gives_of_the_same_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call = caller(monkeypatch, capfd)
    done = call(
        *("run", "--workload", "llama-serve", "--engine", "vllm", "--preset", "tiny"),
        *("--weights", str(smollm2.folder()), "--dtype", "bfloat16", "--repeats", "1"),
        *("--set", "concurrency=1", "--set", "requests=24", "--set", "warm_up=0"),
        *("--store", str(tmp_path), "--json"),
    )
    assert done.code == 0, done
    rows = {row["metric"]: row for row in json.loads(done.out)["rows"]}
    assert 1 < rows["cold_start_s"]["value"] < 600
    assert (rows["ttft_s"]["backend"], rows["ttft_s"]["device"]) == ("vllm", "cpu")
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
    assert rows["answer_tokens"]["samples"] == [32.0] * 24

"""``tpubench run --workload llama-serve`` as a user types it, with AIPerf for real.

The server is a mock on the loopback interface. Nothing here depends on how fast this machine is:
whether a generator is late is tested on recorded logs.
"""

from __future__ import annotations

import itertools
import json
import socket
from pathlib import Path
from typing import Any

import mock_server
import pytest
from command_line import Call

from tpubench.errors import UsageError
from tpubench.results.metrics import METRICS
from tpubench.suite import registry
from tpubench.suite.serving import engine, generator

LOAD = ("run", "--workload", "llama-serve", "--preset", "tiny")
QUICK = {"ttft_s": 0.05, "itl_s": 0.005}
LONG = {"ttft_s": 1.0, "itl_s": 0.005}
"""So long that what a busy machine takes between two requests of a closed loop is little of it."""


def document(out: str) -> dict[str, Any]:
    answer = json.loads(out)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.usefixtures("aiperf")
def test_a_closed_loop_is_measured_stored_and_priced(call: Call) -> None:
    with mock_server.running(**LONG) as server:
        done = call(
            *(*LOAD, "--server", server.url, "--set", "concurrency=4", "--repeats", "1"),
            *("--slo", "ttft_p90=5", "--device", "v6e", "--chips", "4", "--dtype", "bf16"),
            *("--usd-per-chip-hour", "2", "--power-w", "700", "--json"),
        )
    text = document(done.out)
    assert done.code == 0, done
    rows = {row["metric"]: row for row in text["rows"]}
    for metric in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "ttft_p90_s", "goodput_tok_s"):
        assert rows[metric]["value"] > 0, metric
    assert (rows["ttft_s"]["device"], rows["ttft_s"]["chips"]) == ("tpu-v6e", 4)
    assert (rows["ttft_s"]["preset"], rows["ttft_s"]["dtype"]) == ("mock-model", "bfloat16")
    assert len(rows["ttft_s"]["samples"]) == 64
    assert sum(rows["answer_tokens"]["samples"]) == 64 * 32
    assert len(rows["itl_s"]["samples"]) == 64 * 31
    bill = 1e6 * 4 * 2 / 3600 / rows["goodput_tok_s"]["value"]
    assert rows["usd_per_mtok_slo"]["value"] == pytest.approx(bill)
    energy = rows["joules_per_token"]
    assert energy["value"] == pytest.approx(700 / rows["output_tok_s"]["value"])
    assert (energy["evidence"], rows["ttft_s"]["evidence"]) == ("modelled", "measured")
    assert energy["reason"] == "700 W as stated (--power-w), not metered, ÷ output_tok_s"
    assert rows["ttft_p99_s"]["reason"] == "a p99 needs 662 requests, not 64"
    assert rows["ttft_s"]["environment"]["generator_says"]["time_to_first_token_p50"] > 0
    assert len(server.stamps) == 64 + 4, "the warm-up is sent, and left out"
    assert call("verify").code == 0
    shown = call("show", "latest", "metric=goodput_tok_s_per_chip")
    assert "goodput_tok_s_per_chip" in shown.out


@pytest.mark.usefixtures("aiperf")
def test_a_server_that_dies_leaves_what_was_measured(call: Call, tmp_path: Path) -> None:
    # The first repetition sends 12 requests, the second is cut short.
    with mock_server.running(**LONG, die_after=18) as server:
        done = call(
            *(*LOAD, "--server", server.url, "--set", "concurrency=2", "--set", "requests=8"),
            *("--repeats", "3", "--timeout", "30", "--json"),
        )
    assert done.code == 5
    (line,) = done.err.strip().splitlines()[-1:]
    assert f"{server.url} stopped answering" in line
    assert "what was measured is kept in" in line
    rows = document(done.out)["rows"]
    states = {(row["repetition"], row["status"]) for row in rows}
    assert states == {(0, "ok"), (1, "failed")}
    assert "requests failed" in next(row["reason"] for row in rows if row["status"] == "failed")
    assert call("verify").code == 0


@pytest.mark.usefixtures("aiperf")
def test_a_level_that_no_rate_keeps_is_said_and_exits_1(call: Call) -> None:
    with mock_server.running(**QUICK) as server:
        done = call(
            *(*LOAD, "--server", server.url, "--set", "request_rate=8", "--repeats", "1"),
            *("--slo", "ttft_p90=0.001", "--json"),
        )
    assert done.code == 1, done
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("tpubench: error: no rate tried keeps ttft_p90=0.001: at 8 requests/s")
    assert document(done.out)["rows"]


def test_a_missing_generator_is_named_with_its_command(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(generator.VARIABLE, raising=False)
    monkeypatch.setattr(generator, "FOLDER", "no-such-folder")
    said = call(*LOAD, "--server", "http://127.0.0.1:9", "--set", "concurrency=1").error(5)
    assert "AIPerf is not installed: make serve-env in " in said
    assert "export TPUBENCH_AIPERF_PYTHON=PATH" in said


def test_a_missing_engine_is_named_with_its_command(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    monkeypatch.setattr(engine, "FOLDER", "no-such-folder")
    start = (*LOAD, "--engine", "vllm", "--set", "concurrency=1")
    said = call(*start, "--model", "m").error(5)
    assert "vLLM is not installed: make vllm-env in " in said
    assert "export TPUBENCH_VLLM_PYTHON=PATH" in said
    said = call(*start, "--weights", str(tmp_path)).error(2)
    assert said == f"--weights {tmp_path} is no safetensors folder: no config.json"


def test_a_python_without_the_generator_is_named(call: Call) -> None:
    import sys

    said = call(
        *(*LOAD, "--server", "http://127.0.0.1:9", "--set", "concurrency=1"),
        *("--python", sys.executable),
    ).error(5)
    assert "has no AIPerf: " in said and "-m pip install 'aiperf==0.13.*'" in said


@pytest.mark.usefixtures("aiperf")
def test_an_unreachable_server_is_named(call: Call) -> None:
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        said = call(*LOAD, "--server", url, "--set", "concurrency=1").error(5)
    assert said.startswith(f"cannot reach {url}: Connection refused; start the server")


@pytest.mark.usefixtures("aiperf")
@pytest.mark.parametrize(
    ("behaviour", "options", "code", "words"),
    [
        ({}, ("--model", "gpt-5"), 2, "has no model 'gpt-5'; it has mock-model"),
        ({"max_model_len": 64}, (), 2, "takes 64 tokens of prompt and answer"),
        ({"report_usage": False}, (), 5, "does not count tokens"),
        ({"fail_every": 1}, (), 5, "answered HTTP 500: made to fail"),
    ],
)
def test_a_server_that_will_not_do_is_refused_before_the_load(
    behaviour: dict[str, Any], options: tuple[str, ...], code: int, words: str, call: Call
) -> None:
    with mock_server.running(**behaviour) as server:
        said = call(*LOAD, "--server", server.url, "--set", "concurrency=1", *options).error(code)
    assert words in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "needs one of --server URL and --engine vllm"),
        (("--server", "http://h", "--engine", "vllm"), "needs one of --server URL and --engine"),
        (("--engine", "tgi"), "unknown engine 'tgi'; known: vllm"),
        (("--engine", "vllm"), "needs --weights DIR"),
        (("--server", "http://h", "--preset", "2k"), "has no preset '2k'; it has 1k-1k"),
        (("--server", "http://h", "--set", "batch=1"), "has no parameter 'batch'"),
        (("--server", "http://h", "--set", "request_rate=0"), "is not a rate above 0"),
        (("--server", "http://h", "--set", "request_rate=nan"), "is not a rate above 0"),
        (("--server", "http://h", "--set", "concurrency=0"), "concurrency=0 is below 1"),
        (("--server", "http://h", "--set", "seed=1,2"), "only request_rate and concurrency"),
        (("--server", "http://h"), "give --set request_rate=R or --set concurrency=N"),
        (("--server", "http://h", "--slo", "ttft_p99=1"), "needs 662 requests, tiny has 64"),
        (("--server", "http://h", "--set", "concurrency=64"), "needs at least 128 requests"),
        (("--server", "http://h", "--set", "prefix_len=64"), "leaves nothing of input_len=64"),
        (("--server", "http://h", "--set", "trace=x"), "goes with --preset trace"),
        (("--server", "http://h", "--preset", "trace"), "needs --set trace=FILE"),
        (("--server", "http://h", "--backend", "cpu"), "--backend means nothing"),
        (("--server", "http://h", "--device", "abacus"), "'abacus' is no known device"),
        (("--server", "http://h", "--repeats", "0"), "--repeats 0 is below 1"),
        (("--server", "http://h", "--set", "requests=1000000000"), "more than a load may have"),
        (("--server", "http://h", "--set", "input_len=1000000000"), "more than a load may have"),
        (("--server", "http://h", "--set", "output_len=1000000000"), "more than a load may have"),
        (("--server", "http://h", "--weights", "w"), "--weights goes with --engine"),
        (("--server", "http://h", "--chips", "0"), "--chips 0 is not a count of 1 to 1,000,000"),
        (("--server", "http://h", "--chips", "-4"), "--chips -4 is not a count"),
        (("--server", "http://h", "--power-w", "0"), "--power-w 0 is not a power"),
        (("--server", "http://h", "--power-w", "nan"), "--power-w nan is not a power"),
        (("--server", "http://h", "--power-w", "-5"), "--power-w -5 is not a power"),
    ],
)
def test_bad_usage_is_one_line(options: tuple[str, ...], words: str, call: Call) -> None:
    base = LOAD[:3] if "--preset" in options else LOAD
    assert words in call(*base, *options, "--dry-run").error(2)


def test_options_of_a_server_mean_nothing_to_a_program(call: Call) -> None:
    said = call("run", "--workload", "gemm", "--server", "http://h").error(2)
    assert said == "--server goes with --workload llama-serve"
    with pytest.raises(UsageError, match="llama-serve runs against a server"):
        registry.workload("llama-serve")


def test_a_dry_run_says_what_would_be_sent(call: Call) -> None:
    plan = call(
        *(*LOAD, "--server", "http://h:1", "--set", "request_rate=0.5,2", "--set", "concurrency=8"),
        *("--slo", "tpot_p90=0.1", "--dry-run", "--json"),
    ).json()
    loads = [
        (case["load"], case.get("request_rate"), case.get("concurrency")) for case in plan["cases"]
    ]
    assert loads == [("closed", None, 8), ("poisson", 0.5, None), ("poisson", 2, None)]
    assert {case["slo"] for case in plan["cases"]} == {"tpot_p90=0.1"}
    text = call(*LOAD, "--server", "http://h:1", "--slo", "tpot_p90=0.1", "--dry-run").out
    assert "highest rate that keeps the SLO" in text
    assert max(map(len, text.splitlines())) <= 80


def test_it_is_listed_with_its_shapes(call: Call) -> None:
    assert "llama-serve" in {row["name"] for row in call("list", "workloads", "--json").json()}
    presets = call("list", "presets", "--json").json()
    shapes = [row["preset"] for row in presets if row["workload"] == "llama-serve"]
    assert shapes == ["1k-1k", "8k-1k", "chat", "trace", "tiny"]
    assert {"goodput_tok_s", "usd_per_mtok_slo", "ttft_p99_s"} <= METRICS.keys()


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("aiperf")
def test_the_highest_rate_of_a_server_of_two_slots_is_below_its_capacity(call: Call) -> None:
    """Each request takes 1.155 s of one of two slots: 1.73 requests/s are the most there can be."""
    with mock_server.running(**LONG, slots=2) as server:
        done = call(
            *(*LOAD, "--server", server.url, "--slo", "ttft_p90=3", "--repeats", "1", "--json"),
        )
    assert done.code == 0, done
    (text,) = [row for row in document(done.out)["rows"] if row["metric"] == "slo_req_s"]
    assert 0.5 < text["value"] < 1.73
    assert text["params"]["load"] == "slo"
    assert "requests/s keep ttft_p90=3; " in text["reason"]
    assert call("verify").code == 0


@pytest.mark.nightly
@pytest.mark.usefixtures("aiperf")
def test_a_trace_is_replayed(call: Call, tmp_path: Path) -> None:
    """What reached the server is the trace, whether or not this machine was busy meanwhile."""
    path = tmp_path / "trace.jsonl"
    lines = [
        {"timestamp": 500 * n, "input_length": 600 + n, "output_length": 8, "hash_ids": [1, n]}
        for n in range(66)
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with mock_server.running(**QUICK) as server:
        done = call(
            *("run", "--workload", "llama-serve", "--preset", "trace", "--server", server.url),
            *("--set", f"trace={path}", "--set", "warm_up=2", "--repeats", "1", "--json"),
        )
    assert [stamp.prompt_tokens for stamp in server.stamps] == [600 + n for n in range(66)]
    gaps = [b.arrived_s - a.arrived_s for a, b in itertools.pairwise(server.stamps)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.5, rel=0.05)
    rows = {row["metric"]: row for row in document(done.out)["rows"]}
    if done.code == 5:  # late, and then there is no figure
        (row,) = rows.values()
        assert row["status"] == "invalid" and "the generator was late: p90" in row["reason"]
        return
    assert rows["prompt_tokens"]["samples"] == [602.0 + n for n in range(64)]
    assert rows["arrival_s"]["samples"] == pytest.approx([0.5 * n for n in range(64)], abs=1e-3)
    assert rows["ttft_s"]["params"]["trace"] == "trace.jsonl"

"""What is read out of real logs of AIPerf: the server's own stamps, and AIPerf's own figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recorded import LOADS, Recording, recording

from tpubench.results.statistics import median
from tpubench.suite.serving import proof
from tpubench.suite.serving.figures import Figures, figures
from tpubench.suite.serving.slo import Slo, parse

CLOSE = pytest.approx


def read(recorded: Recording, slo: Slo | None = None) -> Figures:
    proved = proof.prove(recorded.load, recorded.schedule, recorded.answers)
    assert proved.fault is None
    return figures(recorded.load, recorded.answers, proved, slo or Slo())


@pytest.mark.parametrize("name", LOADS)
def test_a_server_of_known_timing_is_read_back_within_two_percent(
    name: str, tmp_path: Path
) -> None:
    recorded = recording(name, tmp_path)
    samples, stamps = read(recorded).samples, recorded.stamps
    window_s = max(s.last_s for s in stamps) - min(s.arrived_s for s in stamps)
    tokens = sum(s.output_tokens for s in stamps)
    for metric, own in {
        "ttft_s": [s.first_s - s.arrived_s for s in stamps],
        "e2e_s": [s.last_s - s.arrived_s for s in stamps],
        "tpot_s": [(s.last_s - s.first_s) / (s.output_tokens - 1) for s in stamps],
    }.items():
        assert median(samples[metric]) == CLOSE(median(own), rel=0.02), metric
        assert len(samples[metric]) == len(own)
    assert samples["output_tok_s"][0] == CLOSE(tokens / window_s, rel=0.02)
    assert median(samples["itl_s"]) == CLOSE(0.02, rel=0.02)


def test_a_stall_of_two_seconds_shows_as_it_was(tmp_path: Path) -> None:
    recorded = recording("stall", tmp_path)
    samples = read(recorded).samples
    own = [s.first_s - s.arrived_s for s in recorded.stamps]
    assert max(samples["ttft_s"]) == CLOSE(max(own), rel=0.02)
    assert max(samples["ttft_s"]) > 1.9
    late = [sum(t > 1.0 for t in side) for side in (own, samples["ttft_s"])]
    assert late[0] == late[1] > 4
    assert max(samples["itl_s"]) == CLOSE(2.0, rel=0.02)
    slo = parse(["ttft_p90=1"])
    good = read(recorded, slo).samples["goodput_req_s"][0] / samples["requests_s"][0]
    assert good == CLOSE(1 - late[1] / recorded.load.requests)


@pytest.mark.parametrize("name", LOADS)
def test_figures_are_aiperfs_own_where_they_mean_the_same(name: str, tmp_path: Path) -> None:
    """With the warm-up counted, which AIPerf does not tell apart here."""
    recorded = recording(name, tmp_path)
    recorded = replace(
        recorded, load=replace(recorded.load, warm_up=0, requests=recorded.load.requests + 8)
    )
    samples, summary = read(recorded).samples, recorded.summary
    lag_s = samples["send_lag_s"]
    for metric, its in (("ttft_s", "time_to_first_token"), ("e2e_s", "request_latency")):
        since_sent = [each - lag for each, lag in zip(samples[metric], lag_s, strict=True)]
        assert 1e3 * median(since_sent) == CLOSE(summary[its]["p50"], rel=1e-6), metric
    assert 1e3 * median(samples["tpot_s"]) == CLOSE(summary["inter_token_latency"]["p50"], rel=1e-6)
    gaps_ms = [1e3 * gap for gap in samples["itl_s"]]
    assert median(gaps_ms) == CLOSE(summary["inter_chunk_latency"]["p50"], rel=1e-6)
    assert len(gaps_ms) == summary["inter_chunk_latency"]["count"]
    # Its duration starts when the first request was sent, and ends when the last one was read.
    for metric, its in (
        ("output_tok_s", "output_token_throughput"),
        ("requests_s", "request_throughput"),
    ):
        assert samples[metric][0] == CLOSE(summary[its]["avg"], rel=2e-3), metric
    assert sum(samples["answer_tokens"]) == summary["total_osl"]["avg"]


def test_percentiles_need_enough_requests(tmp_path: Path) -> None:
    recorded = recording("poisson", tmp_path)
    read_back = read(recorded)
    assert "ttft_p90_s" in read_back.samples
    assert "ttft_p99_s" not in read_back.samples
    assert read_back.reasons["ttft_p99_s"] == "a p99 needs 662 requests, not 96"


def test_gaps_are_those_of_answers_whose_every_chunk_is_a_token(tmp_path: Path) -> None:
    """A server that bundles tokens, or holds back half a character, has other gaps than tokens."""
    recorded = recording("poisson", tmp_path)
    for bundled, gaps in ((10, 86 * 31), (96, 0)):
        answers = [
            replace(a, gaps_s=a.gaps_s[1:]) if 0 <= a.number - 8 < bundled else a
            for a in recorded.answers
        ]
        read_back = read(replace(recorded, answers=answers))
        assert len(read_back.samples.get("itl_s", [])) == gaps
        words = "86 of 96 answers" if gaps else "a chunk is not a token here"
        assert words in read_back.reasons["itl_s"]
    assert "itl_s" not in read(recorded).reasons


def test_stamps_of_every_request_are_kept(tmp_path: Path) -> None:
    recorded = recording("poisson", tmp_path)
    samples = read(recorded).samples
    for metric in ("arrival_s", "send_lag_s", "ttft_s", "e2e_s", "prompt_tokens", "answer_tokens"):
        assert len(samples[metric]) == recorded.load.requests
    asked = [ask.at_s or 0.0 for ask in recorded.schedule[recorded.load.warm_up :]]
    assert samples["arrival_s"] == CLOSE([at - asked[0] for at in asked], abs=1e-6)
    assert min(samples["send_lag_s"]) >= 0

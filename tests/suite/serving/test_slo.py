"""Service levels: what is typed, what a load missed, which requests are good."""

from __future__ import annotations

import pytest

from tpubench.errors import UsageError
from tpubench.suite.serving.slo import parse


def test_goals_are_named_by_latency_percentile_and_seconds() -> None:
    slo = parse(["tpot_p99=0.1", "ttft_p99=2"])
    assert str(slo) == str(parse(["ttft_p99=2.0", "tpot_p99=.1"])) == "tpot_p99=0.1 ttft_p99=2"
    assert [goal.metric for goal in slo.goals] == ["tpot_p99_s", "ttft_p99_s"]
    assert parse(["e2e_p50=3"]).goals[0].metric == "e2e_s"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft_p99", "write NAME=SECONDS"),
        ("ttft=2", "write NAME=SECONDS"),
        ("ttft_p95=2", "write NAME=SECONDS"),
        ("itl_p99=2", "write NAME=SECONDS"),
        ("ttft_p99=", "not a number of seconds above 0"),
        ("ttft_p99=0", "not a number of seconds above 0"),
        ("ttft_p99=-1", "not a number of seconds above 0"),
        ("ttft_p99=nan", "not a number of seconds above 0"),
        ("ttft_p99=inf", "not a number of seconds above 0"),
        ("ttft_p99=2s", "not a number of seconds above 0"),
    ],
)
def test_anything_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse([text])


def test_a_goal_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="ttft_p99 is given twice"):
        parse(["ttft_p99=1", "ttft_p99=2"])


def test_percentiles_say_how_many_requests_they_need() -> None:
    needs = {"ttft_p50=1": 1, "ttft_p90=1": 64, "ttft_p99=1": 662}
    assert {text: parse([text]).least_requests for text in needs} == needs
    assert parse([]).least_requests == 1


def test_a_missing_figure_is_a_missed_goal() -> None:
    slo = parse(["ttft_p99=2", "tpot_p99=0.1"])
    assert slo.missed({"ttft_p99_s": 2.0, "tpot_p99_s": 0.1}) == []
    assert slo.missed({"ttft_p99_s": 2.5, "tpot_p99_s": None}) == [
        "tpot_p99_s is not known",
        "ttft_p99_s 2.5 s, limit 2 s",
    ]


def test_a_request_is_good_when_it_keeps_every_limit_itself() -> None:
    slo = parse(["ttft_p99=2", "tpot_p99=0.1"])
    assert slo.good({"ttft": 2.0, "tpot": 0.1, "e2e": 9.0})
    assert not slo.good({"ttft": 2.1, "tpot": 0.05, "e2e": 3.0})
    assert slo.good({"ttft": 1.0, "tpot": None, "e2e": 1.0}), "an answer of one token has no TPOT"

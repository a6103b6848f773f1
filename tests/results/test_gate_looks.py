"""Sequential verdicts: what is spent, what is said, and how often it is wrong."""

from __future__ import annotations

import math
import random

import pytest

from tpubench.results.gate.looks import LOOKS, judge, minimum_detectable, spent
from tpubench.results.gate.policy import Policy

POLICY = Policy()


def pairs(ratio: float, sigma: float, seed: int, n: int = 40) -> list[float]:
    chance = random.Random(seed)
    return [math.log(ratio) + chance.gauss(0, sigma) for _ in range(n)]


def test_the_looks_spend_the_whole_error_and_no_more() -> None:
    shares = [spent(0.01, look) for look in range(len(LOOKS))]
    assert math.fsum(shares) == pytest.approx(0.01)
    assert all(share > 0 for share in shares)
    assert shares[0] == pytest.approx(0.01 * math.log(1 + (math.e - 1) / 4))


def test_clear_cases_are_decided_at_the_first_look() -> None:
    for ratio, verdict in ((1.0, "ok"), (0.8, "ok"), (1.05, "regressed"), (1.5, "regressed")):
        judged = judge(pairs(ratio, 0.01, 1), POLICY)
        assert (judged.verdict, judged.final, judged.pairs) == (verdict, True, LOOKS[0])
        assert judged.worse is not None and judged.worse.point == pytest.approx(ratio, rel=0.02)


def test_nothing_is_said_between_looks() -> None:
    judged = judge(pairs(1.5, 0.01, 1, n=9), POLICY)
    assert (judged.verdict, judged.final) == ("inconclusive", False)
    assert judge([], POLICY).worse is None


def test_too_much_noise_is_inconclusive_and_says_what_could_be_seen() -> None:
    judged = judge(pairs(1.04, 0.4, 3), POLICY)
    assert (judged.verdict, judged.final) == ("inconclusive", True)
    assert judged.sigma is not None and minimum_detectable(judged.sigma, POLICY) > 1.2


def test_noise_that_would_hide_the_limit_is_never_ok() -> None:
    for seed in range(50):
        assert judge(pairs(0.8, 0.12, seed), POLICY).verdict != "ok"


def test_no_pairs_are_asked_for_that_could_prove_nothing() -> None:
    ended = [judge(pairs(1.0, 0.3, seed), POLICY).pairs for seed in range(100)]
    assert sum(n == LOOKS[0] for n in ended) > 50 and sum(n == LOOKS[-1] for n in ended) < 25
    # An alarm that may yet come is waited for; and where ok can come, nothing is given up.
    doubled = [judge(pairs(2.0, 0.6, seed), POLICY) for seed in range(100)]
    assert sum(each.verdict == "regressed" for each in doubled) > 95
    for seed in range(50):
        assert judge(pairs(1.0, 0.01, seed), POLICY).verdict == "ok"


def test_a_verdict_stands_whatever_comes_after() -> None:
    good = pairs(1.0, 0.005, 4, n=10)
    assert judge(good + [1.0] * 30, POLICY).verdict == "ok"


def test_all_equal_pairs_have_an_answer() -> None:
    assert judge([0.0] * 10, POLICY).verdict == "ok"
    assert judge([math.log(1.2)] * 10, POLICY).verdict == "regressed"
    assert minimum_detectable(0.0, POLICY) == pytest.approx(POLICY.margin, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.05])
def test_error_rates_are_kept(sigma: float) -> None:
    """At the very margin, where a false alarm is likeliest, and at the limit, for a false ok."""
    rounds = 400
    at_margin = [judge(pairs(POLICY.margin, sigma, s), POLICY).verdict for s in range(rounds)]
    assert at_margin.count("regressed") / rounds <= 0.025  # 0.01, and three standard errors
    at_limit = [judge(pairs(POLICY.limit, sigma, s), POLICY).verdict for s in range(rounds)]
    assert at_limit.count("ok") / rounds <= 0.083


def test_the_minimum_detectable_effect_is_detected() -> None:
    sigma, rounds, hits = 0.012, 300, 0
    effect = minimum_detectable(sigma, POLICY, confirm=False)
    for seed in range(rounds):
        judged = judge(pairs(effect, sigma, seed, n=30), POLICY)
        hits += judged.verdict == "regressed"
    assert hits / rounds >= 0.92


def test_what_is_detectable_is_confirmed_within_thirty_pairs_in_all() -> None:
    sigma, rounds, hits = 0.012, 300, 0
    effect = minimum_detectable(sigma, POLICY)
    assert effect > minimum_detectable(sigma, POLICY, confirm=False)
    for seed in range(rounds):
        two = [judge(pairs(effect, sigma, seed + shift, n=30), POLICY) for shift in (0, 10_000)]
        proven = all(each.verdict == "regressed" for each in two)
        hits += proven and sum(each.pairs for each in two) <= 30
    assert hits / rounds >= 0.92


def test_heavy_tails_need_the_sign_test() -> None:
    chance = random.Random(2)
    wild = [chance.choice((1, -1)) * chance.paretovariate(1.2) * 0.01 for _ in range(40)]
    judged = judge([math.log(1.1) + x for x in wild], Policy(test="sign"))
    assert judged.verdict == "regressed"


def test_an_alarm_is_not_called_ok_by_the_later_half_of_its_pairs() -> None:
    """A gate on record: ``llama-infer`` with 5 % more work, whose later pairs read 2.4 %."""
    alarm = [6.4, 5.4, 6.7, 4.0, 10.2, 4.2, 6.5, 4.7, 3.1, 4.1]
    later = [2.0, 4.3, 2.9, 3.3, 2.2, 2.9, -2.6, 0.9, 5.3, 1.4]
    first, second = ([one / 100 for one in series] for series in (alarm, later))
    assert judge(first, POLICY).verdict == "regressed"
    assert judge(second, POLICY).verdict == "ok"
    both = judge(second, POLICY, first)
    assert (both.verdict, both.final) == ("inconclusive", False)
    # Later pairs that read nothing at all do clear the alarm, and worse ones confirm it.
    assert judge([one - 0.024 for one in second] * 3, POLICY, first).verdict == "ok"
    assert judge([one + 0.03 for one in second], POLICY, first).verdict == "regressed"

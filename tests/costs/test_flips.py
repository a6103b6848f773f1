"""Every printed flip, followed through ``--set``: the answer stands short of it, turns past it."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from random_plans import random_plan, toml

from tpubench import cli
from tpubench.costs.allocation import flips
from tpubench.costs.allocation.answer import answer
from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import relaxed
from tpubench.costs.allocation.money import next_dollar
from tpubench.costs.allocation.plan import plan_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "capex-65b.toml"
PLANS = 30


def allocate(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> dict[str, Any]:
    """The document that ``tpubench allocate`` prints."""
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", ["tpubench", "allocate", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert not ended.value.code, err
    document: dict[str, Any] = json.loads(out)
    return document


def follow(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    plan: Path,
    turns: list[dict[str, Any]],
) -> None:
    """1 % short of each flip the answer stands, 1 % beyond it turns to what was said."""
    for flip in turns:
        if flip["at"] is None:
            continue
        for part, expected in ((0.99, flip["answer_before"]), (1.01, flip["answer_after"])):
            value = flip["now"] + part * (flip["at"] - flip["now"])
            sign = "*=" if flip["several"] else "="
            setting = f"{flip['path']}{sign}{value!r}"
            document = allocate(capfd, monkeypatch, str(plan), "--answer-only", "--set", setting)
            assert document["verdict"]["next_dollar"]["side"] == expected, (plan, setting)
            assert document["settings"] == [setting]


@pytest.mark.parametrize(
    "batch", [0, *(pytest.param(batch, marks=pytest.mark.nightly) for batch in (1, 2, 3, 4, 5))]
)
def test_the_flips_of_random_plans_are_where_the_answer_turns(
    batch: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if batch:  # the first is shared among processes, as for a user; the others have no core to win
        monkeypatch.setattr(flips, "WORTH_SHARING_S", math.inf)
    followed = 0
    for seed in range(batch * PLANS // 6, (batch + 1) * PLANS // 6):
        content = random_plan(seed, most_years=2)
        plan = plan_of(content, f"plan {seed}")
        program = build(plan)
        optimum = relaxed(program)
        if optimum is None:
            continue
        first = next_dollar(program, optimum.x)
        if first is None:
            continue
        turns, left = flips.find_flips(plan, first.side, optimum.basis, time.process_time() + 300)
        assert not left
        path = tmp_path / f"{seed}.toml"
        path.write_text(toml(content), encoding="utf-8")
        turning = [
            {
                "path": f.path, "now": f.now, "at": f.at, "several": f.several,
                "answer_before": f.answer_before, "answer_after": f.answer_after,
            }
            for f in turns
            if f.at is not None
        ]  # fmt: skip
        assert all(f["answer_before"] == first.side != f["answer_after"] for f in turning)
        follow(capfd, monkeypatch, path, turning)
        followed += len(turning)
    assert followed >= 10


@pytest.mark.nightly
def test_the_flips_of_the_example_are_where_the_answer_turns(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = allocate(capfd, monkeypatch, str(EXAMPLE))
    verdict = document["verdict"]
    assert verdict["flips_left_out"] == []
    assert sum(flip["at"] is not None for flip in verdict["flips"]) >= 5
    follow(capfd, monkeypatch, EXAMPLE, verdict["flips"])


def test_the_document_keeps_its_promises() -> None:
    content = random_plan(3)
    content["doubt"] = {"samples": 32}
    document = answer(plan_of(content, "plan"), []).to_json()
    verdict = json.loads(json.dumps(document))["verdict"]
    assert {"option", "side", "how", "share"} <= verdict["next_dollar"].keys()
    assert verdict["next_dollar"]["side"] in {"tpu", "gpu", "other"}
    assert verdict["next_dollar"]["how"] in {"buy", "commit", "rent"}
    assert sum(verdict["next_dollar"]["shares"].values()) == pytest.approx(1)
    assert sum(verdict["probability"].values()) == pytest.approx(1)
    assert verdict["probability"].keys() == {"tpu", "gpu", "other"}
    assert sum(verdict["probability_how"].values()) == pytest.approx(1)
    assert verdict["probability_how"].keys() == {"buy", "commit", "rent"}
    assert verdict["regret_usd"] >= 0
    assert isinstance(verdict["tie"], bool)
    for option in verdict["options"]:
        assert {"name", "side", "how", "worth_usd", "in_plan_probability"} <= option.keys()
    for flip in verdict["flips"]:
        keys = {"input", "path", "now", "at", "unit", "answer_before", "answer_after"}
        assert keys <= flip.keys()
    assert verdict["doubts"]

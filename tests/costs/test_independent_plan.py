"""Contracts, tax, residual values and the rest against a second model, solved by CBC."""

from __future__ import annotations

from typing import Any

import pytest
from independent_plan import Model
from random_plans import random_plan

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import relaxed
from tpubench.costs.allocation.plan import plan_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulp")
BATCHES = 6
PLANS = 120


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_plans_cost_what_a_second_model_says(batch: int) -> None:
    solved = impossible = 0
    seen: set[str] = set()
    for seed in range(batch * PLANS // BATCHES, (batch + 1) * PLANS // BATCHES):
        content = random_plan(seed)
        program = build(plan_of(content, f"plan {seed}"))
        ours, theirs = relaxed(program), Model(content).solve()
        if ours is None or theirs is None:
            assert ours is theirs is None, seed
            impossible += 1
            continue
        assert program.total_usd(ours.x) == pytest.approx(theirs, rel=1e-4), seed
        solved += 1
        seen |= _features(content)
    assert solved >= PLANS // BATCHES * 0.8
    # What is compared is there to be compared.
    assert {"contract", "signed", "exit", "lease", "curve", "tax", "scenario"} <= seen


def _features(content: dict[str, Any]) -> set[str]:
    chips: list[dict[str, Any]] = content["accelerator"]
    deals = [deal for chip in chips for deal in chip.get("commit", [])]
    contracts = [deal for chip in chips for deal in chip.get("contract", [])]
    kinds = {
        "contract": bool(contracts),
        "signed": any(deal["signed"] for deal in contracts),
        "exit": any("exit_after_years" in deal for deal in deals),
        "lease": any(deal["on_site"] for deal in deals),
        "curve": any("residual_curve" in chip.get("buy", {}) for chip in chips),
        "tax": content["plan"]["tax_rate"] > 0,
        "scenario": "scenario" in content,
    }
    return {name for name, there in kinds.items() if there}

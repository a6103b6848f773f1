"""A plan with every number in it: rates from the price table, throughputs from stored rows.

What follows (the program, a flip, a sample) is a function of such a plan alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.costs.allocation.evidence import find_speeds
from tpubench.costs.allocation.inputs import places
from tpubench.costs.allocation.options import Rate
from tpubench.costs.allocation.plan import Plan, Throughput
from tpubench.costs.readiness import readiness_of
from tpubench.devices.prices import STALE_AFTER_DAYS, Price
from tpubench.errors import UsageError


def resolve(
    plan: Plan, table: Mapping[str, Price], folder: Path, today: dt.date
) -> tuple[Plan, list[str]]:
    """The plan with its numbers, and what a reader should know of where they are from.

    UsageError when a price id is unknown, is of another accelerator, or no pair is left.
    """
    notes: list[str] = []
    content = plan.model_dump()
    for path in plan.plan.placeholders:
        try:
            places(content, path)
        except UsageError:
            raise UsageError(f"plan.placeholders: the plan has no input {path!r}") from None
    chips = []
    for chip in plan.accelerator:
        change: dict[str, Any] = {
            "commit": [_rated(chip.name, o, table, today, notes) for o in chip.commit],
            "contract": [_rated(chip.name, o, table, today, notes) for o in chip.contract],
        }
        if chip.rent is not None:
            change["rent"] = _rated(chip.name, chip.rent, table, today, notes)
        chips.append(chip.model_copy(update=change))
    speeds, left_out = find_speeds(plan, folder)
    pairs = []
    for pair in plan.throughput:
        speed = speeds.get((pair.accelerator, pair.workload))
        if speed is not None:
            pairs.append(
                pair.model_copy(
                    update=_ready(pair, notes)
                    | {
                        "from_store": None,
                        "tok_s": speed.tok_s,
                        "low_tok_s": speed.low,
                        "high_tok_s": speed.high,
                        "evidence": speed.evidence,
                        "source": speed.source,
                    }
                )
            )
    if not pairs:
        raise UsageError("throughput: no pair of accelerator and workload meets its SLO")
    if plan.doubt.vendor is not None:
        notes.append("doubt.vendor is not used: doubts hold for every chip, any GPU is one side")
    return plan.model_copy(update={"accelerator": chips, "throughput": pairs}), left_out + notes


def _ready(pair: Throughput, notes: list[str]) -> dict[str, Any]:
    """The pair's readiness where evidence gives it, with a note of what that is."""
    asked = pair.readiness_from
    if asked is None:
        return {}
    row = readiness_of(asked.device or pair.accelerator, asked.software, asked.model)
    notes.append(
        f"readiness of {pair.workload} on {pair.accelerator} is {row.value:.3g}: {row.why}"
        f" ({row.software}, {row.model}, {row.date}: {row.source})"
    )
    return {"readiness": row.value, "readiness_from": None}


def _rated(
    chip: str, option: Rate, table: Mapping[str, Price], today: dt.date, notes: list[str]
) -> Rate:
    if option.usd_per_chip_hour is not None:
        if option.as_of is not None and (today - option.as_of).days > STALE_AFTER_DAYS:
            notes.append(f"{chip}: rate of {option.as_of} ({option.source}) is stale")
        return option
    price = table.get(option.price or "")
    if price is None:
        raise UsageError(f"accelerator {chip}: unknown price {option.price!r}")
    if price.accelerator not in {chip, "any"}:
        raise UsageError(f"accelerator {chip}: price {price.id!r} is for {price.accelerator}")
    doubts = [
        text
        for text, holds in (
            (f"stale (as of {price.as_of})", price.stale(today)),
            ("without its host", not price.includes_host),
            (price.note, price.suspect),
        )
        if holds
    ]
    if doubts:
        notes.append(f"{chip}: price {price.id} is {', '.join(doubts)}")
    return option.model_copy(
        update={
            "price": None,
            "usd_per_chip_hour": price.usd_per_chip_hour,
            "source": f"price {price.id}",
            "as_of": price.as_of,
        }
    )

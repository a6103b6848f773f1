"""Where a plan's new money goes: by option, by side of chip, by way of getting it.

New money is the present value, expected over the scenarios and before tax, of what the whole plan
spends on purchases, rent and commitments that are not signed yet (their payments inside the plan).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.program import NEW_MONEY, LinearProgram
from tpubench.costs.allocation.timeline import Floats

SIDES = ("tpu", "gpu", "other")
WAYS = ("buy", "commit", "rent")
NOTHING_USD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NextDollar:
    """The plan's own answer: the side with the larger share of its new money."""

    option: str
    """The largest option of that side and way."""
    side: str
    how: str
    share: float
    usd: float
    """All new money, present value."""
    shares: dict[str, float]
    """By side; they sum to 1."""
    how_shares: dict[str, float]
    """By way of getting chips, of all sides."""
    vendors: dict[str, float]
    options: dict[str, float]
    first_year: dict[str, float]
    """Shares by side of the new money that is paid in the first year with any."""
    first_year_of: int | None
    signed_usd: float
    """Present value of what is signed already, apart from all the above."""


def option_usd(program: LinearProgram, x: Floats) -> Floats:
    """Present dollars of each option of the program, signed ones included."""
    mine = program.option >= 0
    usd = np.zeros(len(program.options))
    np.add.at(usd, program.option[mine], (program.money * x)[mine])
    return usd


def next_dollar(program: LinearProgram, x: Floats) -> NextDollar | None:
    """Where the new money goes; None when the plan spends none."""
    usd = option_usd(program, x)
    fresh = np.array([not option.signed for option in program.options], dtype=bool)
    new = np.where(fresh, np.maximum(usd, 0.0), 0.0)
    total = float(new.sum())
    if total <= NOTHING_USD:
        return None

    def by(key: str, names: tuple[str, ...]) -> dict[str, float]:
        parts = dict.fromkeys(names, 0.0)
        for option, part in zip(program.options, new, strict=True):
            name = getattr(option, key)
            parts[name] = parts.get(name, 0.0) + float(part) / total
        return parts

    shares = by("side", SIDES)
    side = max(SIDES, key=lambda name: shares[name])
    ways = dict.fromkeys(WAYS, 0.0)
    for option, part in zip(program.options, new, strict=True):
        if option.side == side:
            ways[option.how] += float(part)
    how = max(WAYS, key=lambda name: ways[name])
    best = max(
        (i for i, o in enumerate(program.options) if o.side == side and o.how == how),
        key=lambda i: float(new[i]),
    )
    year, first = first_year_shares(program, x)
    options: dict[str, float] = {}
    for option, part in zip(program.options, new, strict=True):
        if part > 0:
            options[option.label] = options.get(option.label, 0.0) + float(part) / total
    return NextDollar(
        option=program.options[best].label,
        side=side,
        how=how,
        share=shares[side],
        usd=total,
        shares=shares,
        how_shares=by("how", WAYS),
        vendors=by("vendor", ()),
        options=options,
        first_year=first,
        first_year_of=year,
        signed_usd=float(usd[~fresh].sum()),
    )


def side_of(program: LinearProgram, x: Floats) -> tuple[str, float] | None:
    """Just the next dollar's side and its lead over the second, as a share; None: no money."""
    usd = option_usd(program, x)
    parts = dict.fromkeys(SIDES, 0.0)
    for option, part in zip(program.options, usd, strict=True):
        if not option.signed:
            parts[option.side] += max(float(part), 0.0)
    total = sum(parts.values())
    if total <= NOTHING_USD:
        return None
    side = max(SIDES, key=lambda name: parts[name])
    second = max(parts[name] for name in SIDES if name != side)
    return side, (parts[side] - second) / total


def first_year_shares(program: LinearProgram, x: Floats) -> tuple[int | None, dict[str, float]]:
    """The first year with new money, and its shares by side (dollars of that year)."""
    plan, ledger = program.plan, program.ledger
    futures = np.array([s.probability for s in plan.futures])
    chance = np.where(ledger.scenario >= 0, futures[np.maximum(ledger.scenario, 0)], 1.0)
    mine = NEW_MONEY[ledger.category] & (ledger.column >= 0)
    option = np.where(mine, program.option[np.maximum(ledger.column, 0)], -1)
    usd = np.where(mine, ledger.usd * chance * x[np.maximum(ledger.column, 0)], 0.0)
    parts = np.zeros((plan.plan.years, len(SIDES)))
    for i, o in enumerate(program.options):
        if not o.signed:
            here = option == i
            np.add.at(parts[:, SIDES.index(o.side)], ledger.year[here], usd[here])
    parts = np.maximum(parts, 0.0)
    for year, row in enumerate(parts):
        if row.sum() > NOTHING_USD:
            shares = {side: float(v / row.sum()) for side, v in zip(SIDES, row, strict=True)}
            return plan.plan.first_year + year, shares
    return None, {}


def side_money(program: LinearProgram, side: str) -> Floats:
    """New money of one side in one unit of each column."""
    mine = np.array([o.side == side and not o.signed for o in program.options] + [False])
    return np.where(mine[program.option], program.money, 0.0)

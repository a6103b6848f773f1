"""What an option, a signature and one more of a limit are worth: the plan re-solved without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import Optimum, relaxed, significant
from tpubench.costs.allocation.money import SIDES, WAYS, option_usd
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import LinearProgram

TITLES = {"tpu": "TPUs", "gpu": "GPUs", "other": "other chips"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionWorth:
    """One option, or all of a side or vendor, and what the plan would cost more without it."""

    name: str
    side: str
    how: str
    """Of a group, the way that takes most of its money."""
    worth_usd: float | None
    """Present value; negative where a signed commitment costs more than it saves; None where the
    plan is impossible without it."""
    in_plan_probability: float | None
    usd: float
    """Present value of what the plan spends on it."""
    signed: bool
    group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signed minimum: what it costs against being free to sign or not."""

    name: str
    usd: float | None
    """Present value; None where the optional plan could not be solved."""
    minimum_usd: float
    """Present value of the minimum itself."""


def option_worths(
    program: LinearProgram, optimum: Optimum, chance: Callable[[set[str]], float | None]
) -> list[OptionWorth]:
    """Sides and vendors as a whole, then every option, dearest to lose first in each part.

    ``chance`` says how often any of some options, by label, is in the plan.
    """
    groups = [
        (TITLES[side], side, {o.label for o in program.options if o.side == side})
        for side in SIDES
        if side != "gpu"
    ]
    gpus = [o for o in program.options if o.side == "gpu"]
    groups += [
        (vendor, "gpu", {o.label for o in gpus if o.vendor == vendor})
        for vendor in dict.fromkeys(o.vendor for o in gpus)
    ]
    groups = [group for group in groups if group[2]]
    singles = [(o.label, o.side, {o.label}) for o in {o.label: o for o in program.options}.values()]
    total = program.total_usd(optimum.x)
    usd = option_usd(program, optimum.x)
    worths = []
    for name, side, labels in [*groups, *singles]:
        mine = [i for i, o in enumerate(program.options) if o.label in labels]
        ways = {
            how: sum(float(usd[i]) for i in mine if program.options[i].how == how) for how in WAYS
        }
        there = [how for how in WAYS if any(program.options[i].how == how for i in mine)]
        without = _without(program, optimum, mine)
        worths.append(
            OptionWorth(
                name=name,
                side=side,
                how=max(there, key=lambda how: ways[how]),
                worth_usd=None if without is None else significant(without - total, total),
                in_plan_probability=chance(labels),
                usd=float(sum(usd[i] for i in mine)),
                signed=any(program.options[i].signed for i in mine),
                group=(name, side, labels) in groups,
            )
        )
    worths.sort(key=lambda w: (not w.group, w.worth_usd is not None, -(w.worth_usd or 0.0)))
    return worths


def _without(program: LinearProgram, optimum: Optimum, options: list[int]) -> float | None:
    """Present cost with these options closed, what is signed of them included."""
    low, high = program.low.copy(), program.high.copy()
    closed = np.isin(program.option, options)
    low[closed], high[closed] = 0.0, 0.0
    row_low = program.row_low.copy()
    for i, name in enumerate(program.row_names):
        if name[0] == "signed":
            columns = program.at[f"signed {name[1]} {name[2]}"]
            if closed[columns].all():
                row_low[i] = 0.0
    again = relaxed(replace(program, row_low=row_low), start=optimum.basis, low=low, high=high)
    return None if again is None else program.total_usd(again.x)


def signatures(plan: Plan, program: LinearProgram, optimum: Optimum) -> list[Signature]:
    """Every signed minimum against leaving it optional."""
    total = program.total_usd(optimum.x)
    usd = option_usd(program, optimum.x)
    listed = []
    for a, chip in enumerate(plan.accelerator):
        free: list[tuple[str, Plan]] = []
        for k, deal in enumerate(chip.commit):
            if deal.min_chips > 0:
                deals = [*chip.commit]
                deals[k] = deal.model_copy(update={"min_chips": 0.0})
                free.append((deal.name, _with(plan, a, {"commit": deals})))
        for k, contract in enumerate(chip.contract):
            if contract.signed:
                contracts = [*chip.contract]
                contracts[k] = contract.model_copy(update={"signed": False})
                free.append((contract.name, _with(plan, a, {"contract": contracts})))
        for name, other in free:
            optional = build(other)
            again = relaxed(optional)
            minimum = sum(
                float(part)
                for option, part in zip(program.options, usd, strict=True)
                if option.signed and option.label == f"{chip.name} {name}"
            )
            listed.append(
                Signature(
                    name=f"{chip.name} {name}",
                    usd=None if again is None else total - optional.total_usd(again.x),
                    minimum_usd=minimum,
                )
            )
    return listed


def _with(plan: Plan, a: int, update: dict[str, object]) -> Plan:
    chips = [*plan.accelerator]
    chips[a] = chips[a].model_copy(update=update)
    return plan.model_copy(update={"accelerator": chips})

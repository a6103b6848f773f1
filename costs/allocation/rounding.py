"""Whole lots near a relaxed plan, and the check that a plan meets every limit."""

from __future__ import annotations

import numpy as np

from tpubench.costs.allocation.model import Model
from tpubench.costs.allocation.problem import Floats
from tpubench.costs.allocation.recourse import WHOLE, Decision

TOLERANCE = 1e-6


def feasible(model: Model, x: Floats) -> bool:
    """Whether ``x`` meets every row and bound, whole where it must be."""
    rows = model.matrix @ x
    slack = TOLERANCE * np.maximum(1.0, np.abs(model.matrix) @ np.abs(x))
    whole = model.whole.astype(bool)
    return bool(
        (rows <= model.row_high + slack).all()
        and (rows >= model.row_low - slack).all()
        and (x >= model.low - TOLERANCE).all()
        and (x <= model.high + TOLERANCE).all()
        and (np.abs(x[whole] - np.round(x[whole])) < TOLERANCE).all()
    )


def nearby_decisions(model: Model, x: Floats) -> list[Decision]:
    """Purchases and commitments in whole lots: the nearest that fit, then all rounded down."""
    columns = model.columns
    buy = np.where(columns.buy_ay >= 0, x[columns.buy_ay], 0.0)
    commit = np.where(columns.commit_ky >= 0, x[columns.commit_ky], 0.0)
    port = columns.port_p >= 0
    down_buy, down_commit = np.floor(buy + WHOLE), np.floor(commit + WHOLE)
    near_buy = _nearest_that_fit(model, buy, down_buy)
    near_commit = np.where(commit - down_commit >= 0.5, down_commit + 1, down_commit)
    signed = np.ceil(model.problem.commit_min_lots_k - WHOLE)
    found = []
    for bought, committed in ((near_buy, near_commit), (down_buy, down_commit)):
        _sign(committed, signed, model.problem.commit_lots_ky)
        found.append(Decision(buy_ay=bought, commit_ky=committed, port_p=port))
    return found


def _sign(commit_ky: Floats, least_k: Floats, most_ky: Floats) -> None:
    """Raise commitments to what is signed already, in the first years that have room."""
    for k, least in enumerate(least_k):
        for y in range(commit_ky.shape[1]):
            lacking = least - commit_ky[k].sum()
            room = np.floor(most_ky[k, y]) - commit_ky[k, y]
            commit_ky[k, y] += max(0.0, min(lacking, room))


def _nearest_that_fit(model: Model, buy: Floats, down: Floats) -> Floats:
    """Purchases to the nearer lot as far as budget and power allow, largest parts first."""
    bought = down.copy()
    columns = model.columns.buy_ay
    shared = np.flatnonzero(
        [name[0] in {"budget", "yearly budget", "power"} for name in model.row_names]
    )
    matrix = model.matrix[shared].tocsc()
    x = np.zeros(model.columns.count)
    x[columns[columns >= 0]] = bought[columns >= 0]
    spare = model.row_high[shared] - matrix @ x
    parts = buy - bought
    for flat in np.argsort(-parts, axis=None):
        a, y = np.unravel_index(flat, parts.shape)
        if parts[a, y] < 0.5:
            break
        use = matrix[:, [int(columns[a, y])]].toarray().ravel()
        if (use <= spare).all():
            bought[a, y] += 1
            spare -= use
    return bought

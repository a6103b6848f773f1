"""Branch and bound over some of the columns, by HiGHS through SciPy."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tpubench.costs.allocation.model import Model
from tpubench.costs.allocation.problem import Floats, Ints


def branch(model: Model, whole: Ints, seconds: float, gap: float) -> tuple[Floats | None, float]:
    """The best point found with ``whole`` columns whole, if any, and the bound that was proved.

    The bound holds for the model with more columns whole, too: it is −inf when none was proved.
    """
    if seconds <= 0:
        return None, -np.inf
    with quiet():
        found = milp(
            model.cost,
            constraints=LinearConstraint(model.matrix, model.row_low, model.row_high),
            bounds=Bounds(model.low, model.high),
            integrality=whole,
            options={"time_limit": max(seconds, 0.5), "mip_rel_gap": gap},
        )
    proved = getattr(found, "mip_dual_bound", None)
    bound = -np.inf if proved is None or not np.isfinite(proved) else float(proved)
    if found.x is None:
        return None, bound
    x = np.asarray(found.x)
    columns = whole.astype(bool)
    x[columns] = np.round(x[columns])
    return x, bound


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what HiGHS itself prints off standard output, where ``--json`` must be alone."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # no standard output at all
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

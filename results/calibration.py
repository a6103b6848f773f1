"""Rows that measured the machine rather than a program: context, never a result.

A CPU has no data sheet of peaks, so a run measures its own by ``hbm`` and ``gemm`` before it
measures what was asked for. Those rows say in their environment that this is their role.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from tpubench.results.fingerprint import canonical_json
from tpubench.results.row import Row

_ROLE, _CALIBRATION = "role", "calibration"
CALIBRATION_MARK = canonical_json({_ROLE: _CALIBRATION}).strip("{}")
"""What stands in the environment of such a row, which is canonical JSON."""


def as_calibration(row: Row) -> Row:
    """The row, marked."""
    environment = {**json.loads(row.environment), _ROLE: _CALIBRATION}
    return replace(row, environment=canonical_json(environment))


def is_calibration(row: Row) -> bool:
    """Whether a row measured the machine for another program's sake."""
    if f'"{_CALIBRATION}"' not in row.environment:
        return False
    environment = json.loads(row.environment)
    return isinstance(environment, dict) and environment.get(_ROLE) == _CALIBRATION


def results_of(rows: Iterable[Row]) -> list[Row]:
    """The rows without those that are context; all of them where there is nothing else."""
    rows = list(rows)
    return [row for row in rows if not is_calibration(row)] or rows

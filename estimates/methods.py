"""The two ways to an estimate behind one door: a method is a function from a request to rows."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from tpubench.estimates.request import EstimateRequest
from tpubench.results import store
from tpubench.results.errors import UsageError
from tpubench.results.row import Row

METHODS = ("roofline", "compile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """Rows of an estimate, what to know about them, and where they were stored, if anywhere."""

    rows: list[Row]
    notes: list[str]
    store: Path | None


def run(method: str, request: EstimateRequest, where: Path | None) -> Estimated:
    """Estimate by one method, and store the rows when ``where`` is given.

    UsageError for an unknown method, or for one whose environment is missing.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method[:40]!r}; known: {', '.join(METHODS)}")
    notes: list[str] = []
    if method == "roofline":
        from tpubench.estimates.modelled import examine

        found = examine(request)
        rows, notes = list(found.rows), list(found.notes)
    else:
        try:
            compiled = importlib.import_module("tpubench.estimates.compiled")
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--method compile needs {error.name}, which is not installed; use --method roofline"
            ) from None
        rows = list(compiled.estimate(request))
    if where is not None and rows:
        store.prepare(where)
        store.write(where, f"{request.workload}-{method}-{request.device}-000", rows)
    return Estimated(rows=rows, notes=notes, store=where)

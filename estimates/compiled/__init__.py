"""What the TPU compiler itself says of a workload, with no TPU: does it fit, and how long it takes.

:func:`estimate` is all that a command needs.
"""

from __future__ import annotations

from tpubench.estimates.compiled.pipeline import run
from tpubench.estimates.compiled.request import CompileRequest, Estimated
from tpubench.estimates.compiled.rows import rows
from tpubench.results.row import Row

__all__ = ["CompileRequest", "Estimated", "estimate", "rows", "run"]


def estimate(request: CompileRequest) -> list[Row]:
    """The rows of one case on one slice, evidence ``compiled``.

    A case that does not fit gives one failed row with the compiler's verdict, and what it needs.
    UsageError for what cannot be exported, RunFailedError when the compiler is missing or fails.
    """
    return rows(run(request))

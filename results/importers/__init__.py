"""Readers of other tools' result files; one module is one format, found by its file.

A module offers::

    FORMAT = "vllm-bench"                       # the name on the command line
    TITLE = "vllm bench serve, throughput and latency (JSON)"
    def reads(path: Path) -> bool               # is this file (or folder) one of mine? never raises
    def read(path: Path) -> Imported            # what it says; UsageError when it says nothing

A reader is a pure function from a file to :class:`Record` values: the file's own words for device
and precision, the metrics of :mod:`tpubench.results.metrics` in their own units, totals over all
chips. What is defined otherwise in the file is converted, or left out with the reason. Turning
records into stored rows (canonical device, physical chips) is the work of
:mod:`tpubench.costs.imported`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from tpubench.errors import UsageError
from tpubench.results.importers._document import one_line, read_json
from tpubench.results.importers._record import (
    NO_MODEL,
    Figure,
    Imported,
    Plain,
    Record,
    Rejected,
)

__all__ = [
    "AUTO",
    "NO_MODEL",
    "Figure",
    "Imported",
    "Plain",
    "Record",
    "Rejected",
    "formats",
    "one_line",
    "read_results",
]

AUTO = "auto"
"""Asks for the one format whose module says that the file is its own."""


def formats() -> dict[str, str]:
    """Title of each format by its name on the command line."""
    return {name: module.TITLE for name, module in sorted(_modules().items())}


def read_results(format_name: str, path: Path) -> Imported:
    """What one file or folder says, and what in it was left out, with the reason.

    UsageError for an unknown format, an unreadable file, or one that holds no result.
    """
    if format_name == AUTO:
        module = _recognised(path)
    elif format_name in _modules():
        module = _modules()[format_name]
    else:
        known = ", ".join([AUTO, *formats()])
        raise UsageError(f"unknown format {format_name!r}; known: {known}")
    imported: Imported = module.read(path)
    empty = [one for one in imported.records if one.status == "ok" and not one.figures]
    records = tuple(one for one in imported.records if one not in empty)
    if not records and not imported.rejected:
        raise UsageError(f"{path} holds no figure of the format {module.FORMAT}")
    lost = tuple(
        Rejected(where=f"{one.workload} {one.model}", reason="no figure that is known")
        for one in empty
    )
    return Imported(
        records=records, rejected=(*imported.rejected, *lost), format_name=module.FORMAT
    )


def _recognised(path: Path) -> ModuleType:
    if not path.exists():
        raise UsageError(f"cannot read {path}: there is no such file")
    modules = [module for _, module in sorted(_modules().items()) if module.reads(path)]
    if len(modules) == 1:
        return modules[0]
    known = ", ".join(formats())
    if not modules:
        if path.suffix.lower() == ".json":
            read_json(path)  # what is wrong with the file says more than that nobody knows it
        raise UsageError(f"{path} is of no format that is known here: {known}; name one")
    names = ", ".join(module.FORMAT for module in modules)
    raise UsageError(f"{path} may be of several formats ({names}): name the one it is")


@functools.cache
def _modules() -> Mapping[str, ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{n}") for n in names if not n.startswith("_")]
    return {module.FORMAT: module for module in modules}

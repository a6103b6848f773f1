"""Workloads of files that are not installed, named ``package.module:Class``.

The module is looked for where any import is, and last in the working directory: nothing lying
there is taken for a library. A child process is told by two variables, one naming what was adopted,
one the folder that it came from.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tpubench.errors import UsageError
from tpubench.results.metrics import METRICS, Metric
from tpubench.suite.workload import Workload

_VARIABLE = "TPUBENCH_WORKLOADS"
"""References adopted so far, with commas between them."""
_FOLDER_VARIABLE = "TPUBENCH_WORKLOADS_FOLDER"
Kind = TypeVar("Kind")

_known: dict[str, Workload] = {}


def instance(offered: object, kind: type[Kind], what: str) -> Kind:
    """One of a class that a third party offers; TypeError when it is none, or not whole."""
    if not (inspect.isclass(offered) and issubclass(offered, kind)):
        raise TypeError(f"{what} is no {kind.__name__}")
    offer: Any = offered()
    if not isinstance(offer.name, str):
        raise TypeError(f"the name of {what} is no string")
    lacking = [name for name in kind.__annotations__ if not hasattr(offer, name)]
    if lacking:
        raise TypeError(f"{what} lacks {', '.join(lacking)}")
    own: tuple[object, ...] = offer.metrics if isinstance(offer, Workload) else ()
    for metric in own:
        if not isinstance(metric, Metric) or metric.name in METRICS:
            raise TypeError(f"metrics of {what}: {metric!r} is none, or known already")
    whole: Kind = offer
    return whole


def load(reference: str) -> Workload:
    """The workload that ``module:Class`` names; UsageError saying what is wrong with it."""
    module, _, name = reference.partition(":")
    if not module or not name.isidentifier() or "," in reference:
        raise UsageError(f"{reference!r}: write package.module:Class, or a name of list workloads")
    folder = os.environ.get(_FOLDER_VARIABLE) or str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            offered = getattr(importlib.import_module(module), name)
            return instance(offered, Workload, reference)  # type: ignore[type-abstract]
    except (Exception, SystemExit) as error:  # whatever a stranger's module does
        what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UsageError(f"{reference} cannot be loaded: {what}") from error


def adopt(reference: str, workload: Workload) -> None:
    """Know the workload by its own name from now on, here and in children."""
    _known[workload.name] = workload
    paths = [each for each in os.environ.get(_VARIABLE, "").split(",") if each]
    os.environ[_VARIABLE] = ",".join(dict.fromkeys([*paths, reference]))
    os.environ.setdefault(_FOLDER_VARIABLE, str(Path.cwd()))


def adopted() -> Mapping[str, Workload]:
    """Workloads by name that this process, or the one that started it, has adopted."""
    for reference in filter(None, os.environ.get(_VARIABLE, "").split(",")):
        if reference not in _loaded:
            workload = load(reference)
            _known[workload.name] = workload
            _loaded.add(reference)
    return _known


_loaded: set[str] = set()

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
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tpubench.errors import UsageError
from tpubench.results.metrics import METRICS, Metric
from tpubench.suite.workload import Parameter, Workload

_VARIABLE = "TPUBENCH_WORKLOADS"
"""References adopted so far, with commas between them."""
_FOLDER_VARIABLE = "TPUBENCH_WORKLOADS_FOLDER"
Kind = TypeVar("Kind")

_known: dict[str, Workload] = {}
lent: dict[str, object] = {}
"""Third parties' workloads and backends that this process has asked for, by name."""

ERRS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
        RuntimeError, TypeError, ValueError)  # fmt: skip
"""What a third party's method raises that is wrong, not refusing."""


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
    for name, (is_one, words) in _KINDS_OF.items():
        value = getattr(offer, name, None)
        if hasattr(offer, name) and not is_one(value):
            raise TypeError(f"{name} of {what} must be {words}, not {value!r}")
    own: tuple[object, ...] = offer.metrics if isinstance(offer, Workload) else ()
    for metric in own:
        if not isinstance(metric, Metric) or metric.name in METRICS:
            raise TypeError(f"metrics of {what}: {metric!r} is none, or known already")
    whole: Kind = offer
    return whole


def _texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(one, str) for one in value)


def _named(value: object, kind: type) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(one, kind) for key, one in value.items()
    )


_KINDS_OF: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "version": (lambda value: type(value) is int, "a whole number"),
    "rank": (lambda value: type(value) is int, "a whole number"),
    "summary": (lambda value: isinstance(value, str), "a text"),
    "primary_metric": (lambda value: isinstance(value, str), "a metric's name"),
    "presets": (lambda value: _named(value, str) and bool(value), "words on each preset by name"),
    "parameters": (lambda value: _named(value, Parameter), "Parameters by name"),
    "fractions": (lambda value: _named(value, str), "phases by metric"),
    "metrics": (lambda value: isinstance(value, tuple | list), "a tuple of Metrics"),
    "compile_modes": (lambda value: _texts(value) and bool(value), "names of modes"),
}
"""What the attributes that lists and tables show must be, of a workload or a backend."""


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
        raise UsageError(f"{reference} cannot be loaded: {in_a_line(error)}") from error


def lend(offer: Kind, name: str) -> Kind:
    """Remember a third party's workload or backend as one that this process has been using."""
    lent[name] = offer
    return offer


def blamed(error: BaseException) -> str | None:
    """Which third party's offer failed, where and how, in a line; None when none is in use.

    The deepest of its own lines is named. Without one, what it answered is what could not be used.
    """
    what = in_a_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    for name, offer in lent.items():
        own = inspect.getfile(type(offer))
        lines = [frame for frame in frames if frame.filename == own]
        if lines:
            place = f"{Path(own).name}:{lines[-1].lineno}, in {lines[-1].name}"
            return f"{name} failed ({place}): {what}"
    names = " and ".join(lent)
    return f"{names} gave an answer that cannot be used: {what}" if names else None


def in_a_line(error: BaseException) -> str:
    """Kind and message of an error, shortened to one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


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

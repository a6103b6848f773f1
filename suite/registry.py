"""Finds workloads and backends: by file name in their folders, and through entry points.

There is no list to edit. ``workloads/llama_infer.py`` is ``llama-infer``; a third party offers
``tpubench.workloads`` or ``tpubench.backends`` entry points that name a subclass.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

from tpubench.errors import UsageError
from tpubench.suite.backend import Backend
from tpubench.suite.workload import Workload

Kind = TypeVar("Kind", Workload, Backend)


@cache
def workloads() -> dict[str, Workload]:
    """Every workload by name."""
    return _discover("tpubench.workloads", Workload)  # type: ignore[type-abstract]


@cache
def backends() -> dict[str, Backend]:
    """Every backend by name, the preferred one first."""
    found = _discover("tpubench.suite.backends", Backend)  # type: ignore[type-abstract]
    return dict(sorted(found.items(), key=lambda item: -item[1].rank))


def workload(name: str) -> Workload:
    """The workload of that name; UsageError naming the known ones otherwise."""
    return _lookup(name, "workload", workloads())


def backend(name: str) -> Backend:
    """The backend of that name; UsageError naming the known ones otherwise."""
    return _lookup(name, "backend", backends())


def _lookup(name: str, what: str, known: dict[str, Kind]) -> Kind:
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return known[name]


def _discover(package: str, kind: type[Kind]) -> dict[str, Kind]:
    modules = [
        importlib.import_module(f"{package}.{info.name}")
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if not info.name.startswith("_")
    ]
    classes = [found for module in modules for found in _defined(module, kind)]
    group = "tpubench.workloads" if kind is Workload else "tpubench.backends"
    classes += [entry.load() for entry in entry_points(group=group)]
    found: dict[str, Kind] = {}
    for defined in classes:
        if defined.name in found:
            raise UsageError(f"two definitions of {defined.name!r} in {group}")
        found[defined.name] = defined()
    return found


def _defined(module: ModuleType, kind: type[Kind]) -> list[type[Kind]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, kind)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]

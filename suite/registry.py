"""Finds workloads and backends: in their folders, and through entry points.

There is no list to edit: what a module of ``workloads/`` or ``suite/backends/`` defines, or names
in the ``__init__.py`` of its folder, is offered. A third party offers ``tpubench.workloads`` or
``tpubench.backends`` entry points that name a subclass. A third party's code runs when it is asked
for by the name of its entry point; what is broken there is named, and hinders nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TypeVar

from tpubench.errors import UsageError
from tpubench.suite import references
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.serving.service import Service
from tpubench.suite.workload import Workload

Kind = TypeVar("Kind", Workload, Backend, Service)
_WORKLOADS, _BACKENDS = "tpubench.workloads", "tpubench.backends"


@cache
def workloads() -> dict[str, Workload]:
    """Every workload by name; of third parties, those that can be loaded."""
    return _with_others(_standard_workloads(), _WORKLOADS, Workload)  # type: ignore[type-abstract]


@cache
def backends() -> dict[str, Backend]:
    """Every backend by name, the preferred one first; of third parties, those that load."""
    offered = _with_others(_standard_backends(), _BACKENDS, Backend)  # type: ignore[type-abstract]
    return dict(sorted(offered.items(), key=lambda item: -item[1].rank))


@cache
def services() -> dict[str, Service]:
    """Every workload that is served, by name."""
    return _discover("tpubench.workloads", Service)  # type: ignore[type-abstract]


def workload(name: str) -> Workload:
    """The workload of that name; UsageError naming the known ones otherwise."""
    if name in services():
        raise UsageError(
            f"{name} runs against a server: tpubench run --workload {name} --server URL"
        )
    if ":" in name:
        return references.lend(_adopted(name), name)
    standard = _standard_workloads().get(name)
    if standard is not None:
        return standard
    named = _named(name, _WORKLOADS, Workload) or references.adopted().get(name)  # type: ignore[type-abstract]
    return references.lend(named or _lookup(name, "workload", workloads()), name)


def _adopted(reference: str) -> Workload:
    """The workload that ``module:Class`` names, unless its name is another's."""
    offered = references.load(reference)
    if offered.name in _standard_workloads() or _named(offered.name, _WORKLOADS, Workload):  # type: ignore[type-abstract]
        raise UsageError(f"{reference} is called {offered.name!r}, which there is already")
    references.adopt(reference, offered)
    return offered


def backend(name: str) -> Backend:
    """The backend of that name; UsageError naming the known ones otherwise."""
    standard = _standard_backends().get(name)
    if standard is not None:
        return standard
    named = _named(name, _BACKENDS, Backend)  # type: ignore[type-abstract]
    return references.lend(named or _lookup(name, "backend", backends()), name)


def probe(backend: Backend, python: Interpreter = OWN) -> Probe:
    """Whether a backend can run; one of a third party that errs cannot, and hinders no other."""
    try:
        return backend.probe(python)
    except (OSError, *references.ERRS) as error:
        if backend.name in _standard_backends():
            raise
        detail = f"the backend itself failed: {references.in_a_line(error)}"
        return Probe(available=False, detail=detail)


def device_present(backend: Backend) -> str | None:
    """The device that a backend sees; nothing where one of a third party errs."""
    try:
        return backend.device_present()
    except (OSError, *references.ERRS):
        if backend.name in _standard_backends():
            raise
        return None


def faults() -> list[str]:
    """A line for each thing that a third party offers and that cannot be used."""
    workloads(), backends()
    return sorted(_faults.values())


def forget() -> None:
    """Look anew: what is installed, or first on the path, has changed."""
    importlib.invalidate_caches()
    for remembered in (workloads, backends, services, _entries, _loaded):
        remembered.cache_clear()
    _faults.clear()
    references.lent.clear()


_faults: dict[tuple[str, str], str] = {}


def _lookup(name: str, what: str, known: dict[str, Kind]) -> Kind:
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return known[name]


@cache
def _standard_workloads() -> dict[str, Workload]:
    return _discover("tpubench.workloads", Workload)  # type: ignore[type-abstract]


@cache
def _standard_backends() -> dict[str, Backend]:
    return _discover("tpubench.suite.backends", Backend)  # type: ignore[type-abstract]


def _discover(package: str, kind: type[Kind]) -> dict[str, Kind]:
    modules = [
        importlib.import_module(f"{package}.{info.name}")
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if not info.name.startswith("_")
    ]
    offered: dict[str, Kind] = {}
    for defined in (each for module in modules for each in _defined(module, kind)):
        if defined.name in offered:
            raise UsageError(f"two definitions of {defined.name!r} in {package}")
        offered[defined.name] = defined()
    return offered


@cache
def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _named(name: str, group: str, kind: type[Kind]) -> Kind | None:
    """What the entry point of that name offers, if it goes by the same name."""
    entries = [entry for entry in _entries(group) if entry.name == name]
    if not entries:
        return None
    if len(entries) > 1:
        raise UsageError(f"{name!r} is offered by {' and by '.join(map(_who, entries))}")
    offered = _loaded(entries[0], kind)
    return offered if offered.name == name else None


def _with_others(standard: dict[str, Kind], group: str, kind: type[Kind]) -> dict[str, Kind]:
    every = dict(standard)
    for entry in _entries(group):
        try:
            offered = _loaded(entry, kind)
            if offered.name in every:
                raise UsageError(f"{_who(entry)} offers {offered.name!r}, which there is already")
            every[offered.name] = offered
        except UsageError as error:
            _faults[group, entry.name] = str(error)
    return every


@cache
def _loaded(entry: EntryPoint, kind: type[Kind]) -> Kind:
    """An instance of what an entry point names; UsageError saying whose it is and what is wrong."""
    try:
        # What it prints while it loads must not stand in our JSON.
        with contextlib.redirect_stdout(sys.stderr):
            loaded = references.instance(entry.load(), kind, entry.value)
    except (Exception, SystemExit) as error:
        what = references.in_a_line(error)
        raise UsageError(f"{entry.name!r} of {_who(entry)} cannot be loaded: {what}") from error
    return loaded


def _who(entry: EntryPoint) -> str:
    dist = entry.dist
    return f"{dist.name} {dist.version}" if dist is not None else entry.value


def _defined(module: ModuleType, kind: type[Kind]) -> list[type[Kind]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, kind)
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
        and not inspect.isabstract(value)
    ]

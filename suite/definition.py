"""The files that define a workload, followed from its imports; nothing is run.

A row carries their SHA-256 (``workload_sha256`` of its fingerprint): rows are gated against each
other only where it is equal. What is remembered of a program (references, compiled programs) is
forgotten when it changes.

Part of it: the file of the class, those of the workloads that it extends, and whatever these
import, in functions too and at any depth, of the same origin: all of ``tpubench.workloads``, the
shared ``_name`` among them; of a third party's the package it lies in, or, where it is installed
nowhere, everything beside it. Files that no import leads to are named by ``sources`` of the class.

Not part: recipes (README), what only type checkers import (unless another module takes it from
there: so a package says what it loads when asked), the ``__init__.py`` of a package of which a
module is imported, libraries (a row tells their versions), and the bench itself: clock, backends
and estimates decide how well a program is measured, not what it is.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

_STANDARD = "tpubench.workloads"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    """What is taken from a module (None: itself), and where that stands: in which method of a
    class, and whether for type checkers only."""

    name: str
    taken: str | None = None
    method: str | None = None
    typed: bool = False

    def gives(self, wanted: str | None) -> bool:
        """Whether a module with this import hands on that name; not told of what a star brings, or
        one name would bring a whole library."""
        return wanted is not None and wanted in {self.taken, "*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """One file. beside: the folder that holds its outermost package, or the file itself."""

    name: str
    path: Path
    beside: Path

    def target(self, name: str) -> _Module | None:
        """The module of that name when it is of the same origin, or one of ``workloads/``."""
        top, own = _top(name), _top(self.name)
        if top == "tpubench":
            return _in_package(name) if f"{name}.".startswith(f"{_STANDARD}.") else None
        if own == "tpubench":
            return None
        if top == own and (inner := _in_package(name)):
            return inner
        path = None if _installed(self.beside) else _file(self.beside, name)
        return None if path is None else _Module(name=name, path=path, beside=self.beside)


def modules(kinds: Iterable[type], *, leaving: frozenset[str] = frozenset()) -> dict[str, Path]:
    """Files of the modules that define these classes, by full name, sorted.

    leaving: methods whose own imports are not followed. TypeError or OSError for a class that no
    file holds.
    """
    return _followed([_of(kind) for kind in kinds], leaving)


def sha256_of(*kinds: type) -> str:
    """SHA-256 of the files that define these classes, by the names of their modules."""
    return digest(modules(kinds).values())


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' contents, one after the other."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _of(kind: type) -> _Module:
    path = Path(inspect.getfile(kind))
    return _Module(name=kind.__module__, path=path, beside=_beside(kind.__module__, path))


def _beside(name: str, path: Path) -> Path:
    folders = _package_folders(name)
    return folders[0].parent if folders else path.parent


def _package_folders(name: str) -> list[Path]:
    """Folders of the outermost package of a module, wherever it was imported from."""
    package = sys.modules.get(_top(name))
    return [Path(folder) for folder in getattr(package, "__path__", ())]


def _in_package(name: str) -> _Module | None:
    """The module of that name in its outermost package, which is imported already."""
    inner = name.partition(".")[2]
    for folder in _package_folders(name):
        path = _file(folder, inner)
        if path is not None:
            return _Module(name=name, path=path, beside=folder.parent)
    return None


@cache
def _file(folder: Path, name: str) -> Path | None:
    place = folder.joinpath(*name.split(".")) if name else folder
    paths = (place / "__init__.py", *([place.with_name(f"{place.name}.py")] if name else ()))
    return next((path for path in paths if path.is_file()), None)


def _followed(starts: Iterable[_Module], leaving: frozenset[str]) -> dict[str, Path]:
    seen: dict[str, Path] = {}
    done: set[tuple[str, str | None]] = set()
    todo: list[tuple[_Module, str | None]] = [(start, None) for start in starts]
    while todo:
        module, wanted = todo.pop()
        if (module.name, wanted) in done:
            continue
        done.add((module.name, wanted))
        known = module.name in seen
        seen[module.name] = module.path
        package = module.name if module.path.name == "__init__.py" else _parent(module.name)
        for each in _imports(module.path.read_bytes(), package):
            if each.method in leaving or (not each.gives(wanted) if each.typed else known):
                continue
            inner = module.target(f"{each.name}.{each.taken}") if each.taken else None
            target = inner or module.target(each.name)
            if target is not None:
                todo.append((target, None if inner else each.taken))
    return dict(sorted(seen.items()))


@cache
def _imports(source: bytes, package: str) -> tuple[_Import, ...]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # no Python of this version, so that nothing can import it
        return ()
    return tuple(_imported(tree, _Import(name=package)))


def _imported(node: ast.AST, where: _Import) -> Iterator[_Import]:
    """Every import below a node, its relative names made full. where: package and circumstances."""
    if isinstance(node, ast.Import):
        yield from (replace(where, name=alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        up = where.name.rsplit(".", node.level - 1)[0] if node.level else ""
        name = ".".join(filter(None, (up, node.module)))
        yield from (replace(where, name=name, taken=alias.name) for alias in node.names)
    checks = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for each in ast.iter_child_nodes(node):
        inner = where
        if checks and isinstance(node, ast.If) and each in node.body:
            inner = replace(where, typed=True)
        elif isinstance(node, ast.ClassDef) and isinstance(each, ast.FunctionDef):
            inner = replace(where, method=each.name)
        yield from _imported(each, inner)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _top(name: str) -> str:
    return name.partition(".")[0]


@cache
def _library_folders() -> frozenset[Path]:
    folders = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(folder).resolve() for folder in folders)


def _installed(folder: Path) -> bool:
    """Whether libraries lie there, so that neighbours need not belong together."""
    return (
        folder.name in {"site-packages", "dist-packages"} or folder.resolve() in _library_folders()
    )

"""A tree's own modules as a folder to put first on a path: these, and nothing else that lies there.

Python would take a whole folder: a ``json.py`` or ``torch.py`` beside a project's package would
then be imported in place of the real one. So the folder is a mirror: real directories, links to the
files of the project's own top-level modules, and its entry points as it declares them in this tree,
whatever is installed. Compiled files are left out: bytecode may be older than its source.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tpubench.suite import project
from tpubench.suite.project import Project

ROOTS = (".import", "src", ".")
"""Where a project's packages stand in its tree: the first of these that has what it offers."""
_OURS = "tpubench"
_HOOKS = {"sitecustomize", "usercustomize"}
"""What an interpreter imports by itself as it starts, from wherever it is found first."""
_LIBRARIES = {"site-packages", "dist-packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The modules of one tree, ready to be imported."""

    folder: Path
    """To be first on the path."""
    top: Path
    """The tree that they are of."""
    checkout: Path
    """Where the project is at work; another tree, unless this is the working tree."""
    names: frozenset[str]
    """Top-level modules."""
    offers: bool
    """Whether it says what it offers tpubench."""
    what: str
    """The tree in words: ``commit 1a2b3c…``, ``the working tree``."""


def mirror(top: Path, files: Iterable[str], *, checkout: Path, into: Path, what: str) -> Code:
    """Make the mirror of a tree, once, in a folder of its own below ``into``.

    ``files``: paths in the tree, relative. ``checkout``: where the project is at work, which is
    where an editable installation points.
    """
    stated = project.read(top)
    top = top.resolve()
    sources = _sources(top, files, stated, _Installed(stated, checkout))
    entries = _entry_points(stated)
    listed = json.dumps([sorted(sources.items()), entries])
    folder = into / f"path-{hashlib.sha256(listed.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        partial = into / f".{folder.name}.{os.getpid()}"
        _link(partial, top, sources)
        for name, text in entries.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            shutil.rmtree(partial)  # somebody else was quicker
            if not folder.is_dir():
                raise
    names = frozenset(PurePosixPath(path).parts[0].split(".")[0] for path in sources)
    return Code(
        folder=folder,
        top=top,
        checkout=checkout.resolve(),
        names=names,
        offers=bool(entries),
        what=what,
    )


def walk(top: Path) -> list[str]:
    """Every file of a tree, relative; links are not followed."""
    paths = []
    for folder, _, names in os.walk(top):
        paths += [os.path.relpath(os.path.join(folder, name), top) for name in names]  # noqa: PTH118
    return paths


def _sources(
    top: Path, files: Iterable[str], stated: Project, installed: _Installed
) -> dict[str, str]:
    """Path in the mirror to path in the tree, of each file of the project's own modules."""
    kept = [path for path in map(PurePosixPath, files) if _wanted(path)]
    offered = {
        value.partition(":")[0].split(".")[0].strip()
        for entries in stated.entry_points.values()
        for value in entries.values()
    }
    sources: dict[str, dict[str, str]] = {}
    for root in (*ROOTS, *_other_roots(kept, offered)):
        if sources and offered <= sources.keys():
            break
        for name, paths in _modules(top, root, kept).items():
            namespace = f"{name}/__init__.py" not in paths and f"{name}.py" not in paths
            if name not in sources and installed.leaves(name, namespace=namespace):
                sources[name] = paths
    return {link: source for paths in sources.values() for link, source in paths.items()}


def _other_roots(kept: Iterable[PurePosixPath], offered: Iterable[str]) -> list[str]:
    """Folders elsewhere in the tree that hold an offered module, the least deep first."""
    ends = {(f"{name}/__init__.py", f"{name}.py") for name in offered}
    roots = {
        str(path.parents[end.count("/")])
        for path in kept
        for pair in ends
        for end in pair
        if str(path).endswith(f"/{end}")
    }
    return sorted(roots, key=lambda root: (root.count("/"), root))


def _modules(top: Path, root: str, kept: Iterable[PurePosixPath]) -> dict[str, dict[str, str]]:
    """Top-level modules below a root: their files, path in the mirror to path in the tree."""
    modules: dict[str, dict[str, str]] = {}
    for name, prefix in _folders(top, root).items():
        inside = [path.relative_to(prefix) for path in kept if path.is_relative_to(prefix)]
        inside = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
        if any(_is_module(path) for path in inside):
            modules[name] = {f"{name}/{path}": str(prefix / path) for path in inside}
    for path in kept:
        if path.parent == PurePosixPath(root) and _is_module(path):
            modules[path.name.split(".")[0]] = {path.name: str(path)}
    return modules


def _folders(top: Path, root: str) -> dict[str, PurePosixPath]:
    """Folders below a root by name: where in the tree they really are."""
    folders = {}
    for path in (top / root).iterdir() if (top / root).is_dir() else ():
        real = path.resolve()
        named = path.name.isidentifier() and path.name not in ROOTS
        environment = (real / "pyvenv.cfg").exists()
        if named and real.is_dir() and real.is_relative_to(top) and not environment:
            folders[path.name] = PurePosixPath(real.relative_to(top).as_posix())
    return folders


def _wanted(path: PurePosixPath) -> bool:
    return path.suffix not in (".pyc", ".pyo") and "__pycache__" not in path.parts


def _is_module(path: PurePosixPath) -> bool:
    return path.suffix == ".py" or path.name.endswith(tuple(EXTENSION_SUFFIXES))


def _link(folder: Path, top: Path, sources: Mapping[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, source in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(top / source)


def _entry_points(stated: Project) -> dict[str, str]:
    """Metadata files by path, so that what this tree offers goes before what is installed."""
    if stated.name is None or not stated.entry_points:
        return {}
    name = re.sub(r"[-_.]+", "_", stated.name)
    folder = f"{name}-{stated.version}.dist-info"
    points = "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in stated.entry_points.items()
    )
    metadata = f"Metadata-Version: 2.1\nName: {stated.name}\nVersion: {stated.version}\n"
    return {f"{folder}/METADATA": metadata, f"{folder}/entry_points.txt": points}


class _Installed:
    """What this interpreter has installed, beside the project."""

    def __init__(self, stated: Project, checkout: Path) -> None:
        self.project, self.checkout = stated, checkout.resolve()
        self.paths = [
            entry
            for entry in sys.path
            if Path(entry).name in _LIBRARIES
            or (entry and not Path(entry).resolve().is_relative_to(self.checkout))
        ]

    def leaves(self, name: str, *, namespace: bool) -> bool:
        """Whether a top-level name may be the project's: no library's, and no other project's."""
        if name in sys.stdlib_module_names or name in _HOOKS:
            return False
        if name == _OURS:
            return self.project.name == _OURS
        spec = self._spec(name)
        if spec is None:
            return True
        if spec.origin is None:  # a namespace is shared
            return namespace
        if Path(spec.origin).resolve().is_relative_to(self.checkout) and not _library(spec.origin):
            return True  # an editable installation of this very project
        return self._is_ours(name)

    def _spec(self, name: str) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, self.paths)
        if spec is not None:
            return spec
        for finder in sys.meta_path:
            kind = finder if isinstance(finder, type) else type(finder)
            if "editable" in kind.__module__:  # an editable installation's own
                spec = finder.find_spec(name, None)
                if spec is not None:
                    return spec
        return None

    def _is_ours(self, name: str) -> bool:
        owners = importlib.metadata.packages_distributions().get(name, [])
        return any(
            _normal(owner) == _normal(self.project.name or "") or self._points_here(owner)
            for owner in owners
        )

    def _points_here(self, owner: str) -> bool:
        """Whether a distribution was installed from the checkout."""
        text = importlib.metadata.distribution(owner).read_text("direct_url.json")
        url = urlsplit(str(json.loads(text).get("url", "")) if text else "")
        return url.scheme == "file" and Path(unquote(url.path)).resolve() == self.checkout


def _library(path: str) -> bool:
    return bool(_LIBRARIES & set(Path(path).parts))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""A git revision as something that can run: its tree, and an interpreter with its dependencies.

The tree is unpacked once into a cache (``$XDG_CACHE_HOME/tpubench/refs/<commit>``), so the checkout
is not touched. Where the revision's dependency files are those of the checkout, its modules are put
in front of this interpreter's path (see :mod:`tpubench.suite.duets.trees`). Otherwise it gets an
environment of its own, layered over this one, in which pip installs what differs. Held against a
revision, the working tree is put in front likewise, whatever of it is installed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import site
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tpubench.errors import RunFailedError, UsageError
from tpubench.results import cache_folder, git
from tpubench.suite import processes
from tpubench.suite.duets import trees
from tpubench.suite.duets.trees import Code

DEPENDENCY_FILES = (
    *("pyproject.toml", "constraints.txt", "requirements.txt", "setup.py", "setup.cfg"),
    *("uv.lock", "poetry.lock", "pdm.lock"),
)
RELEASE = "release"
RELEASE_TAGS = "v[0-9]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A revision or the working tree, ready to run, and how it came about."""

    commit: str | None
    """None for the working tree."""
    python: str
    environment: Mapping[str, str]
    code: Code
    folder: Path
    """Where it is to run: the working directory's place in its tree."""
    how: str


def commit(revision: str) -> str | None:
    """The commit of ``revision`` in this checkout; None when it names none.

    ``release`` is the newest version tag (``v1.2``) that the checkout descends from.
    """
    if revision == RELEASE:
        tag = git.ask("describe", "--tags", "--abbrev=0", f"--match={RELEASE_TAGS}", "HEAD")
        return None if tag is None else commit(f"refs/tags/{tag}")
    if revision.startswith("-"):
        return None
    return git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")


def no_revision() -> str:
    """In words: that something names no revision here, and why where git says nothing at all."""
    why = git.complaint()
    return "no git revision here" + (f" ({why})" if why else "")


def checkout() -> Path:
    """The working tree that the working directory is in, else the working directory."""
    return Path(git.ask("rev-parse", "--show-toplevel") or ".")


def between(older: str, newer: str) -> list[str]:
    """One line for each commit that ``newer`` has and ``older`` has not, newest first."""
    log = git.ask("log", "--no-decorate", "--format=%h %s", f"{older}..{newer}")
    return (log or "").splitlines()


def build(revision: str) -> Built:
    """An interpreter and environment for ``revision``; built once, then found in the cache.

    UsageError when it names no commit; RunFailedError when it cannot be unpacked or installed.
    """
    sha = commit(revision)
    if sha is None:
        raise UsageError(f"{revision!r} is {no_revision()}")
    here = checkout()
    tree = _cache() / sha / "tree"
    if not tree.is_dir():
        _unpack(sha, tree)
    code = trees.mirror(
        tree, trees.walk(tree), checkout=here, into=tree.parent, what=f"commit {sha[:12]}"
    )
    python, how = sys.executable, "its code in front of this environment (same dependency files)"
    if _dependencies(tree) != _dependencies(here):
        python = str(_own_environment(tree, _cache() / sha / "environment"))
        how = "in an environment of its own (its dependency files differ)"
    place = tree / Path.cwd().resolve().relative_to(here.resolve())
    return Built(
        commit=sha,
        python=python,
        environment=_in_front(code, here),
        code=code,
        folder=place if place.is_dir() else tree,
        how=how,
    )


@cache
def working_tree() -> Built:
    """The files of the checkout as they are now, in front of this interpreter's path."""
    here = checkout()
    ignored = ("--others", "--ignored", "--exclude-standard", "--", "*.so")  # compiled in place
    listed = [
        git.ask("ls-files", "-z", *options, directory=here) or ""
        for options in (("--cached", "--others", "--exclude-standard"), ignored)
    ]
    files = {path for text in listed for path in text.split("\0") if (here / path).is_file()}
    folder = tempfile.TemporaryDirectory(prefix="tpubench-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    code = trees.mirror(
        here, sorted(files), checkout=here, into=Path(folder.name), what="the working tree"
    )
    return Built(
        commit=None,
        python=sys.executable,
        environment=_in_front(code, here),
        code=code,
        folder=Path.cwd(),
        how="its code in front of this environment",
    )


def _in_front(code: Code, here: Path) -> dict[str, str]:
    """The variables that put a tree's modules first. Those of the checkout give way to them."""
    others = [
        entry
        for entry in processes.python_path()
        if not Path(entry).resolve().is_relative_to(here.resolve()) or "site-packages" in entry
    ]
    return {"PYTHONPATH": os.pathsep.join([str(code.folder), *others])}


def _cache() -> Path:
    folder = cache_folder.root()
    if folder is None:
        raise UsageError(f"no home folder to unpack revisions in: set {cache_folder.VARIABLE}")
    return folder / "refs"


def _unpack(sha: str, tree: Path) -> None:
    """The revision's files, all of them: ``git archive`` would leave out what is export-ignore."""
    partial = tree.with_name(f"tree.{os.getpid()}")
    partial.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="tpubench-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        top = checkout()
        done = [
            git.ask(*step, directory=top, variables=index)
            for step in (
                ("read-tree", sha),
                ("checkout-index", "--all", f"--prefix={partial}{os.sep}"),
            )
        ]
    if None in done:
        shutil.rmtree(partial)
        raise RunFailedError(
            f"git cannot unpack {sha[:12]}: are all its files here? (git fetch --refetch)"
        )
    try:
        partial.rename(tree)
    except OSError:
        shutil.rmtree(partial)  # somebody else was quicker
        if not tree.is_dir():
            raise


def _dependencies(tree: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((tree / name).read_bytes()).hexdigest()
        for name in DEPENDENCY_FILES
        if (tree / name).is_file()
    }


def _own_environment(tree: Path, folder: Path) -> Path:
    python = folder / "bin" / "python"
    done_mark = folder / ".installed"
    if done_mark.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # What is installed here counts as installed there: pip adds only what differs.
    below = "\n".join(f"import site; site.addsitedir({path!r})" for path in site.getsitepackages())
    (packages / "_below.pth").write_text(below + "\n", encoding="utf-8")
    constraints = tree / "constraints.txt"
    done = subprocess.run(
        [
            *processes.command(str(python), "pip"),
            *("install", "--quiet", "--disable-pip-version-check"),
            *(("--constraint", str(constraints)) if constraints.is_file() else ()),
            str(tree),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=processes.environment(),
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunFailedError(f"pip cannot install {tree.parent.name[:12]}: {last}")
    done_mark.touch()
    return python

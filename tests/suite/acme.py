"""A third party's project with a workload of its own, in each layout, installed in each way.

The workload's forward pass stands in a module of its own, so that what slows it down is not in the
file that defines the workload.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheels import wheel

ROOT = Path(__file__).parent.parent.parent
LAYOUTS = {"flat": ".", "src": "src", "namespace": "."}
INSTALLED = ("no", "wheel", "editable")
WORKLOAD = """
from tpubench.workloads.gemm import Gemm

from {package} import model


class Acme(Gemm):
    name = "acme"
    summary = "a layer of somebody else's"

    def build(self, case, device, weights):
        step = super().build(case, device, weights)
        once = step.run

        def run(*marks):
            for _ in range(model.FORWARD_PASSES - 1):
                step.layer(step.a_MK)
            return once(*marks)

        step.run = run
        return step
"""
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "acme-bench"
version = "1.0"
[project.entry-points."tpubench.workloads"]
acme = "{package}:Acme"
[tool.setuptools.packages.find]
where = ["{root}"]
include = ["acme*"]
"""
CASE = ("--set", "m=32", "--set", "n=256", "--set", "k=256", "--set", "dtype=float32")


@dataclass(frozen=True, kw_only=True)
class Acme:
    """The project's checkout and an interpreter beside it."""

    checkout: Path
    package: str
    root: str
    python: str
    cache: Path

    @property
    def model(self) -> Path:
        """The module that holds the forward pass."""
        return self.checkout / self.root / self.package.replace(".", "/") / "model.py"

    def write(self, passes: int) -> None:
        self.model.write_text(f"FORWARD_PASSES = {passes}\n")

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=self.checkout, check=True, capture_output=True
        )

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**kept, "XDG_CACHE_HOME": str(self.cache), **variables}

    def ab(self, *arguments: str, **variables: str) -> tuple[int, dict[str, Any], str]:
        """``tpubench ab`` in the checkout: exit code, its document, and what it said besides."""
        done = subprocess.run(
            [self.python, "-P", "-m", "tpubench.cli", "ab", "--workload", "acme", "--json", *CASE,
             "--preset", "square-512", "--store", str(self.cache / "store"), *arguments],
            cwd=self.checkout, env=self.environment(**variables), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        document = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, document, done.stderr


def project(folder: Path, layout: str, installed: str) -> Acme:
    """Two commits, the second with the forward pass twice; the first is what is installed."""
    checkout = folder / "checkout"
    package = "acme.bench" if layout == "namespace" else "acme_bench"
    root = LAYOUTS[layout]
    python = _interpreter(folder / "env")
    acme = Acme(
        checkout=checkout, package=package, root=root, python=python, cache=folder / "cache"
    )
    acme.model.parent.mkdir(parents=True)
    acme.model.with_name("__init__.py").write_text(WORKLOAD.format(package=package))
    (checkout / "pyproject.toml").write_text(PYPROJECT.format(package=package, root=root))
    acme.write(1)
    acme.git("init", "--quiet")
    acme.commit("First")
    install(acme, installed)
    acme.write(2)
    acme.commit("Forward pass twice")
    return acme


def install(acme: Acme, how: str) -> None:
    """As pip would leave it: a copy, or a path to the checkout."""
    (packages,) = Path(acme.python).parent.parent.glob("lib/python*/site-packages")
    if how == "no":
        return
    files = {}
    if how == "wheel":
        base = acme.checkout / acme.root
        files = {str(p.relative_to(base)): p.read_text() for p in acme.model.parent.glob("*.py")}
    else:
        (packages / "acme.pth").write_text(f"{acme.checkout / acme.root}\n")
    points = f"[tpubench.workloads]\nacme = {acme.package}:Acme\n"
    files["acme_bench-1.0.dist-info/entry_points.txt"] = points
    with zipfile.ZipFile(wheel(acme.cache.parent, "acme_bench", "1.0", files)) as archive:
        archive.extractall(packages)


def install_with_pip(acme: Acme, *, editable: bool) -> None:
    """As pip and setuptools really do it; nothing is fetched."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    target = ["--editable", str(acme.checkout)] if editable else [str(acme.checkout)]
    subprocess.run(
        [acme.python, "-P", "-m", "pip", "install", *options, *target],
        env=acme.environment(),
        check=True,
        capture_output=True,
    )


def _interpreter(folder: Path) -> str:
    """An environment of its own over this one, with tpubench of this checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    below = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "below.pth").write_text("\n".join([str(ROOT / ".import"), *below]) + "\n")
    return str(folder / "bin" / "python")

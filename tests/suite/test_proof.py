"""Each side of a duet runs its own code, in every layout, installed or not; else it is refused."""

from __future__ import annotations

import importlib.util
import json
import py_compile
import subprocess
from pathlib import Path
from typing import Any

import acme
import pytest
from acme import Acme

REVISIONS = ("HEAD~1", "HEAD")
STRANGERS = ("json.py", "torch.py", "numpy.py", "conftest.py", "sitecustomize.py")


def pair(project: Acme, *sides: str, workload: str = "acme", **variables: str) -> dict[str, Any]:
    """What one pair of a duet says of the code that it ran."""
    script = str(Path(__file__).parent / "in_child" / "pair.py")
    done = subprocess.run(
        [project.python, "-P", script, *(sides or REVISIONS), workload],
        cwd=project.checkout,
        env=project.environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("installed", acme.INSTALLED)
@pytest.mark.parametrize("layout", acme.LAYOUTS)
def test_two_revisions_run_their_own_code(tmp_path: Path, layout: str, installed: str) -> None:
    project = acme.project(tmp_path, layout, installed)
    answer = pair(project)
    assert answer == {"differing": f"imported code that differs: {project.package}.model"}


def test_the_working_tree_is_what_lies_there_not_what_is_installed(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "flat", "wheel")
    project.write(3)
    assert "acme_bench.model" in pair(project, "HEAD", ".")["differing"]
    project.write(2)
    assert "no imported file differs" in pair(project, "HEAD", ".")["differing"]


@pytest.mark.parametrize("where", ["src", "{here}:"])
def test_a_path_to_the_checkout_gives_way_to_each_side_s_tree(tmp_path: Path, where: str) -> None:
    project = acme.project(tmp_path, "src", "wheel")
    path = where.format(here=project.checkout / "src")
    assert "acme_bench.model" in pair(project, PYTHONPATH=path)["differing"]


def test_what_else_lies_in_a_flat_repository_is_not_imported(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "flat", "wheel")
    for name in STRANGERS:
        (project.checkout / name).write_text("raise SystemExit(f'{__name__} was imported')\n")
    folder = project.checkout / "tpubench" / "suite" / "duets"
    folder.mkdir(parents=True)
    (folder / "child.py").write_text("raise SystemExit(9)\n")
    project.commit("Files with the names of others")
    assert "acme_bench.model" in pair(project, "HEAD~2", "HEAD")["differing"]
    assert "acme_bench.model" in pair(project, "HEAD~2", ".")["differing"]


def test_bytecode_in_the_repository_is_not_run(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "flat", "wheel")
    project.model.write_text("raise SystemExit('stale bytecode was run')\n")
    cached = importlib.util.cache_from_source(str(project.model))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(project.model), cfile=cached, invalidation_mode=unchecked)
    project.write(2)
    project.commit("Bytecode that does not look at its source")
    project.git("add", "--force", cached)
    assert "no imported file differs" in pair(project, "HEAD", ".")["differing"]


def pin(project: Acme, code: str) -> None:
    """Have something run as the interpreter starts, as editable installations do."""
    (packages,) = Path(project.python).parent.parent.glob("lib/python*/site-packages")
    (packages / "_pin.py").write_text(code)
    (packages / "a_pin.pth").write_text("import _pin\n")


FINDER = """
import sys
from importlib.machinery import PathFinder
class Pin:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{root!r}]) if name == {package!r} else None
sys.meta_path.insert(0, Pin())
"""


@pytest.mark.parametrize("how", ["finder", "path"])
def test_an_installation_that_pins_one_tree_is_refused_by_name(tmp_path: Path, how: str) -> None:
    project = acme.project(tmp_path, "flat", "editable")
    root = str(project.checkout)
    code = f"import sys; sys.path.insert(0, {root!r})\n"
    pin(project, FINDER.format(root=root, package="acme_bench") if how == "finder" else code)
    refused = pair(project)["refused"]
    assert refused.startswith("baseline stands for commit ") or "candidate stands" in refused
    assert str(project.model.with_name("__init__.py")) in refused


def test_a_module_that_only_the_checkout_has_is_refused_by_name(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "namespace", "editable")
    project.model.write_text("from acme.extra import FORWARD_PASSES\n")
    (project.checkout / "acme" / "extra.py").write_text("FORWARD_PASSES = 2\n")
    project.git("add", str(project.model))
    project.git("commit", "--quiet", "-m", "Needs a file that is not committed")
    refused = pair(project, "HEAD~1", "HEAD")["refused"]
    assert refused.endswith(f"imported acme.extra from {project.checkout / 'acme' / 'extra.py'}")


def test_a_workload_that_does_not_use_the_project_is_refused(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "flat", "wheel")
    assert "imported none of its files" in pair(project, workload="gemm")["refused"]


def test_a_file_that_changes_while_it_is_compared_is_refused(tmp_path: Path) -> None:
    project = acme.project(tmp_path, "flat", "no")
    project.model.write_text(
        "import pathlib\n"
        "def __getattr__(name):\n"
        "    path = pathlib.Path(__file__).resolve()\n"
        "    path.write_text(path.read_text() + '# touched\\n')\n"
        "    return 1\n"
    )
    code, document, said = project.ab("--baseline", "HEAD", "--backend", "fake", "--quads", "1")
    assert code == 4, said
    (finding,) = document["findings"]
    assert finding["verdict"] == "refused"
    assert "acme_bench/model.py changed while it was compared" in finding["reason"]


def real(project: Acme, *sides: str) -> dict[str, Any]:
    """The verdict of a duet on the CPU, timed for real."""
    options = ("--backend", "cpu", "--compile-mode", "eager", "--no-confirm", "--quads", "5")
    code, document, said = project.ab(*options, *sides)
    assert code == 1, (document, said)
    (finding,) = document["findings"]
    assert finding["verdict"] == "regressed" and finding["worse_ratio"]["point"] > 1.3
    return finding


@pytest.mark.parametrize(("layout", "installed"), [("flat", "wheel"), ("src", "no")])
def test_the_forward_pass_twice_is_a_regression(
    tmp_path: Path, layout: str, installed: str
) -> None:
    real(acme.project(tmp_path, layout, installed), "--baseline", "HEAD~1", "--candidate", "HEAD")


@pytest.mark.nightly
@pytest.mark.parametrize("installed", acme.INSTALLED)
@pytest.mark.parametrize("layout", acme.LAYOUTS)
def test_the_forward_pass_twice_is_a_regression_however_it_is_installed(
    tmp_path: Path, layout: str, installed: str
) -> None:
    project = acme.project(tmp_path, layout, "no")
    project.git("reset", "--quiet", "--hard", "HEAD~1")
    if installed != "no":
        acme.install_with_pip(project, editable=installed == "editable")
    project.write(2)
    real(project, "--baseline", "HEAD", "--candidate", ".")
    project.commit("Forward pass twice")
    real(project, "--baseline", "HEAD~1", "--candidate", "HEAD")

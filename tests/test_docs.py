"""The documentation names everything there is, and says what the code says."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest
import typer.main

from tpubench import cli
from tpubench.suite import registry

ROOT = Path(__file__).parent.parent
PROSE = "\n".join(
    path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)
MADE = runpy.run_path(str(ROOT / "docs" / "_make.py"))["PAGES"]


def commands() -> dict[str, object]:
    group = typer.main.get_command(cli.app)
    return dict(group.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", MADE)
def test_generated_pages_are_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == MADE[page](), "run: python docs/_make.py"


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented_and_explains_itself(command: str) -> None:
    assert f"tpubench {command}" in PROSE
    assert getattr(commands()[command], "help", None)


@pytest.mark.parametrize("option", [o for p in commands()["run"].params for o in p.opts])  # type: ignore[attr-defined]
def test_every_option_of_run_is_documented(option: str) -> None:
    if option.startswith("--"):
        assert f"{option}" in PROSE


@pytest.mark.parametrize("name", [*registry.workloads(), *registry.backends()])
def test_every_workload_and_backend_is_documented(name: str) -> None:
    assert f"`{name}`" in PROSE


@pytest.mark.parametrize("name", registry.workloads())
def test_every_workload_has_a_recipe_in_its_folder(name: str) -> None:
    folder = Path(inspect.getfile(type(registry.workloads()[name]))).parent
    recipe = (folder / "README.md").read_text(encoding="utf-8")
    assert f"tpubench run --workload {name}" in recipe
    for what in ("**Counted**", "**Checked**"):
        assert what in recipe


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("workloads/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_has_exactly_two_set_up_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Set-up")[1].split("##")[0]
    assert re.findall(r"^    (\S.*)$", section, re.M) == ["make bench", "make test"]


def test_ci_runs_what_readme_says() -> None:
    assert "exec make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

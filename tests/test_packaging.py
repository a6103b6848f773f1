"""What users install is what stands in the repository, under one name."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("commands", "devices", "suite", "workloads", "results", "costs", "estimates", "reports")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_tracked_file_of_every_room(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "cli.py", "errors.py", *ROOMS],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"tpubench/{name}" for name in listed} <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"tpubench"}


def test_an_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import tpubench.devices.prices as p, tpubench.cli as c\n"
        f"assert c.__file__.startswith({str(tmp_path)!r}), c.__file__\n"
        "assert p.prices()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_editable_install_imports_the_working_tree() -> None:
    import tpubench.cli

    assert Path(tpubench.cli.__file__).resolve() == ROOT / "cli.py"


def test_metadata_names_the_licence_and_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["scripts"] == {"tpubench": "tpubench.cli:main"}
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.nightly
def test_a_release_works_in_an_empty_environment(tmp_path: Path) -> None:
    """The sdist, the wheel that is built from it, and what pip installs of it: no torch."""
    out = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.suffix for path in sorted(out.iterdir())] == [".whl", ".gz"]
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    (wheel,) = out.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    command = python.with_name("tpubench")
    store = ROOT / "tests" / "results" / "fixtures" / "store-1.0.0rc1"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def says(*arguments: str) -> str:
        return subprocess.run(
            [command, *arguments], cwd=tmp_path, env=environment, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert says("--version") == f"tpubench {version}\n"
    signers = str(store / "allowed_signers")
    says("verify", "--strict", "--allowed-signers", signers, "--store", str(store))
    assert "square-512" in says("show", "--store", str(store))
    says("report", "published", "--out", "page")
    assert (tmp_path / "page" / "report.html").stat().st_size > 100_000
    refused = subprocess.run(
        [command, "run", "--workload", "gemm"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 5 and "pip install" in refused.stderr
    assert refused.stderr.count("\n") == 1

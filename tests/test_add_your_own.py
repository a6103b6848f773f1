"""The examples of docs/add-your-own.md, as they stand there, in places of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("commands", "devices", "suite", "workloads", "results", "costs", "estimates", "reports")
PAGE = (ROOT / "docs" / "add-your-own.md").read_text(encoding="utf-8")
EXAMPLES = {
    match[1]: match[0].split("\n", 1)[1].rsplit("```", 1)[0]
    for match in re.finditer(r"```\w+\n# (\S+)\n.*?```", PAGE, re.S)
}


def tpubench(folder: Path, *words: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tpubench.cli", *words],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(path), "TPUBENCH_STORE": str(folder / "store")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product, to add files to."""
    folder = tmp_path_factory.mktemp("tree")
    product = folder / "tpubench"
    for room in ROOMS:
        shutil.copytree(ROOT / room, product / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cli.py", "errors.py"):
        shutil.copy(ROOT / name, product / name)
    return folder


def test_a_training_step_of_a_file_in_a_strangers_folder(tmp_path: Path) -> None:
    assert len(EXAMPLES["my_gpt.py"].splitlines()) <= 50
    (tmp_path / "my_gpt.py").write_text(EXAMPLES["my_gpt.py"])
    printed = tpubench(
        tmp_path, "run", "--workload", "my_gpt:TrainGpt2", "--preset", "tiny", "--backend", "fake",
        "--repeats", "1", "--json", path=tmp_path / "nowhere",
    )  # fmt: skip
    rows = {row["metric"]: row for row in json.loads(printed)["rows"]}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert set(rows["samples_s"]["environment"]["timing"]["parity"]) == {
        "float32 twin", "gradient", "loss", "optimizer", "timed loss", "timed step",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "reference", "backend", "name"),
    [
        ("my_mlp.py", "my_mlp:Mlp", "cpu", "my-mlp"),
        ("my_whisper.py", "my_whisper:WhisperEncoder", "fake", "my-whisper-encoder"),
    ],
)
def test_a_workload_of_a_file_in_a_strangers_folder(
    tmp_path: Path, file: str, reference: str, backend: str, name: str
) -> None:
    assert len(EXAMPLES[file].splitlines()) <= 40
    (tmp_path / file).write_text(EXAMPLES[file])
    nowhere = tmp_path / "nowhere"
    printed = tpubench(
        tmp_path, "run", "--workload", reference, "--preset", "tiny", "--set", "batch=4",
        "--backend", backend, "--repeats", "1", "--json", path=nowhere,
    )  # fmt: skip
    rows = {row["metric"]: row for row in json.loads(printed)["rows"] if row["workload"] == name}
    assert {row["status"] for row in rows.values()} == {"ok"}
    about = rows["samples_s"]["environment"]
    assert set(about["timing"]["parity"]) == {
        "float32 twin", "outputs", "other inputs", "every sample",
    }  # fmt: skip
    assert about["work"]["pass"]["flops"] > 0 and about["work"]["pass"]["bytes"] > 0
    if name == "my-mlp":
        assert about["work"]["pass"]["flops"] == 4 * 2 * 2 * 32 * 64
        rate, hidden = rows["samples_s"]["value"], 64
        assert rows["my_neurons_s"]["value"] == pytest.approx(rate * hidden)
        # Whoever reads the store need not have the file.
        (tmp_path / file).unlink()
        tpubench(tmp_path, "report", "--out", "page", path=nowhere)
        page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
        assert "hidden neurons computed ÷ window" in page


def test_a_workload_of_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "my_mlp.py").write_text(EXAMPLES["my_mlp.py"])
    information = tmp_path / "my_mlp-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-mlp\nVersion: 1\n")
    group, point = re.findall(r'points\."(.+)"\]\n(.+)\n', EXAMPLES["entry-points.toml"])[0]
    (information / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "a perceptron of ours" in tpubench(elsewhere, "list", "workloads", path=tmp_path)
    printed = tpubench(
        elsewhere, "run", "--workload", "my-mlp", "--preset", "tiny", "--backend", "fake",
        "--repeats", "1", "--json", path=tmp_path,
    )  # fmt: skip
    assert {row["status"] for row in json.loads(printed)["rows"]} == {"ok"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere:Mlp", "ModuleNotFoundError: No module named 'nowhere'"),
        ("my_mlp:Perceptron", "has no attribute 'Perceptron'"),
        ("my_mlp:replace", "my_mlp:replace is no Workload"),
        ("my_mlp:", "write package.module:Class"),
        ("broken:Mlp", "SyntaxError"),
        ("taken:Mine", "is called 'gemm', which there is already"),
    ],
)
def test_a_reference_that_leads_nowhere_is_one_line(
    tmp_path: Path, reference: str, words: str
) -> None:
    (tmp_path / "my_mlp.py").write_text(EXAMPLES["my_mlp.py"])
    (tmp_path / "broken.py").write_text("class Mlp(:\n")
    (tmp_path / "taken.py").write_text(
        "from tpubench.workloads.gemm import Gemm\nclass Mine(Gemm): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tpubench.cli", "run", "--workload", reference, "--dry-run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and words in done.stderr


def test_a_file_lying_there_is_not_taken_for_a_library(tmp_path: Path) -> None:
    (tmp_path / "my_mlp.py").write_text(EXAMPLES["my_mlp.py"])
    (tmp_path / "json.py").write_text("raise SystemExit('taken for the standard library')\n")
    words = ("run", "--workload", "my_mlp:Mlp", "--preset", "tiny", "--backend", "fake")
    printed = tpubench(tmp_path, *words, "--repeats", "1", "--json", path=tmp_path / "nowhere")
    assert {row["status"] for row in json.loads(printed)["rows"]} == {"ok"}


def test_a_backend_of_a_package_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "acme_backends.py").write_text(EXAMPLES["acme_backends.py"])
    information = tmp_path / "acme_backends-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-backends\nVersion: 1\n"
    )
    group, point = re.findall(r'points\."(.+)"\]\n(.+)\n', EXAMPLES["pyproject.toml"])[0]
    (information / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    (command,) = (
        line.split()[1:] for line in PAGE.splitlines() if line.endswith("--backend one-thread")
    )
    printed = tpubench(
        tmp_path, *command, "--repeats", "1", "--set", "dtype=float32", "--json", path=tmp_path
    )
    rows = json.loads(printed)["rows"]
    assert {row["backend"] for row in rows} == {"one-thread"}
    rate = next(row for row in rows if row["metric"] == "flop_s")
    assert rate["value"] > 1e8
    assert rate["environment"]["fingerprint"]["description"]["threads"] == 1


def test_an_importer_is_a_file(tree: Path, tmp_path: Path) -> None:
    name = "results/importers/token_csv.py"
    (tree / "tpubench" / name).write_text(EXAMPLES[name])
    (tmp_path / "rates.csv").write_text(
        "model,device,chips,tok_s\nllama-3.1-8b,v6e-8,,9000\nllama-3.1-8b,H100 SXM,2,5000\n"
    )
    assert "token-csv" in tpubench(tmp_path, "import", "list", path=tree)
    for words in (("token-csv", "--dry-run"), ("auto",)):
        printed = tpubench(tmp_path, "import", *words, "rates.csv", "--json", path=tree)
        assert "line 2" in printed
    rows = json.loads(tpubench(tmp_path, "show", "latest", "--json", path=tree))
    each = next(row for row in rows if row["metric"] == "output_tok_s_per_chip")
    assert (each["device"], each["value"]) == ("nvidia-h100-sxm", 2500)


def test_a_section_is_a_file(tree: Path, tmp_path: Path) -> None:
    from sample_rows import make_row

    from tpubench.results.store import write

    name = "reports/sections/s45_slowest.py"
    (tree / "tpubench" / name).write_text(EXAMPLES[name])
    rows = [make_row(), make_row("ttft_s", [0.5, 0.6, 0.7])]
    write(tmp_path / "store", "case", rows)
    tpubench(tmp_path, "report", "--out", "page", path=tree)
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "Where users wait longest" in page and "0.600 s" in page

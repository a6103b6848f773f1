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


def test_a_backend_of_a_package_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "acme_backends.py").write_text(EXAMPLES["acme_backends.py"])
    information = tmp_path / "acme_backends-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-backends\nVersion: 1\n"
    )
    group, point = re.findall(r'points\."(.+)"\]\n(.+)\n', EXAMPLES["pyproject.toml"])[0]
    (information / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    command = PAGE.split("    tpubench ")[1].split("\n")[0].split()
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

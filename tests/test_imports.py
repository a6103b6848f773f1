"""Who may import whom, and what stays light: the walls of the house."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("commands", "devices", "suite", "workloads", "results", "costs", "estimates", "reports")
GROUND = {"devices", "errors"}
"""Under every other room: hardware and its prices, and the errors a user can cause."""
MAY_IMPORT = {
    "devices": {"errors"},
    "results": GROUND,
    "costs": {"results", *GROUND},
    "reports": {"results", "costs", *GROUND},
    "workloads": {"suite.workload"},
    "suite": {"results", "costs", *GROUND},
    "estimates": {"results", "costs", "suite", "workloads", *GROUND},
    "commands": {"suite", "results", "costs", "estimates", "reports", *GROUND},
}
TORCH_ROOMS = {"suite", "workloads"}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, TYPE_CHECKING blocks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        if not name.startswith("tpubench."):
            assert name.split(".")[0] != "torch" or room in TORCH_ROOMS, f"{room} imports {name}"
            continue
        target = name.removeprefix("tpubench.")
        allowed = {room, *MAY_IMPORT[room]}
        assert any(target == a or target.startswith(f"{a}.") for a in allowed), (
            f"{path.relative_to(ROOT)} imports tpubench.{target}"
        )


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules loaded once a command has run."""
    code = (
        "import sys, json, atexit\n"
        "atexit.register(lambda: print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})),"
        " file=sys.stderr))\n"
        f"sys.argv = ['tpubench', *{list(arguments)!r}]\n"
        "from tpubench.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


HEAVY = {"torch", "pandas", "matplotlib", "plotly", "transformers"}


def test_help_loads_nothing_heavy() -> None:
    assert not loaded_by("--help") & {*HEAVY, "numpy", "scipy", "pyarrow"}


def test_show_verify_and_lists_need_no_torch_pandas_or_matplotlib(tmp_path: Path) -> None:
    from sample_rows import make_row

    from tpubench.results.store import write

    write(tmp_path, "case", [make_row()])
    for command in (["show"], ["show", "--json"], ["verify"]):
        assert not loaded_by(*command, "--store", str(tmp_path)) & HEAVY
    for what in ("workloads", "backends", "devices", "metrics", "presets"):
        assert not loaded_by("list", what) & HEAVY
    assert not loaded_by("doctor") & HEAVY


def test_the_parent_of_a_run_never_loads_torch() -> None:
    assert not loaded_by("run", "--workload", "llama-infer", "--dry-run") & HEAVY


def test_a_command_imports_at_its_top_only_what_every_command_needs() -> None:
    for path in sorted((ROOT / "commands").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_top = {
            node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tpubench.")
        }
        assert at_top <= {"tpubench.commands._options", "tpubench.errors"}, path.name

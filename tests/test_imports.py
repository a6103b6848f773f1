"""Who may import whom, and what stays light: the walls of the house."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Collection
from graphlib import TopologicalSorter
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
    "workloads": {"suite.workload", "suite.serving.service"},
    "suite": {"results", "costs", *GROUND},
    "estimates": {"results", "costs", "suite", "workloads", *GROUND},
    "commands": {"suite", "results", "costs", "estimates", "reports", *GROUND},
}
TORCH_ROOMS = {"suite", "workloads"}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, TYPE_CHECKING blocks included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


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


DEFINES = {
    "workloads/forward/__init__.py",
    "workloads/forward/training/__init__.py",
    "workloads/_tokenizer/__init__.py",
}
"""Torch-free definitions that import their own program only when it is built."""


def needs(path: Path, modules: Collection[str]) -> set[str]:
    """Modules of ours that a file imports to run, in functions too: not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    taken = [
        (node.module, f"{node.module}.{alias.name}")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    return {inner if inner in modules else outer for outer, inner in taken} & set(modules)


def test_no_import_leads_back_to_where_it_came_from() -> None:
    """Not in functions either, where a circle hides."""
    names = {path: f"tpubench.{path.relative_to(ROOT).with_suffix('')}" for path in FILES}
    modules = {
        name.replace("/", ".").removesuffix(".__init__"): path
        for path, name in names.items()
        if str(path.relative_to(ROOT)) not in DEFINES
    }
    TopologicalSorter({name: needs(path, modules) for name, path in modules.items()}).prepare()


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


HEAVY = {"torch", "pandas", "matplotlib", "transformers"}


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
        every = {f"tpubench.{name}" for name in ("commands._app", "commands._options", "errors")}
        assert at_top <= every, path.name


PRECISION_WIDTHS = {0.5, 0.5625, 1, 2, 4, 8, 16, 32}


def second_homes(path: Path) -> list[str]:
    """Lines that decide whose a device is, list devices, or give precisions their widths."""
    from tpubench.devices.precisions import PRECISIONS
    from tpubench.devices.sheets import devices

    names, homes = set(devices()), []
    makers = ("tpu", "nvidia", "amd")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            asked = node.func.attr == "startswith"
            if asked and any(str(t).rstrip("-") in makers for t in texts):
                homes.append(f"{path.name}:{node.lineno} asks a name whose the device is")
        elif isinstance(node, ast.Dict):
            widths = [
                key.value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value in PRECISIONS
                and isinstance(value, ast.Constant) and value.value in PRECISION_WIDTHS
            ]  # fmt: skip
            if len(widths) > 1:
                homes.append(f"{path.name}:{node.lineno} gives precisions their widths")
        if isinstance(node, ast.Dict | ast.Set | ast.Tuple | ast.List):
            parts = node.values if isinstance(node, ast.Dict) else node.elts
            listed = {p.value for p in parts if isinstance(p, ast.Constant)} & names
            if len(listed) > 2:
                homes.append(f"{path.name}:{node.lineno} lists devices")
    return homes


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_makers_and_widths_have_one_home(path: Path) -> None:
    if path.parent.name != "devices":
        assert second_homes(path) == []


def test_a_second_home_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "second.py"
    path.write_text(
        'BYTES = {"bfloat16": 2, "fp8": 1}\n'
        'def tpu(name): return name.startswith("tpu-")\n'
        'NEW = ("tpu-v7", "tpu-v6e", "nvidia-h100-sxm")\n',
        encoding="utf-8",
    )
    assert len(second_homes(path)) == 3


def test_no_two_files_of_the_tests_have_one_name() -> None:
    """They are imported by their names alone: of two, one would stand in for the other."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))

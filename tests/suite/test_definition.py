"""Which files define a workload: followed from its imports, and held against what Python loads."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tpubench.suite import definition, registry
from tpubench.suite.workload import Workload

BUILT = """
import contextlib, importlib, json, os, sys, types
import torch
from tpubench.suite.workload import Device
from tpubench.suite.case import Weights

def loaded(module, name):
    # Without its ``__init__``, which imports all of its neighbours.
    bare = types.ModuleType("tpubench.workloads.llama")
    bare.__path__ = [f"{workloads.__path__[0]}/llama"]
    sys.modules[bare.__name__] = bare
    workload = getattr(importlib.import_module(module), name)()
    case = workload.cases("tiny", {})[0]
    step = workload.build(case, Device(torch_device="cpu"), Weights())
    step.run(lambda *_: None)
    with contextlib.suppress(AttributeError):  # it asks None how a reference is to be computed
        workload.checks(case, step, None)
    return [n for n in sys.modules if n.startswith("tpubench.workloads.") and n != bare.__name__]

import tpubench.workloads as workloads
for each in sys.argv[1:]:
    if not os.fork():
        print(json.dumps([each, loaded(*each.split(":"))]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, each
"""


def defining(workload: Workload) -> set[str]:
    return set(definition.modules(workload._kinds()))


@pytest.mark.parametrize(
    "names",
    [
        ("llama-decode", "moe-infer"),
        pytest.param(
            ("dlrm-v2", "embed", "llama-lora", "llama-pretrain", "llama-speculate", "moe-pretrain"),
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_no_module_that_is_loaded_is_left_out(names: tuple[str, ...]) -> None:
    """Python itself says what a program is built of."""
    workloads = {_reference(name): registry.workloads()[name] for name in names}
    command = [sys.executable, "-c", BUILT, *workloads]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("[")]
    assert [each for each, _ in lines] == list(workloads)
    for each, loaded in lines:
        packages = {name.rpartition(".")[0] for name in loaded} - {each.partition(":")[0]}
        modules = {name for name in loaded if name not in packages}
        assert len(modules) > 4
        assert modules <= defining(workloads[each]), each


def _reference(name: str) -> str:
    kind = type(registry.workloads()[name])
    return f"{kind.__module__}:{kind.__name__}"


def test_what_is_shared_with_another_workload_defines_both() -> None:
    speculate, moe = (registry.workloads()[name] for name in ("llama-speculate", "moe-infer"))
    shared = {
        f"tpubench.workloads.{name}"
        for name in ("llama.model", "llama.experts", "llama.program", "_checkpoint.gguf")
    }
    assert shared <= defining(speculate) & defining(moe)


def test_a_neighbour_that_is_not_imported_defines_nothing() -> None:
    assert "tpubench.workloads.llama.prefill" not in defining(registry.workloads()["llama-decode"])
    vision = defining(registry.workloads()["vit-l16"])
    assert not [name for name in vision if name.startswith("tpubench.workloads.llama")]


@pytest.mark.parametrize("name", registry.workloads())
def test_what_compile_exports_is_no_part_of_what_is_imported_ahead(name: str) -> None:
    ahead = registry.workloads()[name].source_modules()
    assert not [module for module in ahead if module.endswith((".program", "_tokenizer"))]


FILES = {
    "__init__.py": "from acme_models.big import Big\n",
    "big.py": (
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from tpubench.workloads.gemm import Gemm\n"
        "if TYPE_CHECKING:\n    from . import words\n"
        "class Big(Gemm):\n"
        "    name = 'acme-big'\n"
        "    sources = ('table.csv',)\n"
        "    def build(self, case, device, weights):\n"
        "        from .layers import wide\n"
        "        return wide.step(case)\n"
    ),
    "layers/__init__.py": "",
    "lazy/__init__.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .later import Later\n"
        "def __getattr__(name):\n    raise AttributeError(name)\n"
    ),
    "lazy/later.py": "Later = 1\n",
    "layers/wide.py": "from ..lazy import Later\nfrom ..sizes import WIDTH\nimport acme_other\n",
    "sizes.py": "WIDTH = 8\n",
    "words.py": "",
    "unused.py": "",
    "table.csv": "1,2\n",
    "README.md": "a recipe\n",
}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workload, Path]:
    """A package of a stranger in a folder of his, ``acme_other`` beside it."""
    folder = tmp_path / "acme_models"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (tmp_path / "acme_other.py").write_text("OTHER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_models"]:
        monkeypatch.delitem(sys.modules, name)
    workload: Workload = importlib.import_module("acme_models").Big()
    return workload, tmp_path


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("acme_models/big.py", True),
        ("acme_models/layers/wide.py", True),
        ("acme_models/sizes.py", True),
        ("acme_models/lazy/later.py", True),
        ("acme_models/table.csv", True),
        ("acme_other.py", True),
        ("acme_models/words.py", False),
        ("acme_models/unused.py", False),
        ("acme_models/README.md", False),
    ],
)
def test_a_strangers_file_counts_when_the_program_is_built_of_it(
    acme: tuple[Workload, Path], path: str, counts: bool
) -> None:
    workload, folder = acme
    before = workload.source_sha256()
    with (folder / path).open("a") as stream:
        stream.write("# another line\n")
    assert (workload.source_sha256() != before) is counts


def test_what_it_extends_counts_too(acme: tuple[Workload, Path]) -> None:
    workload, _ = acme
    assert {"tpubench.workloads.gemm", "tpubench.workloads._row_checks"} <= defining(workload)
    assert "tpubench.suite.workload" not in defining(workload)


def test_an_installed_library_beside_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "acme_lone.py").write_text(
        "import acme_library\nfrom tpubench.workloads.gemm import Gemm\nclass Lone(Gemm): pass\n"
    )
    (installed / "acme_library.py").write_text("")
    monkeypatch.syspath_prepend(str(installed))
    lone = importlib.import_module("acme_lone").Lone()
    assert "acme_library" not in defining(lone)
    assert "acme_lone" in defining(lone)


def test_a_neighbour_that_is_no_python_is_read_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_odd.py").write_text(
        "from tpubench.workloads.gemm import Gemm\n"
        "class Odd(Gemm):\n"
        "    def build(self, case, device, weights):\n"
        "        import acme_broken\n"
    )
    (tmp_path / "acme_broken.py").write_text("print 'of another age'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "acme_broken" in defining(importlib.import_module("acme_odd").Odd())

"""What a remembered reference of somebody's model depends on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from tpubench.workloads.forward import Forward
from tpubench.workloads.forward.identity import program_sha256
from tpubench.workloads.vit import VitL16

FILE = """
from torch import nn
import {package}
from tpubench.workloads.forward import Forward, Input


class Model(Forward):
    version, summary = 1, "one of two in a file"
    presets, shapes = {{"tiny": "32 wide"}}, {{"tiny": {{}}}}

    def inputs(self, case):
        return [Input(shape=(32,))]


class One(Model):
    name = "one"

    def module(self, case):
        return nn.Sequential(nn.Linear(32, 32), {package}.Act())


class Two(Model):
    name = "two"

    def module(self, case):
        return nn.Sequential(nn.Linear(32, 32), nn.Tanh())
"""
ACT = """
from torch import nn


class Act(nn.Module):
    def forward(self, x):
        return x.{how}()
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text(ACT.format(how="relu"))
    (tmp_path / "two_models.py").write_text(FILE.format(package="a_package"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("a_package", "two_models"):
        sys.modules.pop(name, None)


def model(name: str) -> Forward:
    for module in ("a_package", "two_models"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    offered: Forward = getattr(importlib.import_module("two_models"), name)()
    return offered


def sha(name: str) -> str:
    workload = model(name)
    (case,) = workload.cases("tiny", {})
    return program_sha256(workload, workload.module(case))


@pytest.mark.usefixtures("theirs")
def test_two_models_of_a_file_are_two() -> None:
    assert sha("One") == sha("One") != sha("Two")


def test_a_change_of_the_package_that_holds_the_model_is_another(theirs: Path) -> None:
    before = sha("One"), sha("Two")
    (theirs / "a_package" / "__init__.py").write_text(ACT.format(how="sigmoid"))
    after = sha("One"), sha("Two")
    assert before[0] != after[0] and before[1] == after[1]


def test_an_attribute_decides_too() -> None:
    class Pair(nn.Module):
        def __init__(self, causal: bool) -> None:
            super().__init__()
            self.causal = causal

    assert len({program_sha256(VitL16(), Pair(causal)) for causal in (True, False)}) == 2

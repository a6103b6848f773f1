"""What third parties offer: loaded when asked for, named when broken, and in nobody's way."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite import doctor, registry
from tpubench.suite.catalogue import catalogue
from tpubench.suite.run import choose_backend

GOOD = """
from tpubench.suite.workload import Metric, Workload
from tpubench.workloads.gemm import Gemm
class Good(Gemm):
    name = "good"
class Twin(Gemm):
    name = "gemm"
class Nameless(Gemm):
    name = None
class Other:
    pass
class Twice(Gemm):
    name = "twice"
    metrics = (Metric(name="flop_s", unit="x", better="higher", aggregate="mean", formula=""),)
class Bare(Workload):
    name = "bare"
    build = work = measure = None
print("loud")
class Listed(Gemm):
    name = "listed"
    presets = ["small"]
class Worded(Gemm):
    name = "worded"
    version = "one"
class Unfinished(Gemm):
    name = "unfinished"
    def __init__(self):
        raise RuntimeError("half\\nof it")
"""
OFFERED = {
    "good": "third_party:Good",
    "alias": "third_party:Alias",
    "broken": "third_party_broken:Broken",
    "exits": "third_party_exits:Exits",
    "absent": "third_party_absent:Absent",
    "gemm": "third_party:Twin",
    "nameless": "third_party:Nameless",
    "other": "third_party:Other",
    "twice": "third_party:Twice",
    "bare": "third_party:Bare",
    "unfinished": "third_party:Unfinished",
    "listed": "third_party:Listed",
    "worded": "third_party:Worded",
}


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "third_party.py").write_text(GOOD)
    (tmp_path / "third_party_broken.py").write_text("1 / 0\n")
    (tmp_path / "third_party_exits.py").write_text("raise SystemExit(3)\n")
    info = tmp_path / "third_party-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 2.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in OFFERED.items())
    (info / "entry_points.txt").write_text(f"[tpubench.workloads]\n{lines}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()
    yield
    monkeypatch.undo()
    registry.forget()


@pytest.mark.usefixtures("third_party")
def test_a_third_party_is_found_by_its_name_and_hinders_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert registry.workload("good").name == "good"
    assert registry.workload("gemm").__class__.__module__ == "tpubench.workloads.gemm"
    assert {"good", "gemm", "llama-infer"} <= registry.workloads().keys()
    assert not {"broken", "other", "unfinished"} & registry.workloads().keys()
    assert capsys.readouterr().out == ""  # where our JSON stands


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "'broken' of third-party 2.0 cannot be loaded: ZeroDivisionError"),
        ("exits", "'exits' of third-party 2.0 cannot be loaded: SystemExit: 3"),
        ("absent", "'absent' of third-party 2.0 cannot be loaded: ModuleNotFoundError"),
        ("alias", "'alias' of third-party 2.0 cannot be loaded: AttributeError"),
        ("other", "third_party:Other is no Workload"),
        ("twice", "metrics of third_party:Twice: .*flop_s.* known already"),
        ("bare", "third_party:Bare lacks version, summary, presets, parameters, primary_metric"),
        ("nameless", "third_party:Nameless is no string"),
        ("unfinished", "cannot be loaded: RuntimeError: half$"),
        ("listed", r"presets of third_party:Listed must be words on each .*, not \['small'\]"),
        ("worded", "version of third_party:Worded must be a whole number, not 'one'"),
    ],
)
def test_one_that_is_broken_is_named_when_asked_for(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        registry.workload(name)


@pytest.mark.usefixtures("third_party")
def test_all_that_are_broken_are_listed_beside_what_is_not() -> None:
    listed = catalogue("workloads")
    assert "good" in {record["name"] for record in listed.records}
    assert len(listed.notes) == len(OFFERED) - 1
    assert any("offers 'gemm', which there is already" in note for note in listed.notes)
    details = [finding.detail for finding in doctor.examine().findings]
    assert set(listed.notes) <= set(details)


@pytest.mark.parametrize("name", registry.workloads())
def test_what_extends_a_standard_program_is_built_of_its_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's subclass lies elsewhere; the files beside its base are found all the same."""
    kind = type(registry.workloads()[name])
    module = f"extends_{name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(
        f"from {kind.__module__} import {kind.__name__} as Base\nclass Mine(Base): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = importlib.import_module(module).Mine()
    assert set(mine.source_modules()) == {*registry.workloads()[name].source_modules(), module}
    for imported in mine.source_modules():
        assert importlib.util.find_spec(imported) is not None
    assert len(mine.source_sha256()) == 64


def test_a_backend_that_errs_hinders_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose probe raises once ended every run that asked for the best backend, and doctor."""
    (tmp_path / "their_backend.py").write_text(
        "from tpubench.suite.backends.cpu import Cpu\n"
        "class Theirs(Cpu):\n"
        "    name, rank = 'theirs', 9\n"
        "    def probe(self, python=None):\n"
        "        raise ZeroDivisionError('division\\nby zero')\n"
        "    def device_present(self):\n"
        "        raise KeyError('chip')\n"
    )
    information = tmp_path / "their_backend-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[tpubench.backends]\ntheirs = their_backend:Theirs\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()
    try:
        chosen, _, note = choose_backend("auto")
        said = "the backend itself failed: ZeroDivisionError: division"
        assert chosen.name != "theirs" and f"no theirs: {said}" in (note or "")
        assert said in [f.detail for f in doctor.examine().findings if f.backend == "theirs"]
        assert registry.device_present(registry.backend("theirs")) is None
        with pytest.raises(RunFailedError, match="theirs cannot run here: the backend itself"):
            choose_backend("theirs")
    finally:
        monkeypatch.undo()
        registry.forget()

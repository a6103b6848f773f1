"""A store that is as it was sealed is read once, however large; only files with rows that look like
others are looked at again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import tampering
from sample_rows import make_row

from tpubench.results import store as facts
from tpubench.results.row import to_table
from tpubench.results.sealing import check, manifest


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose rows are made from now on."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # not the disk is tested here
    read: list[Path] = []
    load = facts.load

    def counting(path: Path) -> object:
        read.append(path)
        return load(path)

    monkeypatch.setattr(facts, "load", counting)
    return read


def test_each_file_of_a_store_without_a_chain_is_read_once(
    tmp_path: Path, loaded: list[Path]
) -> None:
    tampering.build(tmp_path, random.Random(1), runs=9)
    loaded.clear()
    assert check.check(tmp_path).covered == 27
    assert sorted(loaded) == sorted(facts.files(tmp_path).files)


def test_files_with_rows_alike_are_read_again_and_named_however_few_fit_at_once(
    tmp_path: Path, loaded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "ROWS_AT_ONCE", 1)
    tampering.build(tmp_path, random.Random(1), runs=9)
    samples = [1.1, 1.2, 1.3, 1.4, 1.5]
    twice = [f"20260301T00000{number}-aaaaaa" for number in range(2)]
    for run_id in twice:
        manifest.close(
            [facts.write(tmp_path, "case", [make_row("ttft_s", samples, run_id=run_id)])]
        )
    loaded.clear()
    seal_check = check.check(tmp_path)
    assert {(each.kind, each.where) for each in seal_check.tampered} == {
        ("replayed", f"{run_id}/case.parquet") for run_id in twice
    }
    assert len(loaded) == 27 + 2 + 2


def test_a_file_that_nobody_sealed_is_held_against_what_was(
    tmp_path: Path, loaded: list[Path]
) -> None:
    tampering.build(tmp_path, random.Random(1), runs=2)
    (copied, *_) = facts.files(tmp_path).files
    rows = tampering.rows_of(copied)
    facts.write_into(tmp_path / "20260401T000000-aaaaaa", "case", to_table(rows[:1]))
    seal_check = check.check(tmp_path)
    assert [each.kind for each in seal_check.tampered] == ["replayed"]
    assert [each.path.parent.name for each in seal_check.not_covered] == ["20260401T000000-aaaaaa"]

"""References that were kept: whatever happened to the file, what comes back is whole or nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tpubench.suite import reference_cache
from tpubench.suite.reference_cache import ReferenceCache

KEY = {"model": "m", "prompt": [1, 2, 3]}


@pytest.fixture
def cache(tmp_path: Path) -> ReferenceCache:
    kept = ReferenceCache(tmp_path / "references")
    kept.keep(KEY, {"logits": torch.arange(1000.0)})
    return kept


def entry(cache: ReferenceCache) -> Path:
    assert cache.where is not None
    (file,) = cache.where.iterdir()
    return file


def test_what_was_kept_comes_back(cache: ReferenceCache) -> None:
    tensors = cache.recall(KEY)
    assert tensors is not None and tensors["logits"].equal(torch.arange(1000.0))
    assert cache.recall(KEY | {"model": "n"}) is None


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "nothing")


def looping(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def vast(file: Path) -> None:
    os.truncate(file, 50 << 30)


def open_to_all(file: Path) -> None:
    file.parent.chmod(0o777)


@pytest.mark.parametrize(
    "damage",
    [cut_short, flipped, empty, folder, pipe, dangling, looping, vast, open_to_all],
)
def test_what_was_damaged_is_computed_again(
    cache: ReferenceCache, damage: Callable[[Path], None]
) -> None:
    damage(entry(cache))
    assert cache.recall(KEY) is None
    cache.keep(KEY, {"logits": torch.ones(3)})  # as the run that had to compute it does
    again = cache.recall(KEY)
    assert again is None or again["logits"].equal(torch.ones(3))
    assert cache.where is not None
    assert not list(cache.where.glob(".*")), "half of a file is left"


def test_a_disk_that_is_full_keeps_nothing_and_no_half_of_it(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path / "references")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        cache.keep(KEY, {"logits": torch.arange(1000.0)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.recall(KEY) is None
    assert list((tmp_path / "references").iterdir()) == []


@pytest.mark.parametrize("where", [None, Path("/proc/none"), Path(__file__)])
def test_without_a_folder_nothing_is_remembered(where: Path | None) -> None:
    cache = ReferenceCache(where)
    cache.keep(KEY, {"logits": torch.ones(3)})
    assert cache.recall(KEY) is None


def test_the_oldest_go_when_there_are_too_many_whatever_else_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ReferenceCache(tmp_path / "references")
    monkeypatch.setattr(reference_cache, "MOST_BYTES", 20_000)
    (tmp_path / "references" / "a folder").mkdir(parents=True)
    for number in range(10):
        cache.keep({"number": number}, {"logits": torch.arange(1000.0)})
        for file in (tmp_path / "references").iterdir():  # so that the clock's grain is no matter
            if file.is_file() and file.stat().st_mtime > 10**6:
                os.utime(file, (number, number))
    kept = [number for number in range(10) if cache.recall({"number": number}) is not None]
    assert kept == sorted(kept) and kept[-1] == 9 and 1 <= len(kept) < 10
    assert cache_bytes(tmp_path) <= 20_000


def cache_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

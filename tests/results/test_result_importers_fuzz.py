"""Import files from anybody: whatever is wrong with one, it is refused with a UsageError."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
import time
from pathlib import Path
from typing import Any

import other_tools as tools
import pytest

from tpubench.costs.imported import Given, Origin, to_rows
from tpubench.errors import UsageError
from tpubench.results.importers import formats, read_results
from tpubench.results.row import to_table

NASTY: list[Any] = [
    None,
    True,
    "",
    "x" * 5000,
    "\ud800\u202e\n\x00",
    "=cmd|' /C calc'!A0",
    -1,
    0,
    1e308,
    10**40,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[[]]]],
    {"": {"": None}},
    "../../etc/passwd",
    "8",
    "1e999",
]
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def mutated(document: Any, rng: random.Random) -> Any:
    """A copy with one to three places replaced, removed or moved."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        here, path = document, []
        while isinstance(here, dict | list) and here and (not path or rng.random() < 0.8):
            key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
            path.append((here, key))
            here = here[key]
        if not path:
            return rng.choice(NASTY)
        parent, key = path[-1]
        if rng.random() < 0.2:
            del parent[key]
        else:
            parent[key] = rng.choice(NASTY)
    return document


def spoiled(text: str, rng: random.Random) -> str:
    """Text with a slice cut, doubled or overwritten."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) or 1)
        end = min(len(text), at + rng.randint(1, 40))
        text = text[:at] + rng.choice(["", text[at:end] * 2, "\x00", "-9", "{", '"']) + text[end:]
    return text


def attempt(name: str, path: Path) -> bool:
    """Whether the file was accepted; then its rows must be storable."""
    try:
        imported = read_results(name, path)
    except UsageError as error:
        assert "\n" not in str(error)
        return False
    origin = Origin(format_name=name, file=path.name, sha256="0" * 64)
    rows = to_rows(imported.records, Given(), origin, run_id="r", now=NOW)
    to_table(rows)
    return True


def fuzz(count: int, tmp_path: Path) -> int:
    rng = random.Random(7)
    accepted = 0
    names = sorted(tools.DOCUMENTS)
    for index in range(count):
        path = tmp_path / f"{index % 50}.json"
        if index % 4 == 3:
            text = spoiled(rng.choice([tools.MLPERF_LOG, tools.training_log()]), rng)
            path = path.with_suffix(".txt")
            name = rng.choice(["mlperf-inference", "mlperf-training"])
        else:
            name = rng.choice(names)
            text = json.dumps(mutated(rng.choice(tools.DOCUMENTS[name]), rng))
            text = spoiled(text, rng) if rng.random() < 0.1 else text
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        began = time.monotonic()
        accepted += attempt(name, path)
        assert time.monotonic() - began < 10
    return accepted


def test_mutated_files_give_rows_or_one_line(tmp_path: Path) -> None:
    accepted = fuzz(600, tmp_path)
    assert 60 < accepted < 580, "the mutations are too harsh or too mild to test anything"


@pytest.mark.nightly
def test_ten_thousand_mutated_files(tmp_path: Path) -> None:
    assert fuzz(10_000, tmp_path) > 1000


@pytest.mark.parametrize("name", sorted(formats()))
def test_noise_is_refused_by_every_format(name: str, tmp_path: Path) -> None:
    rng = random.Random(3)
    for _ in range(30):
        path = tmp_path / "noise.json"
        path.write_bytes(rng.randbytes(rng.randint(0, 400)))
        assert not attempt(name, path)

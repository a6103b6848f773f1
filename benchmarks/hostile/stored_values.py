"""Files whose checksums all hold and whose rows say something absurd."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hostile.stored import NUMBERS, Base, plain, stored
from tpubench.results.metrics import METRICS
from tpubench.results.store import DIGEST_KEY

TEXTS = (
    "",
    "\x1b[2J\x1b]0;owned\x07",
    "\u009b31m",
    "a\nb\rc\td",
    "\u202egnp.exe",
    "=cmd|' /C calc'!A0",
    "[red]x[/red]",
    "[/]",
    "\x00",
    "x" * 5000,
    "x" * 2_000_000,
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "%s%n{0}{",
    "\U0001f600\u0301\ufeff",
    "nan",
    "-1",
    "latest",
)
JSON_TEXTS = (
    "null",
    "1",
    '"x"',
    "[]",
    "{}",
    "{",
    "",
    "NaN",
    '{"batch": NaN}',
    '{"batch": 1e999}',
    '{"batch": ' + "9" * 5000 + "}",
    '{"batch": 1, "batch": 2}',
    '{"batch": {"a": [1, {"b": null}]}}',
    '{"batch": "\\ud800"}',
    '{"batch": "\\u001b[31m"}',
    '{"\\u001b[31m": 1}',
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"fingerprint": 3}',
    '{"fingerprint": {"shape": [1], "machine": null, "precision": NaN}}',
    '{"fingerprint": {"a": {"b": {"c": "\\u009b"}}}, "import": 4, "libraries": [], "machine": "x"}',
    '{"machine": {"memory_bytes": "x"}, "settings": null, "checks": 1, "clock": [], "limits": {}}',
)
FLOATS = (
    0.0,
    -0.0,
    -1.0,
    1e308,
    -1e308,
    5e-324,
    1e-308,
    1e60,
    float("nan"),
    float("inf"),
    float("-inf"),
    1.0,
)
WORDS = {
    "evidence": ("measured", "published", "compiled", "modelled", "guessed", ""),
    "status": ("ok", "failed", "skipped", "invalid", "unknown", "OK"),
    "better": ("higher", "lower", "sideways"),
    "metric": (*METRICS, "no_such_metric", ""),
    "unit": ("s", "token/s", "parsec", "", "$/Mtok"),
    "device": ("tpu-v6e", "nvidia-h100-sxm", "cpu", "potato"),
    "backend": ("cpu", "fake", "imported", "tpu", "nobody"),
    "price_as_of": ("2026-01-01", "yesterday", "0000-00-00", "9999-12-31"),
    "dtype": ("bfloat16", "int3"),
    "workload": ("llama-infer", "llama-pretrain", "gemm", "hbm", "nothing"),
    "run_id": ("20260101T000000-abcdef", "99991231T235959-ffffff", "duet", "latest", "a/b"),
    "reason": ("as stored in run x", "because"),
}


def _hostile(name: str, kind: pa.DataType, rng: random.Random) -> Any:
    if name in {"params", "environment"}:
        return rng.choice([*JSON_TEXTS, *TEXTS])
    if name in WORDS and rng.random() < 0.6:
        return rng.choice(WORDS[name])
    if kind == pa.string():
        return rng.choice(TEXTS)
    if kind == pa.int64():
        return rng.choice(NUMBERS)
    if kind == pa.float64():
        return rng.choice(FLOATS)
    if kind == pa.bool_():
        return rng.choice([True, False, None])
    if kind == pa.list_(pa.float64()):
        return rng.choice([[], [None], [rng.choice(FLOATS)] * 3, [1.0] * 1000, list(FLOATS), None])
    return None


def values(base: Base, rng: random.Random) -> tuple[bytes, list[dict[str, Any]]]:
    """One to three columns hold something absurd, in some rows or in all."""
    table = base.table
    for name in rng.sample(table.column_names, rng.choice([1, 1, 2, 3])):
        place, kind = table.column_names.index(name), table.schema.field(name).type
        if name == "started_at":
            ticks = [rng.choice([*NUMBERS, -62135596800 * 10**6]) for _ in range(table.num_rows)]
            new = pa.array(ticks, type=pa.int64()).cast(kind)
        else:
            cells = table[name].to_pylist()
            hit = [0] if rng.random() < 0.4 else range(len(cells))
            same = _hostile(name, kind, rng)
            for index in hit:
                fresh = rng.random() < 0.3
                cells[index] = _hostile(name, kind, rng) if fresh else same
            if rng.random() < 0.1:
                cells[rng.randrange(len(cells))] = None
            new = pa.array(cells, type=kind)
        table = table.set_column(place, pa.field(name, kind), new)
    try:
        return stored(table), plain(table)
    except (OverflowError, ValueError, RecursionError):
        # A digest that cannot be computed cannot be right either.
        out = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({DIGEST_KEY: b"0" * 64}), out)
        return out.getvalue(), []


def columns(base: Base, rng: random.Random) -> bytes:
    """Columns of other types, twice, missing, in other order, or added."""
    table = base.table
    count = table.num_rows
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    other: list[Callable[[], pa.Array]] = [
        lambda: pa.nulls(count),
        lambda: pa.nulls(count, pa.string()),
        lambda: pa.array([b"\xff\xfe"] * count),
        lambda: pa.array([1] * count, pa.int32()),
        lambda: pa.array([1] * count, pa.uint64()),
        lambda: pa.array([1.0] * count, pa.float32()),
        lambda: pa.array(["x"] * count, pa.large_string()),
        lambda: pa.array(["x"] * count).dictionary_encode(),
        lambda: pa.array([{"a": 1}] * count),
        lambda: pa.array([[["x"]]] * count),
        lambda: pa.array([[("k", 1)]] * count, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([10**30] * count, pa.decimal128(38, 0)),
        lambda: pa.array([2**62] * count, pa.timestamp("ns")),
        lambda: pa.array([10**15] * count, pa.timestamp("s", tz="Mars/Olympus")),
        lambda: pa.array([2**31 - 1] * count, pa.date32()),
        lambda: pa.array([2**62] * count, pa.duration("s")),
        lambda: pa.array([1] * count, pa.time64("ns")),
        lambda: pa.array([b"1234"] * count, pa.binary(4)),
        lambda: pa.array([[1.0, 2.0]] * count, pa.list_(pa.float64(), 2)),
        lambda: pa.array([True] * count),
    ]
    how = rng.randrange(5)
    value = rng.choice(other)()
    if how == 0:
        table = table.drop_columns([name])
    elif how == 1:
        table = table.set_column(place, name, value)
    elif how == 2:
        table = table.append_column(name, rng.choice([table[name], value]))
    elif how == 3:
        table = table.append_column(rng.choice(["mood", "", "\x1b[31m", "a.b", "x" * 9999]), value)
    else:
        table = table.select(rng.sample(table.column_names, len(table.column_names)))
    try:
        return stored(table)
    except (OverflowError, ValueError, KeyError, RecursionError, pa.ArrowException):
        out = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({DIGEST_KEY: b"0" * 64}), out)
        return out.getvalue()


def versions(base: Base, rng: random.Random) -> bytes:
    table = base.table
    version = rng.choice([2, 99, 2**63 - 1, 0, -1])
    return stored(table.set_column(0, table.schema.field(0), pa.array([version] * table.num_rows)))


def layouts(base: Base, rng: random.Random) -> bytes:
    """Good rows in a layout that no tpubench writes: codecs, encodings, versions, row groups."""
    options: dict[str, Any] = rng.choice(
        [
            {"compression": rng.choice(["snappy", "gzip", "brotli", "lz4", "none"])},
            {"use_dictionary": False},
            {"data_page_version": "2.0"},
            {"row_group_size": 1},
            {"version": "1.0", "coerce_timestamps": "us"},
            {"use_dictionary": False, "column_encoding": {"reason": "DELTA_BYTE_ARRAY"}},
            {"use_dictionary": False, "column_encoding": {"value": "BYTE_STREAM_SPLIT"}},
            {"store_schema": False},
            {"write_page_index": True},
            {"use_compliant_nested_type": False},
        ]
    )
    return stored(base.table, **options)

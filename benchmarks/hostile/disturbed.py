"""Bytes, JSON documents and JSON files with something wrong."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.checkpoint import CONFIG

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2,
    3,
    2**26,
    2**31,
    2**63,
    10**30,
    10**4000,
    1.5,
    1e-308,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x1b[2J",
    "\ud800",
    "y" * 100_000,
    [],
    [1],
    [[[[]]]],
    {},
    {"rope_type": "llama3"},
    {"rope_type": "linear", "factor": 1e308},
    {"quant_method": "\x1b[31m"},
)


def disturbed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, splices; most of them near the start, where headers are."""
    how = rng.randrange(4)
    if how == 0:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            changed[rng.randrange(min(len(data), rng.choice([64, 2048, 10**9])))] ^= 1 << (
                rng.randrange(8)
            )
        return bytes(changed)
    if how == 1:
        return data[: rng.choice([0, 1, 8, 16, rng.randrange(len(data))])]
    at, other = sorted(rng.randrange(len(data)) for _ in range(2))
    part = rng.choice([b"", bytes(other - at), b"\xff" * (other - at), data[at:other] * 2])
    return data[:at] + part + data[other:] if how == 2 else rng.randbytes(rng.randrange(5000))


def disturbed_tree(document: Any, rng: random.Random) -> Any:
    """A copy of a JSON document with one to three places replaced, removed, added or moved."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        here: Any = document
        path: list[tuple[Any, Any]] = []
        while isinstance(here, dict | list) and here and (not path or rng.random() < 0.75):
            key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
            path.append((here, key))
            here = here[key]
        if not path:
            return rng.choice(HOSTILE)
        parent, key = rng.choice(path)
        how = rng.random()
        if how < 0.2:
            del parent[key]
        elif how < 0.3 and isinstance(parent, list):
            parent.extend([copy.deepcopy(parent[key])] * rng.choice([1, 5000]))
        elif how < 0.4 and isinstance(parent, dict):
            parent[rng.choice(["", "x", "\x00", "\ud800"])] = parent[key]
        else:
            parent[key] = rng.choice(HOSTILE)
    return document


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def odd_json(path: Path, rng: random.Random) -> None:
    """A file that is huge, sparse, too deep, not UTF-8, or no file at all."""

    def sparse() -> None:
        with path.open("wb") as stream:
            stream.write(b"{")
            stream.truncate(1 << 40)

    def huge() -> None:
        with path.open("wb") as stream:
            stream.write(b'{"a": [' + b"[]," * (30 << 20) + b"[]]}")

    def spaces() -> None:
        path.write_bytes(b" " * (600 << 20) + b"{}")

    path.unlink(missing_ok=True)
    changes: list[Callable[[], object]] = [
        sparse,
        huge,
        spaces,
        lambda: path.write_bytes(b"[" * 1_000_000),
        lambda: path.write_bytes(b'{"a":' * 200_000),
        lambda: path.write_bytes(b'{"hidden_size": ' + b"9" * 5_000_000 + b"}"),
        lambda: path.write_bytes(dumped(CONFIG).replace(b"llama", b"\xff\xfe")),
        lambda: path.write_bytes(dumped(CONFIG).decode().encode("utf-16")),
        lambda: path.write_bytes(b"\xef\xbb\xbf" + dumped(CONFIG)),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"null"),
        lambda: path.mkdir(),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path.parent / "nowhere"),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("/dev/zero"),
    ]
    rng.choice(changes)()

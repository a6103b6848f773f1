"""GGUF files with one thing changed: counts, lengths, types, places."""

from __future__ import annotations

import copy
import random
import struct
from pathlib import Path

from hostile.checkpoint import Base, text, u32
from hostile.disturbed import disturbed_bytes, odd_json


def gguf_bytes(base: Base, folder: Path, rng: random.Random) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(disturbed_bytes(base.gguf.whole(), rng))
    return path


SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (1,) * 5,
    (2**63, 2),
    (2**32, 2**32),
    (32, 0),
)
COUNTS = (0, 1, 2, 31, 2**16, 2**20, 2**31, 2**32, 2**40, 2**63, 2**64 - 1)


def gguf_header(base: Base, folder: Path, rng: random.Random) -> Path:
    """Counts, types, lengths and values of the header."""
    file = copy.deepcopy(base.gguf)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(file.values))
        key, kind, raw = file.values[at]
        how = rng.randrange(11)
        if how == 0:
            file.values[at] = (key, rng.randrange(0, 20), raw)
        elif how == 1 and kind in {8, 9}:
            place = 0 if kind == 8 else 4
            length = struct.pack("<Q", rng.choice(COUNTS))
            file.values[at] = (key, kind, raw[:place] + length + raw[place + 8 :])
        elif how == 2:
            file.values[at] = (key, 4, struct.pack("<I", rng.choice(COUNTS) & 0xFFFFFFFF))
        elif how == 3:
            number = rng.choice([float("nan"), float("inf"), 1e-45, -1.0, 3e38, 0.0])
            file.values[at] = (key, 6, struct.pack("<f", number))
        elif how == 4:
            file.values[at] = text(key.decode(), rng.choice(["", "\x1b[2J", "x" * 10**6, "\ud800"]))
        elif how == 5:
            file.values.append(u32("general.alignment", rng.choice([0, 1, 3, 2**31, 32])))
        elif how == 6:
            file.values.append(file.values[at])
        elif how == 7:
            del file.values[at]
        elif how == 8:
            file.tensor_count = rng.choice(COUNTS)
        elif how == 9:
            file.value_count = rng.choice(COUNTS)
        else:
            nest = struct.pack("<IQ", 9, 1) * rng.choice([1, 10, 100_000])
            file.values[at] = (key, 9, nest + struct.pack("<IQ", 0, 0))
    path = folder / "model.gguf"
    path.write_bytes(file.whole())
    return path


def gguf_tensors(base: Base, folder: Path, rng: random.Random) -> Path:
    file = copy.deepcopy(base.gguf)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(file.tensors))
        name, shape, kind, offset = file.tensors[at]
        how = rng.randrange(6)
        if how == 0:
            shape = rng.choice([*SHAPES, shape[::-1]])
        elif how == 1:
            kind = rng.choice([1, 2, 8, 12, 16, 30, 99, 2**31])
        elif how == 2:
            offset = rng.choice([1, 31, len(file.data), *COUNTS])
        elif how == 3:
            name = rng.choice([b"", b"\xff", b"x", b"rope_freqs.weight", file.tensors[0][0]])
        elif how == 4:
            file.tensors.append((b"rope_freqs.weight", rng.choice([(8,), (2**25,)]), 0, 0))
        else:
            file.version = rng.choice([1, 2, 3, 4, 3 << 24])
        file.tensors[at] = (name, shape, kind, offset)
    path = folder / "model.gguf"
    path.write_bytes(file.whole())
    return path


def gguf_huge(base: Base, folder: Path, rng: random.Random) -> Path:
    """Lengths that the file really has, because it is sparse."""
    file = copy.deepcopy(base.gguf)
    length = rng.choice([2**22, 2**26, 2**30, 2**33])
    path = folder / "model.gguf"
    how = rng.randrange(4)
    if how == 0:
        raw = struct.pack("<IQ", rng.choice([0, 4, 7, 8, 10, 12]), length)
        file.values = [*file.values, (b"x", 9, raw)]
    elif how == 1:
        file.values = [*file.values, (b"x", 8, struct.pack("<Q", length))]
    elif how == 2:
        file.value_count = length
    else:
        file.tensor_count = length
    file.tensors = []
    with path.open("wb") as stream:
        stream.write(file.header())
        stream.truncate(min(1 << 40, length * 16 + 4096))
    return path


def gguf_odd(base: Base, folder: Path, rng: random.Random) -> Path:
    path = folder / "model.gguf"
    odd_json(path, rng)
    return path

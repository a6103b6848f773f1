"""Prompts as token ids, drawn from a seed."""

from __future__ import annotations

import random

LEAST_ID, MOST_ID = 1_000, 30_000
"""Ids that every vocabulary of the models served here has as plain words: special tokens stand
before or behind them (SmolLM2: 49,152 ids; Mixtral: 32,000; Llama 3: 128,256)."""


def drawn(count: int, input_len: int, prefix_len: int, seed: int) -> list[tuple[int, ...]]:
    """``count`` prompts of ``input_len`` ids, the first ``prefix_len`` of which all share."""
    generator = random.Random(seed)
    prefix = ids(generator, prefix_len)
    return [prefix + ids(generator, input_len - prefix_len) for _ in range(count)]


def ids(generator: random.Random, count: int) -> tuple[int, ...]:
    """``count`` token ids."""
    return tuple(generator.choices(range(LEAST_ID, MOST_ID), k=count))

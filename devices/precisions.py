"""Precisions: their names, how else they are written, and the bytes of one value.

A row's ``dtype`` is one of :data:`PRECISIONS`. TF32 is none of them: its values are stored as
float32, and only some of a GPU's units multiply them with fewer bits, so it stands among the
peaks of a data sheet (:attr:`tpubench.devices.sheets.Device.peak_flop_s`) and reads as float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One precision of weights or arithmetic."""

    name: str
    bits: int
    """Of one value, without scales."""
    width_bytes: float
    """Of one stored value, with its share of the scales that narrow weights carry."""
    spellings: tuple[str, ...] = ()
    """Other ways to write it, lower case."""
    mentions: str = ""
    """Pattern that finds it inside a longer description, besides the name and spellings."""
    wider: str | None = None
    """The precision in which a device without units for this one calculates."""


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        precision.name: precision
        for precision in (
            Precision(
                # NVFP4: an 8-bit scale for each 16 values.
                name="fp4", bits=4, width_bytes=0.5625, spellings=("nvfp4", "mxfp4"), wider="fp8",
            ),
            Precision(
                name="fp8", bits=8, width_bytes=1.0, wider="bfloat16",
                spellings=("mxfp8", "amp_fp8"), mentions="e4m3",
            ),
            Precision(
                # A 16-bit scale and a 4-bit zero point for a group of some 64 values.
                name="int4", bits=4, width_bytes=0.53, wider="bfloat16",
                spellings=("uint4",), mentions="w4a16|awq|gptq",
            ),
            Precision(
                name="int8", bits=8, width_bytes=1.0, wider="bfloat16",
                spellings=("uint8",), mentions="w8a8|w8a16|aqt",
            ),
            Precision(
                name="float16", bits=16, width_bytes=2.0, wider="bfloat16",
                spellings=("fp16", "f16", "half"),
            ),
            Precision(
                name="bfloat16", bits=16, width_bytes=2.0,
                spellings=("bf16", "amp_bf16"), mentions="amp",
            ),
            Precision(
                name="float32", bits=32, width_bytes=4.0, spellings=("fp32", "f32", "tf32"),
            ),
        )
    }
)  # fmt: skip
"""Every precision by name, narrow ones with hardware of their own first."""

TF32 = "tf32"
"""Float32 values multiplied with 10 bits of mantissa, in Nvidia's and AMD's matrix units."""

PEAKS = ("bfloat16", "float16", "fp8", "int8", "fp4", "float32", TF32)
"""Precisions that data sheets list a peak for. int8 counts operations, the others FLOP."""

_EXACT = {
    spelling: precision.name
    for precision in PRECISIONS.values()
    for spelling in (precision.name, *precision.spellings)
}
_MENTIONS = tuple(
    (
        # Not inside a longer word: bf16 names no f16.
        re.compile(
            "(?<![a-z])(?:"
            + "|".join(filter(None, (precision.name, *precision.spellings, precision.mentions)))
            + ")"
        ),
        precision.name,
    )
    for precision in PRECISIONS.values()
)


def named(text: str) -> str | None:
    """The precision that a word names, however it is written; None for any other word."""
    return _EXACT.get(text.strip().lower())


def mentioned(text: str) -> str | None:
    """The narrowest precision named anywhere in a description; None when none is."""
    low = text.lower()[:200]
    return next((name for pattern, name in _MENTIONS if pattern.search(low)), None)


def width_bytes(name: str) -> float:
    """Bytes of one stored value; ValueError for an unknown precision."""
    try:
        return PRECISIONS[name].width_bytes
    except KeyError:
        raise ValueError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}") from None

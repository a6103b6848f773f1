"""Precisions: one name, one width, whoever writes it."""

from __future__ import annotations

import pytest

from tpubench.devices.precisions import PEAKS, PRECISIONS, mentioned, named, width_bytes


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("bf16", "bfloat16"),
        ("BF16", "bfloat16"),
        ("amp_bf16", "bfloat16"),
        ("fp16", "float16"),
        ("half", "float16"),
        ("f32", "float32"),
        ("tf32", "float32"),
        ("nvfp4", "fp4"),
        ("MXFP8", "fp8"),
        ("uint8", "int8"),
        (" int4 ", "int4"),
        ("fp8 rowwise", None),
        ("", None),
    ],
)
def test_a_word_names_one_precision(word: str, name: str | None) -> None:
    assert named(word) == name


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("bfloat16", "bfloat16"),
        ("bf16", "bfloat16"),
        ("fp8,fp16,int8", "fp8"),
        ("{'clip1': 'fp32', 'unet': 'fp8'}", "fp8"),
        ("int4 g32 (weight-only)", "int4"),
        ("int8 (AQT)", "int8"),
        ("FP8-CS", "fp8"),
        ("amp", "bfloat16"),
        ("example", None),
        ("llama-3-8b-awq", "int4"),
    ],
)
def test_a_description_names_its_narrowest_precision(cell: str, name: str | None) -> None:
    assert mentioned(cell) == name


def test_widths_are_bits_and_the_scales_of_narrow_weights() -> None:
    for precision in PRECISIONS.values():
        assert precision.bits / 8 <= precision.width_bytes < precision.bits / 8 + 0.1
    assert width_bytes("fp4") == 0.5625
    with pytest.raises(ValueError, match="unknown precision 'fp3'"):
        width_bytes("fp3")


def test_every_peak_is_of_a_known_precision_or_tf32() -> None:
    assert set(PEAKS) - set(PRECISIONS) == {"tf32"}
    assert all(p.wider in {None, *PRECISIONS} for p in PRECISIONS.values())

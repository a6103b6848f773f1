"""Which peak a run is held against."""

from __future__ import annotations

from tpubench.suite.peaks import data_sheet, in_use


def test_float32_is_held_against_the_units_that_its_settings_let_it_use() -> None:
    """With TF32 allowed a correct product runs at seven times the vector units' peak."""
    h100 = data_sheet("nvidia-h100-sxm")
    assert h100 is not None
    off, on = in_use(h100, {"tf32_matmul": False}), in_use(h100, {"tf32_matmul": True})
    assert off == h100 and on is not None
    assert on.flop_s["float32"] > 7 * h100.flop_s["float32"]
    assert on.flop_s["bfloat16"] == h100.flop_s["bfloat16"]


def test_a_tpu_has_no_float32_peak_whatever_the_settings() -> None:
    v6e = data_sheet("tpu-v6e")
    used = in_use(v6e, {"tf32_matmul": True})
    assert used is not None and "float32" not in used.flop_s
    assert in_use(None, {"tf32_matmul": True}) is None

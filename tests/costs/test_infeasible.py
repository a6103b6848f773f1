"""An impossible plan names every limit that clashes, none that does not, and each way out."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tpubench.costs.allocation.answer import allocate
from tpubench.costs.allocation.infeasible import InfeasibleError

CHIP_YEAR = 1000 * 3600 * 8760 / 1e6
"""Million tokens a year of one chip at 1,000 tok/s."""


def plan(folder: Path, *, tpu: float, gpu: float, bought: float, megawatts: float) -> Path:
    """Ten chips' work; chips to rent of two kinds, and to buy of one, which need power."""
    dated = 'source = "test"\nas_of = 2026-11-01\n'
    pairs = "".join(
        f'[[throughput]]\naccelerator = "{chip}"\nworkload = "chat"\ntok_s = 1000\n'
        'evidence = "assumed"\nsource = "test"\n'
        for chip in ("tpu-v6e", "nvidia-h100-sxm")
    )
    path = folder / "plan.toml"
    path.write_text(
        '[plan]\nname = "tight"\nfirst_year = 2027\nyears = 1\nwacc = 0.1\nutilisation = 1.0\n'
        f"[site]\nusd_per_kwh = 0.1\npue = 1.0\n{dated}"
        f"[limits]\nmegawatts = [{megawatts}]\ncapex_usd = 1e9\n"
        f'[[workload]]\nname = "chat"\ndemand_mtok = [{10 * CHIP_YEAR!r}]\n'
        f'[[accelerator]]\nname = "tpu-v6e"\nkw = 1.0\n'
        f"[accelerator.rent]\nusd_per_chip_hour = 2.0\nmax_chips = {tpu}\n{dated}"
        f'[[accelerator]]\nname = "nvidia-h100-sxm"\nkw = 1.0\n'
        f"[accelerator.buy]\ncapex_usd = 30000\nmax_chips = {bought}\nlife_years = 5\n{dated}"
        f"[accelerator.rent]\nusd_per_chip_hour = 3.0\nmax_chips = {gpu}\n{dated}{pairs}",
        encoding="utf-8",
    )
    return path


def error(path: Path) -> str:
    with pytest.raises(InfeasibleError) as caught:
        allocate(path, {}, path.parent, dt.date(2026, 11, 22), answer_only=True)
    return str(caught.value)


def test_all_that_clash_are_named_and_each_alone_would_do(tmp_path: Path) -> None:
    said = error(plan(tmp_path, tpu=3, gpu=2, bought=4, megawatts=1.0))
    clash, _, ways = said.partition("any one of these alone would do: ")
    for limit in ("rent.max_chips of tpu-v6e", "rent.max_chips of nvidia-h100-sxm",
                  "buy.max_chips of nvidia-h100-sxm"):  # fmt: skip
        assert limit in clash, limit
    assert "limits." not in said  # power and budget are there in plenty
    # One chip of ten is lacking.
    for way in ("all demand × 0.9", "rent.max_chips of tpu-v6e × 1.334",
                "rent.max_chips of nvidia-h100-sxm × 1.5",
                "buy.max_chips of nvidia-h100-sxm × 1.25"):  # fmt: skip
        assert way in ways, way
    allocate(
        plan(tmp_path, tpu=3, gpu=2, bought=5, megawatts=1.0), {}, tmp_path, dt.date(2026, 11, 22)
    )


def test_of_two_limits_on_one_way_only_the_tighter_one_clashes(tmp_path: Path) -> None:
    said = error(plan(tmp_path, tpu=3, gpu=2, bought=400, megawatts=0.004))
    assert "limits.megawatts" in said
    assert "buy.max_chips" not in said

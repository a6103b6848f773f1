"""Which parity check catches which defect, at the depths of 1B, 8B and 70B, on a CPU.

    python benchmarks/parity_defects.py [--depths 16,32,80] [--width 256] > table.md

Every defect is put into a real program (bfloat16, as written) and its twin; each cell is the error
as a multiple of what is allowed, so a check catches what stands above 1. Width is reduced: random
weights keep the size of activations at any width, so depth alone decides how rounding grows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from llama_defects import DEFECTS, case, none, outcome

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache

SIZES = {"batch": 4, "input_len": 48, "output_len": 24}
COLUMNS = ("float32 twin", "poisoned cache", "logits", "regret", "worst token")


def row(name: str, checks: list[Parity]) -> str:
    """One line of the table: a check that catches is bold."""
    shares = {check.name: check.share for check in checks}
    cells = [_cell(shares[column]) for column in COLUMNS]
    return f"| {name} | {' | '.join(cells)} |"


def _cell(share: float) -> str:
    text = f"{share:.2g}" if share < 10 else f"{share:.0f}" if share < 1000 else "> 1000"
    return f"**{text}**" if share > 1 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", default="16,32,80")
    parser.add_argument("--width", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # small operators are slower on two busy cores than on one
    workload = registry.workload("llama-infer")
    missed = []
    print(f"torch {torch.__version__}, width {asked.width}")
    with tempfile.TemporaryDirectory() as folder:
        cache = ReferenceCache(Path(folder))
        for depth in map(int, asked.depths.split(",")):
            print(f"\n### {depth} layers\n\n| | {' | '.join(COLUMNS)} |")
            print("|---|" + "--:|" * len(COLUMNS))
            for tied in (False, True):
                checks = outcome(
                    workload, case(depth, asked.width, tied=tied, **SIZES), none, cache
                )
                name = "correct, tied head" if tied else "correct"
                print(row(name, checks), flush=True)
                missed += [f"{name}: {check.name}" for check in checks if not check.ok]
            for name, defect in DEFECTS.items():
                checks = outcome(
                    workload, case(depth, asked.width, tied=False, **SIZES), defect, cache
                )
                print(row(name, checks), flush=True)
                if all(check.ok for check in checks):
                    missed.append(f"{name} at {depth} layers")
    print(f"\nWrongly judged: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()

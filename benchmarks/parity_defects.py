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
from llama_defects import DEFECTS, none, outcome

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Weights
from tpubench.workloads._llama_config import LlamaConfig

COLUMNS = ("float32 twin", "poisoned cache", "logits", "regret", "worst token")


def case(depth: int, width: int, *, tied: bool, dtype: str = "bfloat16") -> Case:
    """A Llama of so many layers, with four query heads for each two key/value heads."""
    head_dim = width // 8
    config = LlamaConfig(
        d_model=width,
        n_layers=depth,
        n_heads=8,
        n_kv_heads=2,
        head_dim=head_dim,
        d_ffn=3 * width,
        vocab=4096,
        tied=tied,
        rope_theta=500_000.0,
    )
    workload = registry.workload("llama-infer")
    sizes = {"batch": "4", "input_len": "48", "output_len": "24", "dtype": dtype}
    (tiny,) = workload.cases("tiny", {key: [value] for key, value in sizes.items()})
    shaped = Case(
        workload=tiny.workload,
        workload_version=tiny.workload_version,
        preset=f"{depth} layers",
        params=tiny.params,
        shape=config.to_json(),
    )
    return workload.prepare(shaped, Weights())


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
                checks = outcome(workload, case(depth, asked.width, tied=tied), none, cache)
                name = "correct, tied head" if tied else "correct"
                print(row(name, checks), flush=True)
                missed += [f"{name}: {check.name}" for check in checks if not check.ok]
            for name, defect in DEFECTS.items():
                checks = outcome(workload, case(depth, asked.width, tied=False), defect, cache)
                print(row(name, checks), flush=True)
                if all(check.ok for check in checks):
                    missed.append(f"{name} at {depth} layers")
    print(f"\nWrongly judged: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()

"""Which parity check catches which defect, at the depths of 1B, 8B and 70B, on a CPU.

    python benchmarks/parity_defects.py [--depths 16,32,80] [--width 256] > table.md
    python benchmarks/parity_defects.py --workload llama-infer --defect "sliding window"

Every defect is put into a real program (bfloat16, as written) and its twin; each cell is the error
as a multiple of what is allowed, so a check catches what stands above 1. Width is reduced: random
weights keep the size of activations at any width, so depth alone decides how rounding grows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attention_defects
import decoder_defects
import dlrm_train_defects
import forward_defects
import grouped_defects
import latent_defects
import limits_defects
import llama_defects
import llama_train_defects
import lora_defects
import model_train_defects
import moe_defects
import moe_train_defects
import quantized_defects
import speculate_defects
import torch
import train_option_defects
import train_port_defects
import unseen_defects
from parity_table import header, row

from tpubench.suite import registry
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One workload's defects, and the checks that may catch them."""

    workload: str
    title: str = ""
    """The workload's name, unless said."""
    columns: tuple[str, ...]
    case: Callable[..., Case]
    sizes: Mapping[str, int]
    defects: Mapping[str, Callable[[Any], None]]
    unseen: bool = False
    """Whether no check is expected to see them."""
    narrow: bool = False
    """Whether the models have half the width, for more tokens."""


GENERATING = {**llama_defects.DEFECTS, **attention_defects.DEFECTS, **decoder_defects.DEFECTS}
TRAINING = {**llama_train_defects.DEFECTS, **train_port_defects.DEFECTS}
OPTIONS = {**train_option_defects.DEFECTS, **train_port_defects.OPTION_DEFECTS}
GENERATED = ("float32 twin", "poisoned cache", "logits", "regret", "worst token")
TRAINED = ("float32 twin", "gradient", "loss", "optimizer", "timed loss", "timed step")
ROUTED = ("routing", "worst route")
"""Checks that several workloads share, as the columns of their tables."""
TABLES = (
    Table(
        workload="llama-infer",
        columns=GENERATED,
        case=llama_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=GENERATING,
    ),
    Table(
        workload="llama-infer",
        title="`llama-infer`, what no check sees",
        columns=GENERATED,
        case=llama_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=unseen_defects.DEFECTS,
        unseen=True,
    ),
    *(
        Table(
            workload="llama-infer",
            title=f"`llama-infer` in {kind}",
            columns=GENERATED,
            case=quantized_defects.case(kind),
            sizes={"batch": 4, "input_len": 48, "output_len": 24},
            defects=quantized_defects.DEFECTS,
        )
        for kind in quantized_defects.KINDS
    ),
    Table(
        workload="moe-infer",
        columns=(*GENERATED, *ROUTED),
        case=moe_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=moe_defects.DEFECTS,
    ),
    Table(
        workload="llama-speculate",
        columns=(
            "float32 twin",
            "poisoned cache",
            "acceptance",
            "logits",
            "regret",
            "draft logits",
            "draft regret",
            "worst token",
        ),
        case=speculate_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=speculate_defects.DEFECTS,
    ),
    Table(
        workload="moe-infer",
        title="`moe-infer` with latent attention",
        columns=(*GENERATED, *ROUTED),
        case=latent_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=latent_defects.DEFECTS,
    ),
    Table(
        workload="moe-infer",
        title="`moe-infer` with groups of experts",
        columns=(*GENERATED, *ROUTED),
        case=grouped_defects.case,
        sizes={"batch": 4, "input_len": 48, "output_len": 24},
        defects=grouped_defects.DEFECTS,
    ),
    Table(
        workload="llama-pretrain",
        columns=TRAINED,
        case=llama_train_defects.case,
        sizes={"batch": 2, "seq_len": 64},
        defects=llama_train_defects.DEFECTS,
    ),
    Table(
        workload="llama-pretrain",
        title="`llama-pretrain`, faults of ports",
        columns=TRAINED,
        case=llama_train_defects.case,
        sizes={"batch": 4, "seq_len": 96},
        defects=train_port_defects.DEFECTS,
        narrow=True,
    ),
    Table(
        workload="llama-pretrain",
        title="`llama-pretrain` with every option",
        columns=TRAINED,
        case=train_option_defects.case,
        sizes={"batch": 4, "seq_len": 64},
        defects=OPTIONS,
    ),
    Table(
        workload="moe-pretrain",
        columns=(*TRAINED, *ROUTED),
        case=moe_train_defects.case,
        sizes={"batch": 2, "seq_len": 64},
        defects=moe_train_defects.DEFECTS,
    ),
    Table(
        workload="llama-lora",
        columns=(*TRAINED, "frozen base"),
        case=lora_defects.case,
        sizes={"batch": 2, "seq_len": 64},
        defects=lora_defects.DEFECTS,
    ),
)


LIMITS = {
    "gemm": ("rows", "every element", "other values"),
    "hbm": ("window", "other values"),
    "attention": ("rows", "every element", "other values"),
    "h2d": ("window", "other values"),
}
"""Columns of the workloads that are no deeper than one kernel."""


def judge(
    table: Table, depth: int, width: int, cache: ReferenceCache, asked: Sequence[str] = ()
) -> list[str]:
    """Print one table, or of it the defects asked for; what was wrongly judged."""
    workload = registry.workload(table.workload)
    wrong = []
    width = width // 2 if table.narrow else width
    title = table.title or f"`{table.workload}`"
    print(f"\n### {title}, {depth} layers\n\n{header(table.columns)}")
    for name, tied in (("correct", False), ("correct, tied head", True)):
        case = table.case(depth, width, tied=tied, **table.sizes)
        checks = llama_defects.outcome(workload, case, llama_defects.none, cache)
        print(row(table.columns, name, checks), flush=True)
        wrong += [f"{name}: {check.name}" for check in checks if not check.ok]
    for name, defect in table.defects.items():
        if asked and name not in asked:
            continue
        case = table.case(depth, width, **table.sizes)
        checks = llama_defects.outcome(workload, case, defect, cache)
        print(row(table.columns, name, checks), flush=True)
        if all(check.ok for check in checks) != table.unseen:
            wrong.append(f"{name} at {depth} layers")
    return wrong


def judge_limits(name: str, cache: ReferenceCache) -> list[str]:
    """Likewise of a workload that is one kernel."""
    workload, columns = registry.workload(name), LIMITS[name]
    wrong = []
    print(f"\n### `{name}`\n\n{header(columns)}")
    for case, defects in limits_defects.BENCH:
        if case.workload != name:
            continue
        what = limits_defects.label(case)
        for defect_name, defect in {"correct": limits_defects.none, **defects}.items():
            checks = llama_defects.outcome(workload, case, defect, cache)
            print(row(columns, f"{what}: {defect_name}", checks), flush=True)
            if all(check.ok for check in checks) != (defect_name == "correct"):
                wrong.append(f"{name}, {what}: {defect_name}")
    return wrong


def judge_small(
    name: str,
    columns: Sequence[str],
    case: Case,
    defects: Mapping[str, Callable[[Any], None]],
    cache: ReferenceCache,
) -> list[str]:
    """Likewise of a model that has one small size."""
    workload = registry.workload(name)
    wrong = []
    print(f"\n### `{name}`\n\n{header(columns)}")
    for title, defect in {"correct": llama_defects.none, **defects}.items():
        checks = llama_defects.outcome(workload, case, defect, cache)
        print(row(columns, title, checks), flush=True)
        if all(check.ok for check in checks) != (title == "correct"):
            wrong.append(f"{name}: {title}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", default="16,32,80")
    parser.add_argument("--width", type=int, default=256)
    names = [
        *(table.workload for table in TABLES),
        *LIMITS,
        *forward_defects.WORKLOADS,
        *model_train_defects.WORKLOADS,
        "dlrm-train",
    ]
    parser.add_argument("--workload", choices=names)
    parser.add_argument("--title", help="only this table of the workload's")
    parser.add_argument("--defect", action="append", default=[], help="only this one of its table")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # small operators are slower on two busy cores than on one
    print(f"torch {torch.__version__}, width {asked.width}")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = ReferenceCache(Path(folder))
        for table in TABLES:
            if asked.workload in (None, table.workload) and asked.title in (None, table.title):
                for depth in map(int, asked.depths.split(",")):
                    wrong += judge(table, depth, asked.width, cache, asked.defect)
        for name in LIMITS:
            if asked.workload in (None, name):
                wrong += judge_limits(name, cache)
        for kind in (forward_defects, model_train_defects):
            for name in kind.WORKLOADS:
                if asked.workload in (None, name):
                    case, defects = kind.case(name), kind.defects(name)
                    wrong += judge_small(name, kind.COLUMNS, case, defects, cache)
        if asked.workload in (None, "dlrm-train"):
            wrong += judge_small(
                "dlrm-train",
                dlrm_train_defects.COLUMNS,
                dlrm_train_defects.case(),
                dlrm_train_defects.DEFECTS,
                cache,
            )
    print(f"\nWrongly judged: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()

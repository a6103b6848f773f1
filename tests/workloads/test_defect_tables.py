"""docs/parity.md lists every defect, and one check at least catches each."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import collective_defects
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
import train_port_defects
import unseen_defects
from parity_defects import GENERATING, OPTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
TABLES = {
    **{f"`llama-infer`, {depth} layers": set(GENERATING) for depth in (16, 80)},
    "`llama-infer`, 32 layers": set(llama_defects.DEFECTS),
    **{
        f"`llama-infer` in {kind}, 16 layers": set(quantized_defects.DEFECTS)
        for kind in quantized_defects.KINDS
    },
    **{f"`moe-infer`, {depth} layers": set(moe_defects.DEFECTS) for depth in (16, 32)},
    "`llama-speculate`, 16 layers": set(speculate_defects.DEFECTS),
    **{
        f"`llama-pretrain`, {depth} layers": set(llama_train_defects.DEFECTS)
        for depth in (16, 32, 80)
    },
    "`llama-pretrain`, faults of ports, 16 layers": set(train_port_defects.DEFECTS),
    "`llama-pretrain` with every option, 16 layers": set(OPTIONS),
    "`moe-infer` with latent attention, 16 layers": set(latent_defects.DEFECTS),
    "`moe-infer` with groups of experts, 16 layers": set(grouped_defects.DEFECTS),
    "`moe-pretrain`, 16 layers": set(moe_train_defects.DEFECTS),
    "`llama-lora`, 16 layers": set(lora_defects.DEFECTS),
    **{
        f"`{name}`": {
            f"{limits_defects.label(case)}: {defect}"
            for case, defects in limits_defects.BENCH
            if case.workload == name
            for defect in defects
        }
        for name in ("gemm", "hbm", "attention", "h2d")
    },
    **{f"`{name}`": set(forward_defects.defects(name)) for name in forward_defects.WORKLOADS},
    **{
        f"`{name}`": set(model_train_defects.defects(name))
        for name in model_train_defects.WORKLOADS
    },
    "`dlrm-train`": set(dlrm_train_defects.DEFECTS),
    "`collective`, 2 ranks": {
        collective_defects.label(operation, defect)
        for operation in collective_defects.OPERATIONS
        for defect in collective_defects.DEFECTS
    },
}


UNSEEN = "`llama-infer`, what no check sees, 80 layers"


@pytest.mark.parametrize("title", TABLES)
def test_a_table_has_every_defect_and_what_catches_it(title: str) -> None:
    rows = rows_of(title)
    correct = {name for name in rows if "correct" in name}
    assert correct and set(rows) - correct == TABLES[title]
    for name, cells in rows.items():
        assert any("**" in cell for cell in cells) == (name not in correct), name


def test_what_no_check_sees_is_said() -> None:
    rows = rows_of(UNSEEN)
    assert {name for name in rows if "correct" not in name} == set(unseen_defects.DEFECTS)
    assert not any("**" in cell for cells in rows.values() for cell in cells)


def rows_of(title: str) -> dict[str, list[str]]:
    """Cells of a table of the document, by what stands first in a line."""
    _, _, rest = DOCUMENT.read_text().partition(f"### {title}\n")
    table = re.split(r"\n#", rest)[0]
    cut = (line.strip("|").split("|") for line in lines(table))
    return {name.strip(): cells for name, *cells in cut}


def lines(table: str) -> list[str]:
    """Rows of a table without its head."""
    return [line for line in table.splitlines() if line.startswith("|")][2:]

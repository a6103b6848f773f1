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
import moe_defects
import moe_train_defects
import speculate_defects
import train_option_defects

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
TABLES = {
    **{f"`llama-infer`, {depth} layers": set(llama_defects.DEFECTS) for depth in (16, 32, 80)},
    **{f"`moe-infer`, {depth} layers": set(moe_defects.DEFECTS) for depth in (16, 32)},
    "`llama-speculate`, 16 layers": set(speculate_defects.DEFECTS),
    **{
        f"`llama-pretrain`, {depth} layers": set(llama_train_defects.DEFECTS)
        for depth in (16, 32, 80)
    },
    "`llama-pretrain` with every option, 16 layers": set(train_option_defects.DEFECTS),
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
    "`dlrm-train`": set(dlrm_train_defects.DEFECTS),
    "`collective`, 2 ranks": {
        collective_defects.label(operation, defect)
        for operation in collective_defects.OPERATIONS
        for defect in collective_defects.DEFECTS
    },
}


@pytest.mark.parametrize("title", TABLES)
def test_a_table_has_every_defect_and_what_catches_it(title: str) -> None:
    _, _, rest = DOCUMENT.read_text().partition(f"### {title}\n")
    table = re.split(r"\n#", rest)[0]
    rows = {
        name.strip(): cells
        for name, *cells in (line.strip("|").split("|") for line in lines(table))
    }
    correct = {name for name in rows if "correct" in name}
    assert correct and set(rows) - correct == TABLES[title]
    for name, cells in rows.items():
        assert any("**" in cell for cell in cells) == (name not in correct), name


def lines(table: str) -> list[str]:
    """Rows of a table without its head."""
    return [line for line in table.splitlines() if line.startswith("|")][2:]

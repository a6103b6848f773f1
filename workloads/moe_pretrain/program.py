"""The training step that a compiler is given: that of ``llama_pretrain/program.py``, with experts.

The product of experts takes the form whose shapes do not depend on the routing, as it does on a
TPU, whatever device the step is traced on.
"""

from __future__ import annotations

from functools import partial

from tpubench.suite.workload import Case, Program
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.experts import Mixture
from tpubench.workloads.llama_pretrain.model import TrainedLlama
from tpubench.workloads.llama_pretrain.program import Traced
from tpubench.workloads.llama_pretrain.program import program as dense_program
from tpubench.workloads.moe_pretrain.model import TrainedMoe
from tpubench.workloads.moe_pretrain.step import balance_of


class TracedMoe(Traced, TrainedMoe):
    """The model as it is traced."""


def program(case: Case, config: LlamaConfig) -> Program:
    """One step of ``config``'s layers, on one chip."""
    traced = partial(TracedMoe, balance=balance_of(case))
    return dense_program(case, config, chips=1, traced=traced, change=keep_shapes)


def keep_shapes(model: TrainedLlama) -> None:
    """Give each mixture the form of its product in which no shape depends on the routing."""
    for module in model.modules():
        if isinstance(module, Mixture):
            module.static = True

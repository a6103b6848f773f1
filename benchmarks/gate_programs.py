"""The programs on which the gate's promises are measured, with a knob for real extra work."""

from __future__ import annotations

from tpubench.suite import registry
from tpubench.suite.duets.partner import Side
from tpubench.suite.duets.sides import DUET_PACE
from tpubench.suite.job import Job
from tpubench.suite.workload import Case, Weights

WORK = {"aa": 20, "plus5": 21, "plus10": 22}
"""Units of work a pass of the candidate; the baseline does 20."""
PROGRAMS: dict[str, tuple[str, str, dict[str, int | str]]] = {
    "gemm": ("square-512", "steps", {"m": 32, "n": 256, "k": 256, "dtype": "float32"}),
    "hbm": ("read", "steps", {"mib": 1}),
    "llama-infer": ("tiny", "output_len", {"batch": 1, "input_len": 1, "dtype": "float32"}),
}


def case(program: str, units: int) -> Case:
    """The program with so many units of work a pass."""
    preset, key, settings = PROGRAMS[program]
    workload = registry.workload(program)
    texts = {name: [str(value)] for name, value in {**settings, key: units}.items()}
    (first,) = workload.cases(preset, texts)
    return workload.prepare(first, Weights())


def side(label: str, program: str, units: int) -> Side:
    return Side(
        label=label,
        job=Job(
            backend="cpu",
            compile_mode="eager",
            case=case(program, units),
            weights=Weights(),
            pace=DUET_PACE,
            repetition=0,
            parity=False,
        ),
    )

"""What a process waits for before its first pass: no compiler where nothing is compiled."""

from __future__ import annotations

import subprocess
import sys

BUILD = """
import sys
from tpubench.suite import registry
from tpubench.suite.duets.sides import DUET_PACE
from tpubench.suite.job import Job
from tpubench.suite.prepared import prepare
from tpubench.suite.workload import Weights

backend = registry.backend("cpu")
device = backend.open("eager")
for name in ("llama-infer", "moe-infer", "dlrm-v2"):
    workload = registry.workload(name)
    case = workload.prepare(workload.cases("tiny", {"batch": ["1"]})[0], Weights())
    job = Job(
        backend="cpu", compile_mode="eager", case=case, weights=Weights(), pace=DUET_PACE,
        repetition=0, parity=False,
    )
    with backend.running():
        prepare(job, backend, device, lambda phase, expected_s: None)
    assert "torch._dynamo" not in sys.modules, name
"""


def test_a_program_that_is_not_compiled_does_not_import_the_compiler() -> None:
    """Drawing an embedding's first values on the meta device did: 1.3 s of every process."""
    subprocess.run([sys.executable, "-P", "-c", BUILD], check=True, timeout=300)

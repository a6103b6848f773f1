"""The key/value cache under torch_xla: every compiled program may write where it lies.

The real torch_xla, on the host's cores; what it asks of the compiler is read from XLA's own dump.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from libraries import library
from test_contract import QUICK

from tpubench.suite import registry
from tpubench.suite.job import Job
from tpubench.suite.workload import Device, Weights


def test_prefill_and_decode_are_given_the_cache_to_write_into(tmp_path: Path) -> None:
    xla = library("xla", tmp_path)
    dump = tmp_path / "hlo"
    flags = f"--xla_dump_to={dump} --xla_dump_hlo_as_text"
    xla = dataclasses.replace(xla, environment={**xla.environment, "XLA_FLAGS": flags})
    workload = registry.workload("llama-infer")
    (case, *_) = workload.cases("tiny", {"batch": ["1"], "dtype": ["float32"], "output_len": ["4"]})
    job = Job(
        backend="xla",
        compile_mode="openxla",
        case=workload.prepare(case, Weights()),
        weights=Weights(),
        pace=QUICK,
        repetition=0,
        parity=False,
    )
    (outcome,) = xla.lines("contract.py", stdin=job.to_json() + "\n")
    # A cache that was given away and read again would show in what is generated; how steadily this
    # machine ran does not matter here.
    plain = workload.build(job.case, Device(torch_device="cpu"), Weights())
    plain.run(lambda *_: None)
    assert outcome["generated_ids"] == plain.generated()
    caches = 2 * int(str(case.shape["n_layers"]))  # keys and values of each layer
    donated = [
        len(re.findall(r"\(\d+, \{\}\)", donors[1]))
        for path in dump.glob("*before_optimizations.txt")
        if (donors := re.search(r"buffer_donor=\{(.*?) \}", path.read_text()))
    ]
    assert donated.count(caches) >= 2, donated

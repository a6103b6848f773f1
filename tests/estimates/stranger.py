"""Two programs of a stranger: a decoder of their own size, and one of no kind known here. Installed
by entry points, they are estimated and compiled with nothing changed anywhere else.
"""

from __future__ import annotations

from pathlib import Path

PROGRAM = """
from tpubench.suite.workload import (
    Decoder, Laps, Metric, Parameter, Phase, Program, Work, Workload, find_decoder,
)

WIDTH, DEPTH = 1024, 4


class Chat(Workload):
    name = "acme-chat"
    version = 1
    summary = "a decoder of 9 B"
    presets = {"acme-9b": "our own"}
    parameters = {
        "batch": Parameter(default=4, doc="sequences"),
        "input_len": Parameter(default=512, doc="prompt tokens"),
        "output_len": Parameter(default=256, doc="new tokens"),
        "dtype": Parameter(default="bfloat16", choices=("bfloat16",), doc="precision"),
    }
    primary_metric = "output_tok_s"
    parallelism = "tp"

    def decoder(self, preset):
        return find_decoder("acme-9b") if preset in self.presets else None

    def build(self, case, device, weights):
        raise NotImplementedError

    def work(self, case):
        decoder = self.decoder(case.preset)
        return Work(items=1, unit="pass", flops=round(decoder.prefill_flops(1, 512)), bytes=1)

    def measure(self, case, windows):
        return Laps(samples={})


class Mixer(Workload):
    name = "acme-mixer"
    version = 1
    summary = "four products of 1024, one after the other"
    presets = {"small": "four"}
    parameters = {
        "rows": Parameter(default=4096, minimum=1, doc="rows"),
        "dtype": Parameter(default="bfloat16", choices=("bfloat16",), doc="precision"),
    }
    primary_metric = "images_mixed_s"
    metrics = (
        Metric(name="images_mixed_s", unit="image/s", better="higher", aggregate="harmonic_mean",
               formula="images ÷ window"),
    )

    def build(self, case, device, weights):
        raise NotImplementedError

    def phases(self, case):
        return {"mix": Phase()}

    def program(self, case, phase, *, depth, chips):
        import torch

        layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False, device="meta", dtype=torch.bfloat16)
                  for _ in range(DEPTH)]
        rows = torch.empty(case.number("rows"), WIDTH, device="meta", dtype=torch.bfloat16)
        return Program(module=torch.nn.Sequential(*layers), inputs=(rows,))

    def work(self, case):
        rows = case.number("rows")
        moved = 2 * (DEPTH * WIDTH * WIDTH + (DEPTH + 1) * rows * WIDTH)
        return Work(items=rows, unit="image", flops=2 * DEPTH * rows * WIDTH * WIDTH, bytes=moved)

    def measure(self, case, windows):
        times = windows["pass"].passes_s
        rows = case.number("rows")
        return Laps(samples={"step_time_s": times, "images_mixed_s": [rows / t for t in times]})
"""


def install(site: Path) -> Path:
    """Put both where an interpreter finds them; the folder."""
    info = site / "acme-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[tpubench.workloads]\nacme-chat = acme_programs:Chat\nacme-mixer = acme_programs:Mixer\n"
    )
    (site / "acme_programs.py").write_text(PROGRAM)
    return site

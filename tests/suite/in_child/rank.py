"""One rank of a job (standard input): its meter reads 10 J and 20 J more with each rank, and what
happens inside its timed window is what its second argument says. Rank 0 prints the outcome."""

from __future__ import annotations

import json
import os
import sys

from tpubench.suite import child
from tpubench.suite.backends.cpu import Cpu
from tpubench.suite.energy import Energy, PowerMeter
from tpubench.suite.job import Job

rank = int(os.environ["RANK"])


class Scripted(PowerMeter):
    def start(self) -> None:
        pass

    def stop(self) -> Energy:
        joules = None if what == "silent" and rank else 10.0 + 20.0 * rank
        return Energy(joules=joules, scope="board", method="scripted")


what, asked = sys.argv[1], [0]


def disturbances(self: Cpu) -> dict[str, int]:
    asked[0] += 1
    return {"graph breaks": asked[0] if what == "disturbed" and rank == 1 else 0}


Cpu.disturbances = disturbances  # type: ignore[method-assign]
Cpu.power_meter = lambda self: Scripted()  # type: ignore[method-assign]
outcome = child.execute(Job.from_json(sys.stdin.readline()), lambda phase, expected_s: None)
if rank == 0:
    print(json.dumps(outcome.to_json()), flush=True)
os._exit(0)

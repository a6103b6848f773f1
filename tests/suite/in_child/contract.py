"""Runs each job given as a JSON line on standard input, and prints its outcome as one.

All in one process, so that a library which takes seconds to load is loaded once; jobs of a compile
mode that follow each other take the device together, as the cases of a round do.
"""

from __future__ import annotations

import itertools
import json
import sys

from tpubench.errors import TpubenchError
from tpubench.suite import child, registry
from tpubench.suite.job import Job, Outcome

jobs = [Job.from_json(line) for line in sys.stdin]
for _, round_ in itertools.groupby(jobs, key=lambda job: job.compile_mode):
    left = list(round_)
    while left:
        try:
            for outcome in child.outcomes(list(left), lambda phase, expected_s: None):
                print(json.dumps(outcome.to_json()), flush=True)
                left.pop(0)
        except TpubenchError as error:
            failed = Outcome(status="failed", reason=str(error))
            print(json.dumps(failed.to_json()), flush=True)
            left.pop(0)
        registry.backend(jobs[0].backend).release()

"""Runs each job given as a JSON line on standard input, and prints its outcome as one.

All in one process, so that a library which takes seconds to load is loaded once.
"""

from __future__ import annotations

import json
import sys

from tpubench.errors import TpubenchError
from tpubench.suite import child, registry
from tpubench.suite.job import Job, Outcome

for line in sys.stdin:
    job = Job.from_json(line)
    try:
        outcome = child.execute(job, lambda phase, expected_s: None)
    except TpubenchError as error:
        outcome = Outcome(status="failed", reason=str(error))
    registry.backend(job.backend).release()  # as between the cases of a round
    print(json.dumps(outcome.to_json()), flush=True)

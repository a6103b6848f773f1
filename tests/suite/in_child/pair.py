"""One pair of a duet, and whether each side ran its own code: one line of JSON.

    python pair.py BASELINE CANDIDATE WORKLOAD

Run in a checkout, by the interpreter under test. Nothing is timed: the clock is scripted.
"""

from __future__ import annotations

import json
import sys

from tpubench.errors import NotComparableError
from tpubench.results.gate.policy import Rules
from tpubench.suite.duets import ab
from tpubench.suite.duets.duet import stage
from tpubench.suite.duets.proof import Witness
from tpubench.suite.request import Request


def main(baseline: str, candidate: str, workload: str) -> None:
    settings = {"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}
    request = Request(workload=workload, backend="fake", preset="square-512", overrides=settings)
    contest = ab.arrange(baseline, candidate, request, Rules())
    a, b = contest.cases[0]
    witness = Witness(sides=(a, b))
    try:
        with stage(a, b, timeout_s=120, quads=1) as duet:
            taken = duet.pair()
        witness.see(taken.prepared["A"], a)
        witness.see(taken.prepared["B"], b)
        print(json.dumps({"differing": witness.differing()}))
    except NotComparableError as error:
        print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

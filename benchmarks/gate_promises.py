"""What the regression gate promises, measured on real torch programs with real extra work.

    python benchmarks/gate_promises.py --aa 300 --plus5 181 --plus10 181 [--minutes M]
    python benchmarks/gate_promises.py --table-only

A gate is a whole ``tpubench ab``: new interpreters, pairs of processes, sequential looks, and the
confirmation of an alarm. ``aa`` compares a program with itself; ``plus5`` and ``plus10`` with
itself doing 21 or 22 times what the baseline does 20 times in a pass (multiplications, array sums,
decode steps): real work, its FLOPs and bytes counted below. Nothing sleeps and no time is scaled.

After each gate the same processes' kind is run alone, one side after the other (A B A B), which is
what a tool sees that knows no turns; the peers' rules are applied to those:

* pytest-benchmark ``--benchmark-compare-fail=mean:5%``: the mean of B's run above 1.05 of A's;
* a U-test on one process a side: one-sided Mann-Whitney on passes, p < 0.01;
* asv-style: two processes a side, ten samples each; medians apart by the factor 1.05 and a
  two-sided U-test with p < 0.002.

Recordings are appended to ``.cache/gate_promises/*.jsonl`` as each gate ends; what is there, or
kept in ``benchmarks/recordings``, is not run again. ``--keep`` adds what was recorded to the
latter: the whole takes hours, and may be spread over days and machines. Each process runs on one
core (``--core``), so two shards can run side by side: ``--shard 0/2 --core 0`` and ``--shard 1/2
--core 1``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gate_programs import PROGRAMS, WORK, side
from gate_refusals import refusals
from gate_table import POLICY, pair_of, table, verdict

from tpubench.results.duet import log_ratio
from tpubench.results.gate.looks import judge
from tpubench.suite.duets.duet import PAIRS_AN_INTERPRETER, Duet, stage
from tpubench.suite.duets.partner import Side

RECORDS = Path(".cache/gate_promises")
KEPT = Path(__file__).with_name("recordings") / "gate_promises.jsonl.gz"
SOLO_S = 0.5


def pairs_of(
    a: Side, b: Side, seed: int, *, solo: bool, alarm: Sequence[float] = ()
) -> dict[str, Any]:
    """Pairs until the looks decide, as JSON values; and then each side by itself."""
    record: dict[str, Any] = {"pairs": []}
    logs: list[float] = []
    with stage(a, b, timeout_s=300, seed=seed) as duet:
        while not judge(logs, POLICY, alarm).final:
            taken = duet.pair()
            logs.append(log_ratio(taken.pair))
            record["pairs"].append(
                {
                    "order": taken.pair.order,
                    "a_s": list(taken.pair.baseline_s),
                    "b_s": list(taken.pair.candidate_s),
                    "steady": [taken.prepared[w]["steadiness"] for w in ("A", "B")],
                }
            )
        record["passes"], record["quads"] = duet.passes, duet.quads
        if solo:
            record["alone"] = alone(duet)
    return record


def alone(duet: Duet) -> dict[str, list[list[float]]]:
    """Each side by itself, one run after the other: A B A B, seconds of every pass."""
    runs: dict[str, list[list[float]]] = {"A": [], "B": []}
    for _ in range(2):
        for name in ("A", "B"):
            partner = duet.partners[name]
            partner.prepare(parity=False)
            quickest_s = min(partner.block(5))
            run = partner.block(max(10, round(SOLO_S / quickest_s)))
            partner.end()
            runs[name].append([float(f"{t:.6g}") for t in run])
    return runs


def record(kind: str, index: int) -> dict[str, Any]:
    """Run one gate."""
    program = list(PROGRAMS)[index % len(PROGRAMS)]
    began = time.time()
    a, b = side("baseline", program, 20), side("candidate", program, WORK[kind])
    seed = random.SystemRandom().randrange(2**32)
    first = pairs_of(a, b, seed, solo=True)
    logs = [log_ratio(pair_of(p)) for p in first["pairs"]]
    flagged = judge(logs, POLICY).verdict == "regressed"
    second = pairs_of(a, b, seed + 1, solo=False, alarm=logs)["pairs"] if flagged else []
    return {
        "kind": kind,
        "index": index,
        "program": program,
        "seed": seed,
        "pairs_an_interpreter": PAIRS_AN_INTERPRETER,
        "passes": first["passes"],
        "quads": first["quads"],
        "first": first["pairs"],
        "second": second,
        "alone": first["alone"],
        "wall_s": round(time.time() - began, 1),
        "load": os.getloadavg()[0],
        "at": round(began),
    }


def recorded(kept: Path) -> list[dict[str, object]]:
    """Every gate on record, kept ones first; the same gate recorded twice counts once."""
    lines = []
    if kept.exists():
        with gzip.open(kept, "rt", encoding="utf-8") as stream:
            lines += stream.readlines()
    for path in sorted(RECORDS.glob("*.jsonl")):
        lines += path.read_text(encoding="utf-8").splitlines(keepends=True)
    gates: dict[tuple[str, int], dict[str, object]] = {}
    for line in lines:
        if line.endswith("\n"):  # a line cut off by an interruption does not count
            one = json.loads(line)
            gates.setdefault((one["kind"], one["index"]), one)
    return list(gates.values())


def _rounded(value: object, digits: int = 5) -> object:
    """Times to five digits, those of runs alone to four: their noise is in the second."""
    if isinstance(value, dict):
        return {k: _rounded(v, 4 if k == "alone" else digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def keep(kept: Path) -> None:
    """Write everything on record to the repository."""
    lines = [json.dumps(_rounded(one), separators=(",", ":")) + "\n" for one in recorded(kept)]
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind, default in (("aa", 300), ("plus5", 181), ("plus10", 181)):
        parser.add_argument(f"--{kind}", type=int, default=default, metavar="N")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    parser.add_argument("--core", type=int, help="core to run on; the last one by default")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the recordings in the repository")
    parser.add_argument("--kept", type=Path, default=KEPT, help="recordings in the repository")
    asked = parser.parse_args()
    shard, shards = map(int, asked.shard.split("/"))
    if not asked.table_only:
        core = max(os.sched_getaffinity(0)) if asked.core is None else asked.core
        os.sched_setaffinity(0, {core})
        RECORDS.mkdir(parents=True, exist_ok=True)
        done = {(one["kind"], one["index"]) for one in recorded(asked.kept)}
        # Kinds interleaved, so that a run cut short has some of each and the weather is shared.
        wanted = sorted(
            ((index + 0.5) / getattr(asked, kind), kind, index)
            for kind in WORK
            for index in range(getattr(asked, kind))
            if index % shards == shard and (kind, index) not in done
        )
        end = time.monotonic() + 60 * asked.minutes
        with (RECORDS / f"shard-{shard}-of-{shards}.jsonl").open("a", encoding="utf-8") as out:
            for number, (_, kind, index) in enumerate(wanted, 1):
                if time.monotonic() > end:
                    break
                one = record(kind, index)
                out.write(json.dumps(one) + "\n")
                out.flush()
                print(
                    f"[{number}/{len(wanted)}] {kind} {index} {one['program']}: {verdict(one)[0]}"
                    f" after {verdict(one)[1]} pairs, {one['wall_s']} s",
                    flush=True,
                )
    if asked.keep:
        keep(asked.kept)
    table(recorded(asked.kept))
    refusals()


if __name__ == "__main__":
    main()

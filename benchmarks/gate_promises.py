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
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from scipy import stats

from tpubench.results import gate_rows, store
from tpubench.results.duet import Pair, log_ratio
from tpubench.results.gate_looks import MDE_PAIRS, judge, minimum_detectable
from tpubench.results.gate_policy import Policy
from tpubench.suite import registry
from tpubench.suite.duet import Duet, stage
from tpubench.suite.job import Job
from tpubench.suite.partner import Side
from tpubench.suite.sides import PACE
from tpubench.suite.workload import Case, Weights

RECORDS = Path(".cache/gate_promises")
KEPT = Path(__file__).with_name("recordings") / "gate_promises.jsonl.gz"
WORK = {"aa": 20, "plus5": 21, "plus10": 22}
"""Units of work a pass of the candidate; the baseline does 20."""
PROGRAMS = {
    "gemm": ("square-512", "steps", {"m": 32, "n": 256, "k": 256, "dtype": "float32"}),
    "hbm": ("read", "steps", {"mib": 1}),
    "llama-infer": ("tiny", "output_len", {"batch": 1, "input_len": 1, "dtype": "float32"}),
}
POLICY = Policy()
SOLO_S = 0.5
BOUND = 0.95


def case(program: str, units: int) -> Case:
    """The program with so many units of work a pass."""
    preset, key, settings = PROGRAMS[program]
    workload = registry.workload(program)
    texts = {name: [str(value)] for name, value in {**settings, key: units}.items()}
    (found,) = workload.cases(preset, texts)
    return workload.prepare(found, Weights())


def side(label: str, program: str, units: int) -> Side:
    return Side(
        label=label,
        job=Job(
            backend="cpu",
            compile_mode="eager",
            case=case(program, units),
            weights=Weights(),
            pace=PACE,
            repetition=0,
            parity=False,
        ),
    )


def pairs_of(a: Side, b: Side, seed: int, *, solo: bool) -> dict[str, object]:
    """Pairs until the looks decide, as JSON values; and then each side by itself."""
    found: dict[str, object] = {"pairs": []}
    logs: list[float] = []
    with stage(a, b, timeout_s=300, seed=seed) as duet:
        while not judge(logs, POLICY).final:
            taken = duet.pair()
            logs.append(log_ratio(taken.pair))
            found["pairs"].append(
                {
                    "order": taken.pair.order,
                    "a_s": list(taken.pair.baseline_s),
                    "b_s": list(taken.pair.candidate_s),
                    "steady": [taken.prepared[w]["steadiness"] for w in ("A", "B")],
                }
            )
        found["passes"], found["quads"] = duet.passes, duet.quads
        if solo:
            found["alone"] = alone(duet)
    return found


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


def record(kind: str, index: int) -> dict[str, object]:
    """Run one gate."""
    program = list(PROGRAMS)[index % len(PROGRAMS)]
    began = time.time()
    a, b = side("baseline", program, 20), side("candidate", program, WORK[kind])
    seed = random.SystemRandom().randrange(2**32)
    first = pairs_of(a, b, seed, solo=True)
    flagged = judge([log_ratio(_pair(p)) for p in first["pairs"]], POLICY).verdict == "regressed"
    second = pairs_of(a, b, seed + 1, solo=False)["pairs"] if flagged else []
    return {
        "kind": kind,
        "index": index,
        "program": program,
        "seed": seed,
        "passes": first["passes"],
        "quads": first["quads"],
        "first": first["pairs"],
        "second": second,
        "alone": first["alone"],
        "wall_s": round(time.time() - began, 1),
        "load": os.getloadavg()[0],
        "at": round(began),
    }


def verdict(one: dict[str, object]) -> tuple[str, int, float]:
    """Verdict, pairs used and reported minimum detectable effect of a recorded gate."""
    judged = [
        judge([log_ratio(_pair(p)) for p in one[name]], POLICY) for name in ("first", "second")
    ]
    found = judged[0].verdict
    pairs = judged[0].pairs + judged[1].pairs
    if found == "regressed":
        found = judged[1].verdict
    return found, pairs, minimum_detectable(judged[0].sigma, POLICY)


def _pair(recorded: dict[str, object]) -> Pair:
    return Pair(order=recorded["order"], baseline_s=recorded["a_s"], candidate_s=recorded["b_s"])


def mean_5(one: dict[str, object]) -> bool:
    a, b = one["alone"]["A"][0], one["alone"]["B"][0]
    return statistics.fmean(b) > 1.05 * statistics.fmean(a)


def u_test(one: dict[str, object]) -> bool:
    a, b = one["alone"]["A"][0], one["alone"]["B"][0]
    return bool(stats.mannwhitneyu(b, a, alternative="greater").pvalue < 0.01)


def asv_style(one: dict[str, object]) -> bool:
    a, b = ([s for run in one["alone"][side] for s in _ten(run)] for side in "AB")
    apart = statistics.median(b) > 1.05 * statistics.median(a)
    return apart and bool(stats.mannwhitneyu(b, a).pvalue < 0.002)


def _ten(run: list[float]) -> list[float]:
    """A run as ten samples, each the mean of a stretch of it."""
    size = max(1, len(run) // 10)
    return [statistics.fmean(run[i : i + size]) for i in range(0, size * min(10, len(run)), size)]


PEERS = {"pytest-benchmark mean:5%": mean_5, "U-test, one process": u_test, "asv-style": asv_style}


def share(hits: int, n: int) -> str:
    """A rate with its exact 95 % bounds (Clopper & Pearson 1934)."""
    if n == 0:
        return "-"
    found = stats.binomtest(hits, n).proportion_ci(BOUND, "exact")
    return f"{hits}/{n} = {100 * hits / n:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def table(records: list[dict[str, object]]) -> None:
    by_kind = defaultdict(list)
    for one in records:
        by_kind[one["kind"]].append(one)
    for program in PROGRAMS:
        work = [registry.workload(program).work(case(program, n)) for n in WORK.values()]
        flops, moved = (
            [w.flops / work[0].flops for w in work],
            [w.bytes / work[0].bytes for w in work],
        )
        print(
            f"work of {program}, candidate / baseline:"
            f" FLOPs {_ratios(flops)}, bytes {_ratios(moved)}"
        )
    print(
        f"\nflagged, with {BOUND:.0%} bounds (a regression is called; of +5 % and +10 % it is one)"
    )
    print(f"{'rule':26} {'identical (A/A)':32} {'+5 % of work':32} {'+10 % of work':32}")
    rules = {"tpubench ab": lambda one: verdict(one)[0] == "regressed", **PEERS}
    for name, rule in rules.items():
        cells = [share(sum(map(rule, by_kind[kind])), len(by_kind[kind])) for kind in WORK]
        print(f"{name:26} " + " ".join(f"{cell:32}" for cell in cells))
    promises(by_kind)
    for kind in WORK:
        for program in PROGRAMS:
            ours = [one for one in by_kind[kind] if one["program"] == program]
            if ours:
                _detail(kind, program, ours)


def promises(by_kind: dict[str, list[dict[str, object]]]) -> None:
    print(f"\n{'promise':51} {'measured':33} held")
    judged = {kind: [verdict(one) for one in by_kind[kind]] for kind in WORK}
    aa = [found == "regressed" for found, _, _ in judged["aa"]]
    _promise("A/A flagged <= 1 %", sum(aa), len(aa), lambda rate: rate <= 0.01)
    for kind, least in (("plus5", 0.95), ("plus10", 0.98)):
        able = [one for one in judged[kind] if one[2] <= 1.05]
        hits = sum(found == "regressed" and pairs <= MDE_PAIRS for found, pairs, _ in able)
        label = f"{kind} flagged >= {least:.0%} in 30 pairs, MDE <= 5 %"
        _promise(label, hits, len(able), lambda rate, least=least: rate >= least)
    wrong = sum(found == "ok" for found, _, _ in judged["plus5"])
    _promise("+5 % called ok <= 5 %", wrong, len(judged["plus5"]), lambda rate: rate <= 0.05)


def _promise(label: str, hits: int, n: int, holds: object) -> None:
    state = "-" if n == 0 else "yes" if holds(hits / n) else "NO"
    print(f"{label:51} {share(hits, n):33} {state}")


def _detail(kind: str, program: str, ours: list[dict[str, object]]) -> None:
    found = [verdict(one) for one in ours]
    sigmas = [judge([log_ratio(_pair(p)) for p in one["first"]], POLICY).sigma for one in ours]
    points = [statistics.median(log_ratio(_pair(p)) for p in one["first"]) for one in ours]
    counts = {v: sum(f[0] == v for f in found) for v in ("regressed", "ok", "inconclusive")}
    print(
        f"  {kind:6} {program:12} {counts};"
        f" pairs median {statistics.median(f[1] for f in found):g},"
        f" sigma median {100 * statistics.median(sigmas):.2f} %, ratio median"
        f" {math.exp(statistics.median(points)):.4f}, MDE <= 5 % in"
        f" {sum(f[2] <= 1.05 for f in found)}/{len(found)},"
        f" {statistics.median(one['wall_s'] for one in ours):.0f} s a gate"
    )


def _ratios(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def refusals() -> None:
    """Every field of a real fingerprint, changed and removed: is the gate refused?"""
    from tpubench.results.fingerprint import canonical_json, sha256
    from tpubench.results.gate_policy import Rules
    from tpubench.suite import request, run

    asked = request.Request(
        workload="gemm", backend="fake", repeats=1, overrides={"m": ["8"], "n": ["8"], "k": ["8"]}
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = run.make_plan(
            replace(asked, preset="square-512", overrides={**asked.overrides, "dtype": ["float32"]})
        )
        rows = run.execute(plan, Path(folder), lambda event: None).rows
        assert store.files(Path(folder))
    tried, refused, names = 0, 0, []
    whole = json.loads(rows[0].environment)
    for path in _paths(whole["fingerprint"]):
        for change in ("changed", "removed"):
            altered = json.loads(rows[0].environment)
            _alter(altered["fingerprint"], path, change)
            other = [
                replace(
                    row,
                    run_id="20990101T000000-ffffff",
                    environment=canonical_json(altered),
                    fingerprint=sha256(altered["fingerprint"]),
                )
                for row in rows
            ]
            for sides in ((rows, other), (_renamed(other), rows)):
                tried += 1
                report = gate_rows.gate(*sides, Rules())
                named = all(".".join(path) in f.reason for f in report.findings)
                refused += report.exit_code == 4 and named
        names.append(".".join(path))
    print(
        f"\nmismatch refused, naming the field: {share(refused, tried)} over {len(names)} fields:"
    )
    print("  " + ", ".join(names))


def _renamed(rows: list[object]) -> list[object]:
    return [replace(row, run_id="20000101T000000-000000") for row in rows]


def _paths(value: dict[str, object], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, item in value.items():
        inside = isinstance(item, dict) and item
        found += _paths(item, (*above, key)) if inside else [(*above, key)]
    return [path for path in found if not isinstance(_at(value, path[len(above) :]), dict)]


def _at(value: dict[str, object], path: tuple[str, ...]) -> object:
    for key in path:
        value = value[key]
    return value


def _alter(value: dict[str, object], path: tuple[str, ...], change: str) -> None:
    holder = _at(value, path[:-1])
    if change == "removed":
        del holder[path[-1]]
    else:
        holder[path[-1]] = f"not {holder[path[-1]]}"


def recorded() -> list[dict[str, object]]:
    """Every gate on record, kept ones first; the same gate recorded twice counts once."""
    lines = []
    if KEPT.exists():
        with gzip.open(KEPT, "rt", encoding="utf-8") as kept:
            lines += kept.readlines()
    for path in sorted(RECORDS.glob("*.jsonl")):
        lines += path.read_text(encoding="utf-8").splitlines(keepends=True)
    found: dict[tuple[str, int], dict[str, object]] = {}
    for line in lines:
        if line.endswith("\n"):  # a line cut off by an interruption does not count
            one = json.loads(line)
            found.setdefault((one["kind"], one["index"]), one)
    return list(found.values())


def _rounded(value: object, digits: int = 5) -> object:
    """Times to five digits, those of runs alone to four: their noise is in the second."""
    if isinstance(value, dict):
        return {k: _rounded(v, 4 if k == "alone" else digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def keep() -> None:
    """Write everything on record to the repository."""
    lines = [json.dumps(_rounded(one), separators=(",", ":")) + "\n" for one in recorded()]
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind, default in (("aa", 300), ("plus5", 181), ("plus10", 181)):
        parser.add_argument(f"--{kind}", type=int, default=default, metavar="N")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    parser.add_argument("--core", type=int, help="core to run on; the last one by default")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the recordings in the repository")
    asked = parser.parse_args()
    shard, shards = map(int, asked.shard.split("/"))
    if not asked.table_only:
        core = max(os.sched_getaffinity(0)) if asked.core is None else asked.core
        os.sched_setaffinity(0, {core})
        RECORDS.mkdir(parents=True, exist_ok=True)
        done = {(one["kind"], one["index"]) for one in recorded()}
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
        keep()
    table(recorded())
    refusals()


if __name__ == "__main__":
    main()

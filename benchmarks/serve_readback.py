"""What the load generator reads back of a server of known timing, beside the server's own stamps.

    python benchmarks/serve_readback.py [--keep FOLDER]

Prints the Markdown table of docs/serve.md: Poisson arrivals, a closed loop, and a stall of 2 s in
the middle of Poisson arrivals. ``--keep`` saves AIPerf's logs and the server's stamps. Exits 1 when
a figure is off by more than 2 %, or a load was not proved.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "suite" / "serving"))

from mock_server import MODEL, Stamp, running

from tpubench.results.statistics import median
from tpubench.suite.serving import arrivals, generator, proof
from tpubench.suite.serving.figures import figures
from tpubench.suite.serving.load import Load
from tpubench.suite.serving.server import find
from tpubench.suite.serving.slo import Slo
from tpubench.workloads.llama_serve import LlamaServe

MOST_OFF = 0.02
BASE = Load(shape="tiny", input_len=64, output_len=32, requests=96, warm_up=8, seed=0)
STALL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A load on a mock server."""

    name: str
    load: Load
    behaviour: Mapping[str, object]


TIMING = {"ttft_s": 0.5, "itl_s": 0.02}
"""What the server is told to take: a first token as a loaded model gives it. AIPerf adds two to
three milliseconds of its own to it where nothing else runs, and more on a busy machine."""
CASES = (
    Case(name="poisson", load=replace(BASE, request_rate=4.0), behaviour=TIMING),
    Case(name="closed", load=replace(BASE, concurrency=4), behaviour=TIMING),
    Case(
        name="stall",
        load=replace(BASE, request_rate=4.0, seed=1),
        behaviour={**TIMING, "stall_at_s": 10.0, "stall_s": STALL_S},
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="Save AIPerf's logs and the server's stamps.")
    keep: Path | None = parser.parse_args().keep
    aiperf = generator.find()
    print(f"AIPerf {aiperf.version}; requests measured: {BASE.requests}, warm-up {BASE.warm_up}\n")
    print("| load | figure | server | read back | off |")
    print("|---|---|---|---|---|")
    worst, unproved = 0.0, []
    for case in CASES:
        values, stamps, fault = measured(aiperf, case, keep)
        if fault is not None:
            unproved.append(f"{case.name}: {fault}")
            continue
        for name, (own, read) in compared(case, values, stamps).items():
            off = read / own - 1
            worst = max(worst, abs(off))
            print(f"| {case.name} | {name} | {own:.4g} | {read:.4g} | {off:+.2%} |")
    print(f"\nfurthest off: {worst:.2%}; the bar is {MOST_OFF:.0%}")
    for line in unproved:
        print(f"not proved: {line}")
    return int(worst > MOST_OFF or bool(unproved))


def measured(
    aiperf: generator.Generator, case: Case, keep: Path | None
) -> tuple[Mapping[str, Sequence[float]], list[Stamp], str | None]:
    """Samples read back, the server's own stamps, and why the load was not proved, if so."""
    load, seed = case.load, case.load.seed_of(0)
    schedule = LlamaServe().asks(load, seed)
    if load.request_rate is not None:
        at_s = arrivals.poisson(load.request_rate, len(schedule), seed)
        schedule = [replace(ask, at_s=at) for ask, at in zip(schedule, at_s, strict=True)]
    folder = None if keep is None else keep / case.name
    with running(**case.behaviour) as server:
        ran = generator.run(
            aiperf,
            server=find(server.url, MODEL),
            load=load,
            schedule=schedule,
            timeout_s=60.0,
            keep=folder,
        )
    if folder is not None:
        stamps = [asdict(stamp) for stamp in server.stamps]
        (folder / "stamps.json").write_text(json.dumps(stamps), encoding="utf-8")
    proved = proof.prove(load, schedule, ran.answers)
    if proved.fault is not None:
        return {}, [], proved.fault
    own = sorted(server.stamps, key=lambda stamp: stamp.arrived_s)[load.warm_up :]
    return figures(load, ran.answers, proved, Slo()).samples, own, None


def compared(
    case: Case, read: Mapping[str, Sequence[float]], stamps: Sequence[Stamp]
) -> dict[str, tuple[float, float]]:
    """Each figure as the server has it, and as it was read back."""
    ttft = [stamp.first_s - stamp.arrived_s for stamp in stamps]
    e2e = [stamp.last_s - stamp.arrived_s for stamp in stamps]
    tpot = [(s.last_s - s.first_s) / (s.output_tokens - 1) for s in stamps]
    arrived = [stamp.arrived_s for stamp in stamps]
    window_s = max(stamp.last_s for stamp in stamps) - min(arrived)
    tokens = sum(stamp.output_tokens for stamp in stamps)
    sides = {
        "TTFT median, s": (median(ttft), median(read["ttft_s"])),
        "TPOT median, s": (median(tpot), median(read["tpot_s"])),
        "E2E median, s": (median(e2e), median(read["e2e_s"])),
        "output tokens/s": (tokens / window_s, read["output_tok_s"][0]),
    }
    if case.name == "stall":
        sides["E2E largest, s"] = (max(e2e), max(read["e2e_s"]))
        sides["TTFT largest, s"] = (max(ttft), max(read["ttft_s"]))
        late = [sum(t > STALL_S / 2 for t in side) for side in (ttft, read["ttft_s"])]
        sides[f"requests with TTFT above {STALL_S / 2:g} s"] = (late[0], late[1])
    return sides


if __name__ == "__main__":
    sys.exit(main())

"""Hostile stored files and checkpoints, by the thousand: a typed error or the right answer.

    python benchmarks/fuzz_reader.py store --count 2000
    python benchmarks/fuzz_reader.py checkpoint --count 2000

Each input is made from its own seed, written into an empty folder, and given to the commands and
functions that read such things, in a child process that serves many inputs. Bad is a traceback, a
crash of the process, more than 10 s of processor time (or five minutes of waiting), more than 1 GB
of memory beyond the child's own, a wrong answer, a good file beside it that went missing, and a
control character in what was printed. The child's address space is limited too, as a backstop.
Prints counts by kind; exit 1 if any is bad. The seeds are shared among as many children as there
are processor cores, or ``--jobs``.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

LIMIT_S = 10.0
LIMIT_BYTES = 1 << 30
ADDRESS_SPACE = 3 << 30
"""Beyond what the child has mapped when it starts."""
PATIENCE_S = 300.0
"""Without an answer: something waits, however busy the machine is."""
START_S = 900.0
BAD = ("traceback", "crash", "slow", "memory", "wrong", "escape")


class Target(Protocol):
    """What inputs are put through."""

    def prepare(self, seed: int) -> Any:
        """The input of this seed, lying where it is read; its ``kind`` says what it is."""

    def attempt(self, given: Any) -> tuple[str, str]:
        """(outcome, detail) of one input."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["store", "checkpoint"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="children")
    parser.add_argument("--only", type=int, action="append", help="just this seed; repeatable")
    parser.add_argument("--json", type=Path, help="also write every outcome here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.what, json.loads(arguments.child))
        return
    seeds = arguments.only or list(range(arguments.seed, arguments.seed + arguments.count))
    outcomes = run(arguments.what, seeds, max(1, arguments.jobs))
    if arguments.json:
        arguments.json.write_text(json.dumps(outcomes, indent=1))
    print(table(outcomes))
    for done in outcomes:
        if done["outcome"] in BAD:
            print(f"seed {done['seed']} {done['kind']}: {done['outcome']}: {done['detail']}")
    sys.exit(any(done["outcome"] in BAD for done in outcomes))


def run(what: str, seeds: list[int], jobs: int) -> list[dict[str, Any]]:
    """The outcome of each seed, in order; a child that dies or hangs costs only its own."""

    def share(first: int) -> list[dict[str, Any]]:
        left = seeds[first::jobs]
        outcomes: list[dict[str, Any]] = []
        while left:
            outcomes += _batch(what, left)
        return outcomes

    with ThreadPoolExecutor(jobs) as pool:
        shares = pool.map(share, range(jobs))
        return sorted((done for part in shares for done in part), key=operator.itemgetter("seed"))


def _batch(what: str, left: list[int]) -> Iterator[dict[str, Any]]:
    """Outcomes of one child, until the list is done or it is no more; takes them off ``left``."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, what, "--child", json.dumps([folder, left])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        lines: queue.Queue[str | None] = queue.Queue()
        errors: list[str] = []
        drain = threading.Thread(target=_keep, args=(worker.stderr, errors), daemon=True)
        drain.start()
        threading.Thread(target=_feed, args=(worker.stdout, lines), daemon=True).start()
        begun: dict[str, Any] | None = None
        patience = START_S
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                worker.kill()
                if begun is None:
                    raise RuntimeError("the child does not start") from None
                left.remove(begun["seed"])
                yield {**begun, "outcome": "slow", "detail": f"more than {patience:g} s: killed"}
                break
            if line is None:
                code = worker.wait()
                drain.join(5)
                if begun is not None:
                    left.remove(begun["seed"])
                    why = (errors or [""])[-1].strip()
                    yield {**begun, "outcome": "crash", "detail": f"exit {code}: {why}"}
                elif left:
                    raise RuntimeError("".join(errors))
                break
            message = json.loads(line)
            if "outcome" not in message:
                # Making the input counts for nothing, so patience begins when it is there.
                begun, patience = message, PATIENCE_S
                continue
            left.remove(message["seed"])
            begun, patience = None, START_S
            yield message
        worker.wait()


def _feed(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _keep(stream: Any, lines: list[str]) -> None:
    """The last lines of a stream; all of it is read."""
    for line in stream:
        lines.append(line)
        del lines[:-30]


def table(outcomes: list[dict[str, Any]]) -> str:
    """Counts by kind of input and outcome."""
    names = ["refused", "answered", *BAD]
    counts: dict[str, Counter[str]] = {}
    for done in outcomes:
        counts.setdefault(done["kind"], Counter())[done["outcome"]] += 1
    lines = [f"{'kind':26}" + "".join(f"{name:>10}" for name in ("inputs", *names))]
    for kind in [*sorted(counts), "all"]:
        of = sum(counts.values(), Counter()) if kind == "all" else counts[kind]
        cells = [sum(of.values()), *(of[name] for name in names)]
        lines.append(f"{kind:26}" + "".join(f"{cell:>10}" for cell in cells))
    slowest = max((done.get("seconds", 0.0) for done in outcomes), default=0.0)
    largest = max((done.get("bytes", 0) for done in outcomes), default=0)
    lines.append(f"slowest {slowest:.1f} s, largest {largest / 2**20:.0f} MiB")
    return "\n".join(lines)


def child(what: str, given: list[Any]) -> None:
    """Serve inputs until the list is done."""
    import resource

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed by accident is no outcome
    folder, seeds = Path(given[0]), given[1]
    target = _target(what, folder)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in seeds:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        prepared = target.prepare(seed)
        begun = {"seed": seed, "kind": prepared.kind}
        print(json.dumps(begun), file=out, flush=True)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, started = _status("VmRSS"), _processor_s()
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        outcome, detail = target.attempt(prepared)
        seconds, size = _processor_s() - started, _status("VmHWM") - before
        grandchild = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        if grandchild > largest:
            size = max(size, grandchild * 1024)
        if outcome not in BAD and seconds > LIMIT_S:
            outcome, detail = "slow", f"{seconds:.1f} s"
        if outcome not in BAD and size > LIMIT_BYTES:
            outcome, detail = "memory", f"{size / 2**20:.0f} MiB"
        done = {**begun, "outcome": outcome, "detail": detail, "seconds": seconds, "bytes": size}
        print(json.dumps(done), file=out, flush=True)


def _target(what: str, folder: Path) -> Target:
    if what == "store":
        from hostile.stored_target import StoreTarget

        return StoreTarget(folder)
    from hostile.checkpoint_target import CheckpointTarget

    return CheckpointTarget(folder)


def _processor_s() -> float:
    """Processor time of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


if __name__ == "__main__":
    main()

"""Kills a writing process at random instants and reports what a reader finds afterwards.

Usage: python crash_writer.py STORE KILLS SEED. Prints one JSON object. A child is forked for each
kill; it stores repetitions as fast as it can and acknowledges each through a pipe once it is
durable. Everything acknowledged must be readable, and nothing partial visible.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from sample_rows import make_row

from tpubench.results.store import files, load, write


def main(store: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    write(store, "warm-up", [make_row(run_id="warm-up")])  # imports done before the first fork
    acknowledged: list[Path] = []
    for kill in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            for repetition in range(10_000):
                row = make_row(run_id=f"run-{kill:04d}", repetition=repetition)
                path = write(store, f"case-{repetition:05d}", [row])
                os.write(writer, f"{path}\n".encode())
            os._exit(0)
        os.close(writer)
        select.select([reader], [], [], 10)  # it has begun
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            acknowledged += [Path(line) for line in pipe.read().split("\n")[:-1]]
    visible = files(store)
    for path in visible:
        load(path)  # raises if anything visible is partial
    lost = set(acknowledged) - set(visible)
    print(
        json.dumps({"acknowledged": len(acknowledged), "visible": len(visible), "lost": len(lost)})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""Kills a compacting process at one point after another and reports what a reader finds.

Usage: python crash_compact.py FOLDER. Prints one JSON object. A point is an operation on the file
system: an audit hook ends the process with SIGKILL before the n-th of them, for every n.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from sample_rows import make_row

from tpubench.results import labels
from tpubench.results.compact import compact
from tpubench.results.store import files, iter_rows, scan, write
from tpubench.results.verify import verify_store

RUN = "20260101T000000-aaaaaa"
TOUCHES = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def killed_at(store: Path, point: int) -> bool:
    """Whether a compaction was killed before its operation of this number, from 1."""
    child = os.fork()
    if child == 0:
        left = point

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            # Only what may change something: a file that is opened to be read changes nothing.
            reads = event == "open" and not (int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))
            if event in TOUCHES and (not reads or str(arguments[0]).startswith(str(store))):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        compact(store, quiet_s=-60)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def rows(store: Path) -> list[str]:
    scanned = scan(files(store))
    assert not scanned.unreadable
    return sorted(map(repr, iter_rows(scanned.table)))


def main(folder: Path) -> None:
    original = folder / "original"
    for number in range(3):
        new_rows = [make_row(name, run_id=RUN, repetition=number) for name in ("ttft_s", "tpot_s")]
        write(original, f"case-{number}", new_rows)
    write(original, "case-0", [make_row(run_id="20260102T000000-bbbbbb")])
    labels.say(original, RUN, tags=["kept"])
    expected = rows(original)
    points = wrong = 0
    # Once a run was compacted before, there is an older record in its folder: that way too.
    twice = folder / "twice"
    shutil.copytree(original, twice)
    compact(twice, quiet_s=-60)
    write(twice, "case-9", [make_row(run_id=RUN, repetition=9)])
    for start, known in ((original, expected), (twice, rows(twice))):
        point = 0
        while True:
            point += 1
            store = folder / "store"
            shutil.copytree(start, store)
            killed = killed_at(store, point)
            after = rows(store)
            compact(store, quiet_s=-60)
            whole = after == known == rows(store) and verify_store(store).ok
            tidy = len(files(store)) == 2 and not list(store.glob(".c*"))
            wrong += not (whole and tidy and labels.of_run(store, RUN).tags == ("kept",))
            shutil.rmtree(store)
            if not killed:
                break
            points += 1
    print(json.dumps({"points": points, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What ``tpubench plan init`` wrote, on a terminal or as JSON."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

from tpubench.costs.drafts.init import Drafted
from tpubench.reports.console import next_step
from tpubench.reports.terminal import print_json
from tpubench.reports.terminal.narrow import narrow, say

LEFT_OUT_SHOWN = 10


def show(done: Drafted, store: Path, *, as_json: bool) -> None:
    """The file, what it is made of, and what is still to be said."""
    if as_json:
        print_json(asdict(done))
        return
    out = narrow()
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.throughputs.items())
    say(
        out,
        f"{done.path}: workloads {len(done.works)}, accelerators {len(done.accelerators)},"
        f" throughputs {kinds}",
    )
    if done.placeholders:
        say(out, f"\n{len(done.placeholders)} figures are placeholders, marked as such; replace:")
        for path in done.placeholders:
            say(out, f"  - {path}")
    if done.left_out:
        say(out, "\nLeft out:")
        for line in done.left_out[:LEFT_OUT_SHOWN]:
            say(out, f"  - {line}")
        if len(done.left_out) > LEFT_OUT_SHOWN:
            say(out, f"  and {len(done.left_out) - LEFT_OUT_SHOWN} more, named in the file")
    out.print()
    next_step(out, f"allocate {shlex.quote(str(done.path))}", store)

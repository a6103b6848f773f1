"""Progress that cannot disturb the measurement: a bar on a terminal, lines in a log.

It speaks only when a child reports a new phase, and a child reports nothing while its timed window
is open: no timer, no thread, no polling. The bar stands still while the clock runs. Both name the
phase, and the time left by what the cases took so far; a log has a line a repetition, and one for a
phase that begins after a long silence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tpubench.results.events import Event, Observer
from tpubench.results.plain_text import plain

_DOING = {
    "open": "taking the device",
    "clock": "proving the clock",
    "build": "building",
    "reference": "computing the reference",
    "compile": "compiling",
    "warm-up": "warming up",
    "window": "measuring",
    "other windows": "measuring more",
    "check": "checking parity",
}


@contextmanager
def observer(*, show: bool) -> Iterator[Observer]:
    """Something to call with events: a bar on a terminal, lines elsewhere."""
    if not show:
        yield _failures_only
    elif sys.stderr.isatty():
        with _bar() as observe:
            yield observe
    else:
        yield lines()


@contextmanager
def _bar() -> Iterator[Observer]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    from tpubench.reports.console import error_console

    console = error_console()
    progress = Progress(
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        # What does not fit is cut off at the end: the case, not the phase or the time left.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=console,
        expand=True,
        auto_refresh=False,
        transient=True,
    )
    task = progress.add_task("", total=None)

    def observe(event: Event) -> None:
        if event.kind == "end":
            progress.update(task, completed=event.done, refresh=True)
            if event.status != "ok":
                console.print(_ended(event), markup=False, style="yellow")
            return
        text = f"{_doing(event)}{_left(event)} · {_which(event)}"
        progress.update(
            task, description=plain(text), total=event.total, completed=event.done, refresh=True
        )

    with progress:
        yield observe


SILENCE_S = 10.0
"""After so long without a line a log gets one for the phase that begins."""


def lines(clock: Callable[[], float] = time.monotonic) -> Observer:
    """What prints a line as each repetition ends, and as a phase begins after a silence."""
    said = clock()

    def observe(event: Event) -> None:
        nonlocal said
        if event.kind == "end":
            text = f"{_ended(event)}{_left(event)}"
        elif clock() - said >= SILENCE_S:
            text = f"{_which(event)}: {_doing(event)}{_left(event)}"
        else:
            return
        said = clock()
        print(plain(f"[{event.done}/{event.total}] {text}"), file=sys.stderr, flush=True)

    return observe


def _doing(event: Event) -> str:
    about = ""
    if event.phase == "window" and event.expected_s is not None:
        about = f", about {event.expected_s:.0f} s"  # in which nothing is said
    return f"{_DOING.get(event.phase or '', 'starting')}{about}"


def _which(event: Event) -> str:
    return f"{event.case} · repetition {event.repetition + 1}"


def _failures_only(event: Event) -> None:
    if event.kind == "end" and event.status != "ok":
        print(plain(_ended(event)), file=sys.stderr, flush=True)


def _left(event: Event) -> str:
    """How long the run still takes; nothing where that is not known, or nothing is left."""
    left_s = event.left_s
    if not left_s:
        return ""
    return f" · {left_s / 60:.0f} min left" if left_s >= 90 else f" · {left_s:.0f} s left"


def _ended(event: Event) -> str:
    reason = f": {event.reason}" if event.reason else ""
    text = f"{event.case} repetition {event.repetition + 1} {event.status}{reason}"
    words = (event.log or "").splitlines() if event.status == "failed" else []
    if os.environ.get("TPUBENCH_DEBUG") != "1":
        traces = [at for at, line in enumerate(words) if line.startswith("Traceback ")]
        if traces:
            words = [*_raised(words[traces[-1] + 1 :]), "(TPUBENCH_DEBUG=1 shows where)"]
        else:
            words = words[-1:]
    return "\n  ".join([text, *words])


def _raised(below: list[str]) -> list[str]:
    """What was raised, of the lines below the head of a traceback; a library may write after it."""
    said = [line for line in below if line and not line.startswith(" ")]
    return said[: 2 if said and said[0].endswith(":") else 1]

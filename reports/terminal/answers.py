"""The first screen on a terminal: a verdict for each kind of work, what flips it, how far to
trust it. The same numbers and words as on the page, in 80 columns."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console

from tpubench.devices.prices import Price
from tpubench.devices.vendors import is_gpu, is_tpu
from tpubench.reports.answers import words
from tpubench.reports.answers.build import AnswerLine, Answers
from tpubench.reports.answers.verdicts import WorkAnswer
from tpubench.reports.terminal import console
from tpubench.reports.terminal.narrow import narrow, say
from tpubench.results.store import Scan


def show_both_sides(scan: Scan, table: Mapping[str, Price]) -> None:
    """The verdicts under rows of which some are a TPU's and some a GPU's; else nothing."""
    names = set(scan.table["device"].to_pylist())
    if not (any(map(is_tpu, names)) and any(map(is_gpu, names))):
        return
    from tpubench.reports.answers.build import build
    from tpubench.reports.findings import find

    out = console() if sys.stdout.isatty() else narrow()
    say(out, "")
    show_answers(out, build(find(scan, dt.datetime.now(dt.UTC), table)))


def show_answers(out: Console, answers: Answers) -> None:
    """Every kind of work with its verdict, or with what would give one."""
    for line in answers.lines:
        for text, strong in lines(answers, line):
            say(out, text, bold=strong)
    say(out, f"rests on: {'; '.join(words.trust(answers))}")


def lines(answers: Answers, line: AnswerLine) -> Iterable[tuple[str, bool]]:
    """One kind of work in lines of text, and whether each is the answer itself."""
    if line.gap is not None:
        yield f"{line.title}: none", True
        yield f"  {line.gap.reason}", False
        if line.gap.nearest:
            yield f"  nearest: {line.gap.nearest}", False
        for command in line.gap.commands:
            yield f"  to get it: {command}", False
        return
    one = answers.answers[line.answer or 0]
    about = words.about(one).removeprefix(f"{line.title}: ")
    if not one.verdicts:
        yield f"{line.title} ({about}): none", True
        yield f"  {one.missing}; give it: --prices FILE, or --set 'price[DEVICE]=USD'", False
        return
    yield f"{line.title} ({about}): {words.head(one, one.verdicts[0])}", True
    yield from _work(one)
    if line.others:
        yield f"  {len(line.others)} more pieces of work of this kind on the page", False


def _work(one: WorkAnswer) -> Iterable[tuple[str, bool]]:
    for verdict in one.verdicts:
        sides = words.sides(one, verdict)
        yield f"  {verdict.at}: {words.head(one, verdict)} ({sides})", False
        yield f"    {words.sure(one, verdict)}", False
    likely = [flip for flip in one.flips if flip.plausible]
    if likely:
        yield "  a TPU is cheaper with", False
    for flip in likely:
        yield f"    {words.flip(flip)}", False
    yield f"  {words.basis(one)}", False

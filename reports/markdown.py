"""The first screen as GitHub-flavoured Markdown, for a pull request or a mail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.reports import plan_words
from tpubench.reports.answers import words
from tpubench.reports.answers.build import AnswerLine, Answers
from tpubench.reports.answers.plan import plan_view
from tpubench.reports.answers.plan_sections import plan_sections
from tpubench.reports.answers.verdicts import WorkAnswer
from tpubench.reports.answers.view import work_view
from tpubench.reports.blocks import Badge, Cell, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~!@&])")


def escape(text: str) -> str:
    """``text`` that Markdown shows as it stands: no markup, link or mention in it has an effect."""
    return _SPECIAL.sub(r"\\\1", text)


def of_answers(title: str, answers: Answers) -> str:
    """The verdicts, ways to pay and flips of stored facts."""
    parts = [f"# {escape(title)}", _verdicts(answers)]
    for line in answers.lines:
        if line.answer is not None:
            parts += _work(answers.answers[line.answer])
        elif line.gap is not None:
            parts += _gap(line)
    parts.append(f"Rests on: {escape('; '.join(words.trust(answers)))}.")
    return "\n\n".join(parts) + "\n"


def of_plan(answer: PlanAnswer) -> str:
    """A solved plan: the next dollar, who serves what, what turns it, and the plan by year."""
    view = plan_view(answer)
    parts = [f"# {escape(answer.name)}", f"**{escape(view.head)}** ({escape(view.cost)})"]
    parts.append(_list(one.text for one in plan_words.answer(answer.verdict)))
    parts.append(
        table(
            ("Workload", "Served by", "Cost"),
            [(one.name, one.served, one.cost) for one in view.workloads],
        )
    )
    if view.flips:
        parts.append("## What turns it, one input alone")
        parts.append("\n".join(f"- {escape(text)} `{code}`" for text, code in view.flips))
    for section in plan_sections(answer)[:2]:
        for block in section.blocks:
            if isinstance(block, Table) and not block.folded:
                parts += [f"## {escape(block.caption)}", _block(block)]
    parts.append(f"Rests on: {escape('; '.join(view.rests_on))}.")
    return "\n\n".join(parts) + "\n"


def _verdicts(answers: Answers) -> str:
    rows = []
    for line in answers.lines:
        if line.answer is None or not answers.answers[line.answer].verdicts:
            rows.append((line.title, "none", "", ""))
            continue
        one = answers.answers[line.answer]
        first, last = one.verdicts[0], one.verdicts[-1]
        contract = "" if last is first else f"{words.head(one, last)}; {words.sure(one, last)}"
        rows.append(
            (
                f"{line.title}: {words.about(one).removeprefix(f'{line.title}: ')}",
                f"{words.head(one, first)}; {words.sure(one, first)}",
                contract,
                words.basis(one),
            )
        )
    return table(("Work", "At the default prices", "Or a contract", "Rests on"), rows)


def _work(one: WorkAnswer) -> Iterable[str]:
    view = work_view(0, one)
    yield f"## {escape(view.about)}"
    if one.missing:
        yield f"No verdict: {escape(one.missing)}."
    yield table(
        ("Way to pay", "$ per chip-hour", f"$ per {view.unit}", "Price's age"),
        [
            (f"{way.name}, {way.label}", way.per_hour, way.cost, way.age + " stale" * way.stale)
            for way in view.ways
            if way.shown
        ],
    )
    likely = [flip for flip in view.flips if flip.plausible]
    if likely:
        yield "A TPU is cheaper with\n\n" + _list(flip.text for flip in likely)


def _gap(line: AnswerLine) -> Iterable[str]:
    gap = line.gap
    assert gap is not None
    yield f"## {escape(line.title)}: none"
    nearest = f" Nearest: {gap.nearest}." if gap.nearest else ""
    yield escape(f"{gap.reason}.{nearest}")
    yield "\n".join(f"    {command}" for command in gap.commands)


def _block(block: Table) -> str:
    return table(
        [column.name for column in block.columns],
        [[_text(cell) for cell in row] for row in block.rows],
    )


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Badge) else cell


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells show as they stand."""
    lines = [headings, ["---"] * len(headings)]
    head = [f"| {' | '.join(escape(c) if i == 0 else c for c in line)} |"
            for i, line in enumerate(lines)]  # fmt: skip
    return "\n".join([*head, *(f"| {' | '.join(map(escape, row))} |" for row in rows)])


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {escape(item)}" for item in items)

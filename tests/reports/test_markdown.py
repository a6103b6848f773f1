"""The report as Markdown: tables that hold, and no text that turns into markup."""

from __future__ import annotations

import datetime as dt

import pytest
from page_rows import ATTACKS, hostile, inference, scan

from tpubench.reports import markdown
from tpubench.reports.answers.build import build
from tpubench.reports.findings import find

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text", ["a|b", "<img src=x>", "[x](javascript:alert(1))", "@everyone", "`code`", "# title"]
)
def test_text_stays_text(text: str) -> None:
    escaped = markdown.escape(text)
    assert escaped.replace("\\", "") == text
    for special in "|<[@`#":
        assert escaped.count(special) == escaped.count(f"\\{special}")


def test_one_side_names_the_command_that_gets_the_other() -> None:
    text = markdown.of_answers("t", build(find(scan(inference(device="tpu-v6e")), NOW)))
    assert "# t" in text
    assert "Rests on: cases: 1 measured" in text


def test_hostile_rows_break_no_table() -> None:
    text = markdown.of_answers(ATTACKS[0], build(find(scan(hostile(ATTACKS[:20])), NOW)))
    assert "<script" not in text.replace("\\<", "")

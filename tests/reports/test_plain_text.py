"""Text out of a file never reaches a terminal as anything but text."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench import cli
from tpubench.reports.console import PlainConsole
from tpubench.results import store as facts
from tpubench.results.plain_text import cell, json_text, one_line, plain

HOSTILE = {
    "clears the screen": "\x1b[2J\x1b[H",
    "names the window": "\x1b]0;owned\x07",
    "links": "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\",
    "a C1 introducer": "\x9b31mred",
    "goes back": "cheap\b\b\b\b\bdear",
    "overwrites the line": "bad\rgood",
    "rings": "\x07",
    "reads from right to left": "\u202egnp.exe",
    "deletes": "\x7f",
    "is half a character": "\ud800",
    "hides": "a\u200bb\ufeff",
}
FORBIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_is_made_harmless_and_stays_recognisable(text: str) -> None:
    around = f"before {text} after"
    for harmless in (plain(around), one_line(around), cell(around), json_text(json.dumps(around))):
        assert not FORBIDDEN.search(harmless)
        assert "before " in harmless
        assert " after" in harmless
    assert json.loads(json_text(json.dumps(around, ensure_ascii=False))) == around


def test_honest_text_is_left_alone() -> None:
    for text in ("7 tok/s · ÷ × σ 日本語 🦙", "-", "a\nb"):
        assert plain(text) == text
    assert one_line(" a\n  b ") == "a b"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_terminal_gets_our_styles_and_no_escapes_of_a_text(text: str) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=True, width=80, color_system="truecolor")
    console.print(text, style="bold", markup=False)
    assert out.getvalue().startswith("\x1b[1m")
    assert not FORBIDDEN.search(re.sub("\x1b\\[[0-9;]*m", "", out.getvalue()))


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["tpubench", *map(str, arguments)])
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("terminal", [False, True])
def test_no_command_prints_what_a_stored_text_says_to_a_terminal(
    terminal: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    text = " ".join(HOSTILE.values()).replace("\ud800", "").replace("/", "")
    params = json.dumps({"batch": 1, text: text})
    environment = json.dumps({"fingerprint": {text: text}})
    store = tmp_path / "store"
    for run_id in (f"a{text}", "b"):
        rows = [
            make_row(
                "output_tok_s",
                run_id=run_id,
                reason=text,
                preset=text,
                params=params,
                device=text,
                dtype=text,
                source=text,
                git_sha=text,
                environment=environment if run_id != "b" else "{}",
            ),
            replace(make_row("ttft_s", run_id=run_id), metric=text, unit=text, workload=text),
        ]
        facts.write(store, "case", rows)
    odd = store / "b" / f"{text}.parquet"
    odd.write_bytes(b"")
    for command in (
        ("show", "b"),
        ("show", "batch=1"),
        ("show", "b", "--csv"),
        ("show", "b", "--json"),
        ("show", f"nothing{text}"),
        ("show", f"{text}=1"),
        ("compare", "b", "preset=" + text),
        ("compare", "b", "b", "--json"),
        ("gate", "--baseline", "b", "--candidate", "preset=" + text),
        ("history",),
        ("verify",),
        ("verify", "--json"),
        ("report",),
        ("price", "apply", "--usd-per-chip-hour", "2"),
    ):
        if terminal:
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        run(*command, "--store", store)
        shown = capsys.readouterr()
        styled = re.sub("\x1b\\[[0-9;]*m", "", shown.out) if terminal else shown.out
        forbidden = FORBIDDEN.search(styled.replace("\r\n", "\n") + shown.err)
        assert not forbidden, (command, forbidden)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_a_cell_is_never_a_formula(
    first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{first}cmd|' /C calc'!A0"
    facts.write(tmp_path, "case", [make_row("ttft_s", [-1.0], reason=text)])
    run("show", "--csv", "--store", tmp_path)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["reason"] == f"'{plain(text)}"
    assert float(row["value"]) == -1.0

"""``tpubench report``: one HTML file that needs nothing else, and a PNG of each chart.

The page is meant to be mailed around and opened anywhere, and the facts in it may come from
anybody. So it loads nothing, a content security policy allows exactly its own two scripts (by
hash), every text goes through autoescaping, and charts get their text escaped once more.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.devices.prices import Price
from tpubench.devices.vendors import label
from tpubench.errors import UsageError
from tpubench.reports import charts, markdown, png, printing
from tpubench.reports.answers import export, view, words
from tpubench.reports.answers.build import Answers, build
from tpubench.reports.answers.model import GRID, grid, model
from tpubench.reports.answers.plan import plan_view
from tpubench.reports.answers.plan_sections import plan_sections
from tpubench.reports.answers.settings import ReportSettings
from tpubench.reports.blocks import Section
from tpubench.reports.figure import SHADES
from tpubench.reports.findings import Findings, find, short
from tpubench.reports.sections import sections
from tpubench.results.calibration import results_of
from tpubench.results.store import Scan

HTML_NAME = "report.html"
SCRIPTS = ("live.js", "report.js", "save.js", "table.js")
_LISTED = "[pictures]"
"""Stands in the page for the list of its pictures until they are known."""
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The files of a report, the page first, and what its first screen says."""

    paths: list[Path]
    answers: Answers


def write(
    scan: Scan,
    out: Path,
    *,
    table: Mapping[str, Price] | None = None,
    now: dt.datetime | None = None,
    settings: ReportSettings | None = None,
    pngs: bool = False,
    formats: Collection[str] = ("html",),
    plan: PlanAnswer | None = None,
) -> Written:
    """Write the report into ``out`` in each of ``formats``, and with ``pngs`` a picture of each
    chart beside the page; a solved ``plan`` stands below the first screen.

    Each file appears whole or not at all. UsageError when there is nothing to report, or when
    ``out`` cannot be written. ``table`` holds every known price by id, the shipped ones by
    default; ``now`` (UTC) is the date of the report, today by default.
    """
    findings = find(scan, now or dt.datetime.now(dt.UTC), table)
    if not findings.rows:
        raise UsageError(_nothing(findings))
    answers = build(findings, settings)
    parts = [*(() if plan is None else plan_sections(plan)), *sections(findings)]
    pictures = {}
    if pngs:
        drawn = [*export.charts(answers), *(chart for one in parts for chart in one.charts())]
        pictures = {chart.name: png.draw(chart) for chart in drawn}
    texts = {
        "md": lambda: "\n".join(
            [markdown.of_answers(_title(findings), answers)]
            + ([] if plan is None else [markdown.of_plan(plan)])
        ),
        "csv": lambda: export.to_csv(answers),
    }
    page = render(findings, parts, answers, plan)
    return Written(paths=_store(out, page, pictures, formats, texts), answers=answers)


def write_plan(
    answer: PlanAnswer,
    out: Path,
    *,
    now: dt.datetime | None = None,
    pngs: bool = False,
    formats: Collection[str] = ("html",),
) -> list[Path]:
    """Write the page of a solved plan into ``out``, and with ``pngs`` a picture of each chart;
    UsageError when that cannot be written."""
    first = {"plan": plan_view(answer), "plan_name": answer.name}
    now = now or dt.datetime.now(dt.UTC)
    parts = plan_sections(answer)
    pictures = {}
    if pngs:
        drawn = (chart for one in parts for chart in one.charts())
        pictures = {chart.name: png.draw(chart) for chart in drawn}
    page = _document(["plan.html.j2"], answer.name, first, parts, now, {"works": []})
    return _store(out, page, pictures, formats, {"md": lambda: markdown.of_plan(answer)})


def _store(
    out: Path,
    page: str,
    pictures: dict[str, bytes],
    formats: Collection[str],
    texts: Mapping[str, Callable[[], str]],
) -> list[Path]:
    """Write the files; pictures of an earlier report here that this one has not are removed."""
    contents = {f"{name}.png": picture for name, picture in pictures.items()}
    listed = " ".join(
        f"{name}:{hashlib.sha256(content).hexdigest()[:16]}" for name, content in contents.items()
    )
    page = page.replace(_LISTED, listed, 1)
    wanted: dict[str, bytes] = {}
    for form in dict.fromkeys(formats):
        if form == "html":
            wanted[HTML_NAME] = page.encode("utf-8")
        elif form == "pdf":
            wanted["report.pdf"] = printing.pdf(page)
        elif form in texts:
            wanted[f"report.{form}"] = texts[form]().encode("utf-8")
        else:
            raise UsageError(
                f"--format {form}: a report comes as {', '.join(['html', 'pdf', *texts])}"
            )
    contents = wanted | contents
    try:
        out.mkdir(parents=True, exist_ok=True)
        if HTML_NAME in contents:
            _remove_stale(out, set(contents))
        return [_replace(out / name, content) for name, content in contents.items()]
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"cannot write the report to {out}: {why}; choose another --out") from None


def _remove_stale(out: Path, written: set[str]) -> None:
    """Remove the pictures that the page in ``out`` says it came with, unless changed since."""
    earlier = out / HTML_NAME
    if not earlier.is_file():
        return
    with earlier.open(encoding="utf-8", errors="replace") as stream:
        match = re.search(r'<meta name="tpubench-pictures" content="([^"]*)">', stream.read(4096))
    for entry in match[1].split() if match else ():
        name, _, sha256 = entry.partition(":")
        path = out / name
        if not re.fullmatch(r"[a-z0-9-]+\.png", name) or name in written or not path.is_file():
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest()[:16] == sha256:
            path.unlink()


def render(
    findings: Findings,
    parts: list[Section],
    answers: Answers | None = None,
    plan: PlanAnswer | None = None,
) -> str:
    """The page as one HTML document; ``answers`` are built under the neutral settings where none
    are given, and ``plan`` stands below them."""
    answers = answers or build(findings)
    works = view.work_views(answers)
    # The first that has a price is drawn beside the verdicts; the others are below.
    drawn = next((work for work in works if work.scale is not None), None)
    first: dict[str, Any] = {
        "lines": view.line_views(answers),
        "drawn": drawn,
        "works": [work for work in works if work is not drawn],
        "trust": words.trust(answers),
        # Cost is what the section is about: without any price there is none.
        "curves": view.curve_views(answers)
        if any(curve.usd_per_chip_hour is not None for curve in answers.curves)
        else [],
        "slo": f"{answers.settings.slo:g}",
        "sliders": view.slider_views(answers.settings),
        "token_price": answers.settings.token_price or "",
        "grid_factors": GRID,
        "grid": [] if drawn is None else grid(answers, drawn.index),
    }
    screens = ["answers.html.j2"]
    if plan is not None:
        first |= {"plan": plan_view(plan), "plan_name": plan.name}
        screens.append("plan.html.j2")
    return _document(screens, _title(findings), first, parts, findings.now, model(answers))


def _document(
    screens: Sequence[str],
    title: str,
    first: Mapping[str, Any],
    parts: list[Section],
    now: dt.datetime,
    values: Mapping[str, Any],
) -> str:
    """A page with its first screens, each a template, and the sections below them."""
    import jinja2
    from markupsafe import Markup

    script = "".join((_TEMPLATES / f).read_text(encoding="utf-8") for f in SCRIPTS)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        screens=screens,
        listed=_LISTED,
        **first,
        sections=parts,
        panels={chart.name: charts.panels(chart) for one in parts for chart in one.charts()},
        policy=_policy(script),
        # Not markup from outside: this suite's own script and style, and JSON made harmless.
        script=Markup(script),
        style=Markup(_style()),
        model=Markup(script_json(values)),
        written=f"{now:%Y-%m-%d %H:%M} UTC",
        version=version("tpubench"),
    )


def script_json(value: Any) -> str:
    """JSON that stands safely inside a script element: no character there has a meaning."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _style() -> str:
    """The style sheet, with each maker's colour from its one home."""
    text = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, dark = (
        " ".join(f"--{name}: {pair[i]};" for name, pair in SHADES.items()) for i in (0, 1)
    )
    return (
        f":root {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"@media print {{ :root {{ {light} }} }}\n{text}"
    )


def _policy(script: str) -> str:
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{sha256}'; style-src 'unsafe-inline';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _title(findings: Findings) -> str:
    if findings.survey:
        return "Published results: TPU and GPU"
    rows = results_of(findings.rows)
    ok = [row for row in rows if row.status == "ok"] or list(rows)
    workloads = list(dict.fromkeys(row.workload for row in ok))
    workloads.sort(key=lambda name: name in {"gemm", "hbm"})
    return f"{_listed(workloads)} on {_listed(sorted({label(row.device) for row in ok}))}"


def _listed(words: list[str]) -> str:
    words = [short(word, 40) for word in words]
    if len(words) > 3:
        words = [*words[:2], f"{len(words) - 2} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _nothing(findings: Findings) -> str:
    if findings.damaged:
        return (
            f"nothing to report: none of {len(findings.damaged)} files could be read;"
            " see tpubench verify"
        )
    return (
        "nothing to report: no rows match; drop a filter, or run a workload first"
        " (tpubench run --workload llama-infer)"
    )


def _replace(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path

"""Verdicts for machines and pull requests: JUnit XML and GitHub-flavoured Markdown."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.reports.quantity import quantity
from tpubench.reports.terminal.gate import cause, change
from tpubench.results.gate.report import Finding, GateReport

_MARK = {
    "ok": "✅",
    "regressed": "❌",
    "inconclusive": "❔",
    "missing": "❔",
    "failed": "💥",
    "refused": "🚫",
    "first": "✅",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold at all, escaped or not."""


def write(report: GateReport, *, junit: Path | None, markdown: Path | None) -> None:
    """Write the files asked for. UsageError when one cannot be written."""
    for path, make in ((junit, junit_xml), (markdown, to_markdown)):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(make(report), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None


def junit_xml(report: GateReport) -> str:
    """One test case a finding. Regressed is a failure; what could not be judged is an error.

    Nothing is "skipped": systems show that as green.
    """
    failures = sum(finding.state == "regressed" for finding in report.findings)
    errors = sum(finding.state not in {"ok", "regressed"} for finding in report.findings)
    counts = {"tests": str(len(report.findings)), "failures": str(failures), "errors": str(errors)}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": _xml(f"tpubench {report.title}"), **counts})
    for finding in report.findings:
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": _xml(finding.case), "name": _xml(finding.metric), "time": "0"},
        )
        text = _xml(f"{finding.reason}{cause(finding)}")
        if finding.state != "ok":
            tag = "failure" if finding.state == "regressed" else "error"
            problem = ET.SubElement(case, tag, {"type": finding.state, "message": text})
            problem.text = _xml(_sentence(finding))
        else:
            ET.SubElement(case, "system-out").text = _xml(_sentence(finding))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def to_markdown(report: GateReport) -> str:
    """A table for a pull request, the verdict first. Text from facts cannot format or link."""
    lines = [
        f"### {_MARK[report.state]} tpubench: {report.state}",
        "",
        *(f"- {_markdown(note)}" for note in report.notes),
        *([""] if report.notes else []),
        "| | case | metric | baseline | candidate | worse by | detectable | n | why |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for finding in report.findings:
        mde = "–" if finding.mde is None else f"{100 * (finding.mde - 1):+.1f} %"
        cells = [
            f"{_MARK[finding.state]} {finding.state}",
            _markdown(f"{finding.case} · {finding.evidence}"),
            _markdown(finding.metric),
            *(_value(value, finding.unit) for value in (finding.baseline, finding.candidate)),
            _markdown(change(finding.worse)),
            mde,
            "/".join(map(str, dict.fromkeys(finding.n))),
            _markdown(f"{finding.reason}{cause(finding)}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "<sub>*regressed*: proven worse than the margin; *ok*: proven not as bad as the limit;"
        " anything else is not proven either way. Intervals are 95 %, between processes.</sub>",
    ]
    return "\n".join(lines) + "\n"


def _sentence(finding: Finding) -> str:
    return (
        f"{finding.metric} of {finding.case} ({finding.evidence}): {finding.state}:"
        f" worse by {change(finding.worse)}, n {finding.n[0]}/{finding.n[1]}; {finding.reason}"
        f"{cause(finding)}"
    )


def _xml(text: str) -> str:
    return _NOT_XML.sub("�", text)


def _markdown(text: str) -> str:
    """Text that stays text: no markup, link, mention, HTML or end of the table cell."""
    flat = " ".join(_xml(text).split())
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~<>&@$:])", lambda m: f"&#{ord(m[1])};", flat)
    # A bare address would become a link even without its colon.
    return re.sub(r"(?i)www\.", "www&#46;", escaped)


def _value(value: float | None, unit: str) -> str:
    return "–" if value is None else _markdown(quantity(value, unit))

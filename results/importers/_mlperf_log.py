"""One ``mlperf_log_summary.txt`` as LoadGen writes it.

Times are in nanoseconds. LoadGen knows no Interactive scenario: that is Server under tighter
bounds, told by the folder. What scenario a run was is said by the log; folders have held others'
logs. Since v4.1 some have tokens a second "(inferred)": samples times a fixed number of tokens.
(mlcommons/inference, loadgen/results.cc, read 2026-11-28.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import read_text
from tpubench.results.importers._mlperf import LogPlace, place, round_of, source, system_of
from tpubench.results.importers._mlperf_tree import no_result, precision
from tpubench.results.importers._mlperf_units import (
    PERCENTILE,
    bounded,
    joined,
    scenario_name,
)
from tpubench.results.importers._record import Figure, Record
from tpubench.results.importers._serving import MEAN_NOT_MEDIAN, rate

LOG = "mlperf_log_summary.txt"
HEADING = "MLPerf Results Summary"
_NS = 1e-9
_SCENARIOS = {"offline", "server", "interactive", "singlestream", "multistream"}
_LINE = re.compile(r"^\s*(?P<name>[^:]{1,80}?)\s*:\s*(?P<value>[^:]{1,200})$")
_HIGH = re.compile(r"(?P<percent>\d{2}(?:\.\d+)?)(?:th)? percentile latency \(ns\)")
_INFERRED = "inferred: samples a second times a fixed number of tokens, not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """The lines ``name : value`` of a log."""

    path: Path
    lines: dict[str, str]

    def number(self, *names: str, scale: float = 1.0) -> float | None:
        for name in names:
            text = self.lines.get(name)
            if text is not None:
                try:
                    value = float(text)
                except ValueError:
                    value = -1.0
                if not 0 <= value <= 1e18:
                    raise UsageError(f"{self.path}: {name}: {text!r} is not a number above zero")
                return value * scale
        return None


def read_log(path: Path, root: Path | None = None) -> Record:
    """One log. UsageError when it is no summary, of no performance run, or without a figure."""
    text = read_text(path)
    if HEADING not in text:
        raise UsageError(f"{path} is not an MLPerf log summary")
    why = no_result(path, root)
    if why is not None:
        raise UsageError(f"{path} is {why}")
    log = _Log(path=path, lines=_lines(text))
    _refuse_other_modes(log)
    where = place(path)
    written, verdict = log.lines.get("Scenario"), log.lines.get("Result is")
    folder = _folder(where)
    if verdict is None or (written is None and folder is None):
        raise UsageError(f"{path} says neither Scenario nor whether the result is valid")
    scenario, note = _scenario(written, folder)
    system = system_of(where)
    model, run = _benchmark(where)
    dtype, no_dtype = precision(path, where)
    bad = verdict.split()[0].upper() != "VALID"
    return Record(
        workload="mlperf-inference",
        model=model,
        params={
            "scenario": scenario,
            "round": round_of(path),
            "division": system.division,
            "submission": None if where is None else f"{system.submitter}/{where.system}",
            "target_qps": log.number("target_qps"),
        },
        device=system.device,
        chips=system.chips,
        hosts=system.hosts,
        dtype=dtype,
        software=system.software,
        source=None if where is None else source(where),
        repetition=run,
        status="invalid" if bad else "ok",
        reason=f"MLPerf calls the result {verdict}" if bad else None,
        figures=() if bad else tuple(_figures(log, scenario, note)),
        stated={
            "submitter": system.submitter,
            "system": system.name,
            "availability": system.availability,
            "precision_missing": no_dtype,
            "ttft_p99_s": log.number("99.00 percentile first token latency (ns)", scale=_NS),
            "tpot_p99_s": log.number("99.00 percentile time to output token (ns)", scale=_NS),
            "latency_p90_s": log.number("90.00 percentile latency (ns)", scale=_NS),
            "latency_p99_s": log.number("99.00 percentile latency (ns)", scale=_NS),
        },
    )


def _refuse_other_modes(log: _Log) -> None:
    """Performance and submission runs measure; LoadGen's other modes do not."""
    mode = log.lines.get("Mode", "")
    if re.match(r"accuracy", mode, re.I):
        raise UsageError(f"{log.path} is an accuracy run (mode {mode}), not the performance run")
    if re.match(r"find", mode, re.I):
        raise UsageError(f"{log.path} is a search for the peak (mode {mode}), not a measurement")


def _lines(text: str) -> dict[str, str]:
    """The first value of each name, which is the summary's."""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            lines.setdefault(match["name"].strip(), match["value"].strip())
    return lines


def _scenario(written: str | None, folder: str | None) -> tuple[str, str | None]:
    """The scenario that counts, and a remark where the log's folder is called for another."""
    log = scenario_name(written) if written is not None else None
    if log is None or (log, folder) == ("server", "interactive"):
        return folder or "", None
    if folder not in {None, log}:
        return log, f"the log is of {log}, its folder is called {folder}"
    return log, None


def _folder(where: LogPlace | None) -> str | None:
    name = scenario_name(where.rest[1]) if where is not None and len(where.rest) > 1 else ""
    return name if name in _SCENARIOS else None


def _benchmark(where: LogPlace | None) -> tuple[str, int]:
    """Model and run number, from the path."""
    if where is None or len(where.rest) < 2:
        return "benchmark-not-stated", 0
    run = re.fullmatch(r"run_(\d{1,4})", where.rest[-2])
    return where.rest[0], int(run[1]) - 1 if run and int(run[1]) > 0 else 0


def _figures(log: _Log, scenario: str, note: str | None) -> list[Figure]:
    figures = [*_tokens(log), *rate("samples_s", _samples(log))]
    figures = [_noted(figure, bounded(scenario)) for figure in figures]
    # With everything queued at once, latency is only how long the run took.
    if scenario != "offline":
        figures += _latency(log, "ttft_s", "first token latency", "First Token latency")
        figures += _latency(log, "tpot_s", "time to output token", "Time to Output Token")
        figures += _latency(log, "e2e_s", "latency", "latency")
        if not figures:
            figures = _high_percentile(log)
    if not figures:
        raise UsageError(f"{log.path} gives neither a rate nor a latency")
    return [_noted(figure, note) for figure in figures]


def _samples(log: _Log) -> float | None:
    return log.number(
        "Completed samples per second", "Samples per second", "Scheduled samples per second"
    )


def _tokens(log: _Log) -> list[Figure]:
    counted = log.number("Completed tokens per second", "Tokens per second")
    if counted is not None:
        return rate("output_tok_s", counted)
    inferred = log.number("Completed tokens per second (inferred)", "Tokens per second (inferred)")
    return [_noted(figure, _INFERRED) for figure in rate("output_tok_s", inferred)]


def _latency(log: _Log, metric: str, percentile: str, mean: str) -> list[Figure]:
    """A latency from its median, or failing that from its mean, which is then said."""
    middle = log.number(f"50.00 percentile {percentile} (ns)", scale=_NS)
    if middle is not None:
        return rate(metric, middle)
    average = log.number(f"Mean {mean} (ns)", scale=_NS)
    return [_noted(figure, MEAN_NOT_MEDIAN) for figure in rate(metric, average)]


def _high_percentile(log: _Log) -> list[Figure]:
    """A run whose log has the tail alone: no figure of ours, and what there is."""
    for name in log.lines:
        match = _HIGH.fullmatch(name)
        value = log.number(name, scale=_NS) if match else None
        if match and value is not None:
            why = f"{PERCENTILE.format(file='log')}: {value:g} s at {match['percent']} %"
            return [Figure(metric="e2e_s", reason=why)]
    return []


def _noted(figure: Figure, note: str | None) -> Figure:
    """A figure with one more remark."""
    return figure if note is None else replace(figure, reason=joined(figure.reason, note))

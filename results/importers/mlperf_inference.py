"""MLPerf Inference: the round's ``summary_results.json``, ``mlperf_log_summary.txt``, or a tree.

Server and Interactive rates are what was served while the latency bounds held; Offline is the
rate with all samples queued. Where a file gives tokens a second, they are generated tokens. A
result that MLPerf calls INVALID stays so. In SingleStream and MultiStream the summary gives a 90th
or 99th percentile, which is no median: it is kept as stated, not as a figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, plain_files, read_json, read_text
from tpubench.results.importers._mlperf import Place, place, round_of, source, system_of
from tpubench.results.importers._record import Figure, Imported, Record, Rejected
from tpubench.results.importers._serving import rate

FORMAT = "mlperf-inference"
TITLE = "MLPerf Inference: summary_results.json, mlperf_log_summary.txt, or a results tree"

LOG = "mlperf_log_summary.txt"
_UNDER_BOUND = "served within the benchmark's latency bounds"
_PERCENTILE = "the summary has a high percentile only, which is no median"
_NS = 1e-9
_SCENARIOS = {"offline", "server", "interactive", "singlestream", "multistream"}
_LINE = re.compile(r"^\s*(?P<name>[^:]{1,80}?)\s*:\s*(?P<value>[^:]{1,200})$")


def reads(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(True for _ in plain_files(path, LOG)) or _summary_in(path).is_file()
        if path.suffix.lower() == ".json":
            root = read_json(path)
            first = root.value[0] if isinstance(root.value, list) and root.value else None
            stated = first.keys() if isinstance(first, dict) else set()
            return "Scenario" in stated and bool({"Performance_Result", "Result"} & stated)
        return "MLPerf Results Summary" in read_text(path)[:400]
    except (UsageError, OSError):
        return False


def read(path: Path) -> Imported:
    """Every result of a summary, of one log, or of all logs in a tree."""
    if path.is_dir():
        logs = list(plain_files(path, LOG))
        if not logs and _summary_in(path).is_file():
            return _summary(_summary_in(path))
        if not logs:
            raise UsageError(f"{path} holds neither {LOG} nor summary_results.json")
        records, rejected = [], []
        for log in logs:
            try:
                records.append(_log(log))
            except UsageError as error:
                rejected.append(Rejected(where=str(log.relative_to(path)), reason=str(error)))
        return Imported(records=tuple(records), rejected=tuple(rejected))
    if path.suffix.lower() == ".json":
        return _summary(path)
    return Imported(records=(_log(path),))


def _summary_in(folder: Path) -> Path:
    return folder / "summary_results.json"


def _summary(path: Path) -> Imported:
    root = read_json(path)
    entries = root.items()
    records, rejected = [], []
    for entry in entries:
        try:
            records.append(_entry(entry))
        except UsageError as error:
            reason = str(error).removeprefix(f"{path}: ")
            rejected.append(Rejected(where=entry.where, reason=reason))
    if not records:
        why = f": {rejected[0].reason}" if rejected else ""
        raise UsageError(f"{path} holds no result of MLPerf Inference{why}")
    return Imported(records=tuple(records), rejected=tuple(rejected))


def _entry(entry: Node) -> Record:
    if not isinstance(entry.value, dict) or not entry.value.get("Scenario"):
        raise entry.error("is not a result of MLPerf Inference: it has no Scenario")
    scenario = entry["Scenario"].text() or ""
    # Rounds before v5.0 call them Result and Units, and the benchmark MlperfModel.
    value = entry.first("Performance_Result", "Result").number()
    unit = entry.first("Performance_Units", "Units").text() or ""
    nodes = entry["Nodes"].count()
    model = entry.first("MlperfModel", "Model").text()
    if model is None or value is None:
        raise entry.error("has no Model or no Performance_Result")
    if re.search(r"watt|joule", unit, re.I):
        raise entry.error(f"is a power result ({unit}), not a rate")
    accelerator = entry["Accelerator"].text()
    invalid = bool(entry["errors"].number())
    return Record(
        workload="mlperf-inference",
        model=model,
        params={
            "scenario": scenario.lower(),
            "round": entry["version"].text(),
            "division": entry.first("Category", "Division").text(),
            "submission": entry["ID"].text(),
            "variant": _other(entry.first("UsedModel", "Model").text(), model),
        },
        # Without an accelerator the processors do the work.
        device=accelerator or "cpu",
        # Per node: nodes count whole machines.
        chips=_all_chips(entry["a#" if accelerator else "host_processors_per_node"], nodes),
        hosts=nodes,
        dtype=entry["weight_data_types"].text(),
        software=entry["Software"].text(),
        source=entry["Details"].text(),
        status="invalid" if invalid else "ok",
        reason="MLPerf lists errors with this result" if invalid else None,
        figures=() if invalid else _figures(scenario, unit, value),
        stated={
            "submitter": entry["Submitter"].text(),
            "system": entry["System"].text(),
            "availability": entry["Availability"].text(),
            "suite": entry["Suite"].text(),
            "processor": entry["Processor"].text(),
            "processors_per_node": entry["host_processors_per_node"].count(),
            "accuracy": entry["Accuracy"].text(),
            "power": entry["Power_Result"].number(),
            "power_units": entry["Power_Units"].text(),
            f"performance, {unit}": value,
        },
    )


def _other(used: str | None, model: str) -> str | None:
    return used if used != model else None


def _all_chips(per_node: Node, nodes: int | None) -> int | None:
    each = per_node.count()
    return each * nodes if each and nodes else None


def _figures(scenario: str, unit: str, value: float) -> tuple[Figure, ...]:
    bound = _UNDER_BOUND if scenario.lower() in {"server", "interactive"} else None
    known = unit.lower().partition(" ")[0]
    if known == "tokens/s":
        return (Figure(metric="output_tok_s", value=value, reason=bound),)
    if known in {"samples/s", "queries/s"}:
        return (Figure(metric="samples_s", value=value, reason=bound),)
    return (Figure(metric="e2e_s", reason=f"{_PERCENTILE}: {value:g} in {unit}"),)


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


def _log(path: Path) -> Record:
    text = read_text(path)
    if "MLPerf Results Summary" not in text:
        raise UsageError(f"{path} is not an MLPerf log summary")
    log = _Log(path=path, lines=_lines(text))
    scenario, verdict = log.lines.get("Scenario"), log.lines.get("Result is")
    if scenario is None or verdict is None:
        raise UsageError(f"{path} says neither Scenario nor whether the result is valid")
    found = place(path)
    system = system_of(found)
    model, run = _benchmark(found)
    # LoadGen knows no Interactive: it is Server under tighter bounds, told by the folder.
    scenario = _scenario(found) or scenario.lower()
    mode = log.lines.get("Mode", "")
    bad = verdict != "VALID" or "Performance" not in mode
    why = f"MLPerf calls the result {verdict}" if verdict != "VALID" else f"the mode is {mode}"
    return Record(
        workload="mlperf-inference",
        model=model,
        params={
            "scenario": scenario,
            "round": round_of(path),
            "division": system.division,
            "submission": None if found is None else f"{system.submitter}/{found.system}",
            "target_qps": log.number("target_qps"),
        },
        device=system.device or (found.system if found else None),
        chips=system.chips,
        hosts=system.hosts,
        dtype=_precision(path, found),
        software=system.software,
        source=None if found is None else source(found),
        repetition=run,
        status="invalid" if bad else "ok",
        reason=why if bad else None,
        figures=() if bad else tuple(_log_figures(log, scenario)),
        stated={
            "submitter": system.submitter,
            "system": system.name,
            "availability": system.availability,
            "ttft_p99_s": log.number("99.00 percentile first token latency (ns)", scale=_NS),
            "tpot_p99_s": log.number("99.00 percentile time to output token (ns)", scale=_NS),
            "latency_p99_s": log.number("99.00 percentile latency (ns)", scale=_NS),
        },
    )


def _lines(text: str) -> dict[str, str]:
    """The first value of each name, which is the summary's."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            found.setdefault(match["name"].strip(), match["value"].strip())
    return found


def _log_figures(log: _Log, scenario: str) -> list[Figure]:
    bound = _UNDER_BOUND if scenario.lower() in {"server", "interactive"} else None
    tokens = log.number("Completed tokens per second", "Tokens per second")
    samples = log.number(
        "Completed samples per second", "Samples per second", "Scheduled samples per second"
    )
    figures = [*rate("output_tok_s", tokens), *rate("samples_s", samples)]
    if bound:
        figures = [
            Figure(
                metric=f.metric, value=f.value, reason=bound if f.value is not None else f.reason
            )
            for f in figures
        ]
    # With everything queued at once, latency is only how long the run took.
    if scenario.lower() != "offline":
        for metric, name in (
            ("ttft_s", "50.00 percentile first token latency (ns)"),
            ("tpot_s", "50.00 percentile time to output token (ns)"),
            ("e2e_s", "50.00 percentile latency (ns)"),
        ):
            figures += rate(metric, log.number(name, scale=_NS))
    if not figures:
        raise UsageError(f"{log.path} gives neither a rate nor a latency")
    return figures


def _benchmark(found: Place | None) -> tuple[str, int]:
    """Model and run number, from the path."""
    if found is None or not found.rest:
        return "benchmark-not-stated", 0
    run = re.fullmatch(r"run_(\d{1,4})", found.rest[-2]) if len(found.rest) > 1 else None
    return found.rest[0], int(run[1]) - 1 if run and int(run[1]) > 0 else 0


def _scenario(found: Place | None) -> str | None:
    folder = found.rest[1].lower() if found is not None and len(found.rest) > 1 else ""
    return folder if folder in _SCENARIOS else None


def _precision(path: Path, found: Place | None) -> str | None:
    """Weights' precision from the submission's ``measurements.json`` beside the log."""
    if found is None:
        return None
    for folder in list(path.absolute().parents)[:4]:
        if folder == found.top / "results":
            break
        notes = folder / "measurements.json"
        if notes.is_file() and not notes.is_symlink():
            return read_json(notes)["weight_data_types"].text()
    return None

"""MLPerf Inference's summary of a round, in every form that rounds have published.

* up to v5.1: ``summary_results.json``, a list; ``Result`` and ``Units``, or ``Performance_Result``
  and ``Performance_Units``, the benchmark as ``MlperfModel`` or ``Model``;
* v6.0: the same with ``Total Accelerators`` in place of accelerators a node;
* v6.1: ``summary.json``, an object of entries with the checker's own column names.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._mlperf import CPU, accelerator
from tpubench.results.importers._mlperf_units import scenario_name, summary_figure
from tpubench.results.importers._record import Imported, Plain, Record, Rejected

NAMES = ("summary_results.json", "summary.json")


def is_summary(path: Path) -> bool:
    """Whether a JSON file is a round's summary. UsageError when it is no JSON."""
    root = read_json(path)
    if not isinstance(root.value, dict | list):
        return False
    first = next(iter(_entries(root)), None)
    stated = first.value.keys() if first is not None and isinstance(first.value, dict) else set()
    return "Scenario" in stated and bool({"Performance_Result", "Result"} & stated)


def summary_in(folder: Path) -> Path | None:
    """The summary that lies in a folder; None without one."""
    for name in NAMES:
        path = folder / name
        if path.is_file() and not path.is_symlink() and is_summary(path):
            return path
    return None


def read_summary(path: Path) -> Imported:
    """Every entry; what makes no sense is left out and named. UsageError when nothing is left."""
    records, rejected = [], []
    for entry in _entries(read_json(path)):
        try:
            records.append(_entry(entry))
        except UsageError as error:
            reason = str(error).removeprefix(f"{path}: ")
            rejected.append(Rejected(where=entry.where, reason=reason))
    if not records:
        why = f": {rejected[0].reason}" if rejected else ""
        raise UsageError(f"{path} holds no result of MLPerf Inference{why}")
    return Imported(records=tuple(records), rejected=tuple(rejected))


def _entries(root: Node) -> list[Node]:
    return root.entries() if isinstance(root.value, dict) else root.items()


def _entry(entry: Node) -> Record:
    if not isinstance(entry.value, dict) or not entry.value.get("Scenario"):
        raise entry.error("is not a result of MLPerf Inference: it has no Scenario")
    scenario = scenario_name(entry["Scenario"].text() or "")
    value = entry.first("Performance_Result", "Result").number()
    unit = entry.first("Performance_Units", "Units").text() or ""
    nodes = _count(entry.first("Nodes", "number_of_nodes"))
    model = entry.first("MlperfModel", "Model", "UsedModel").text()
    if model is None or value is None:
        raise entry.error("has no Model or no Performance_Result")
    if re.search(r"watt|joule", unit, re.I):
        raise entry.error(f"is a power result ({unit}), not a rate")
    device = accelerator(entry.first("Accelerator", "accelerator_model_name"))
    round_name = entry["version"].text()
    invalid = bool(entry["errors"].number())
    inferred = _plain(entry["inferred"]) in (1, "1")
    figure = summary_figure(model, scenario, round_name, unit, value, inferred=inferred)
    submitter = _plain(entry.first("Submitter", "Organization"))
    system = _plain(entry.first("System", "SystemName"))
    return Record(
        workload="mlperf-inference",
        model=model,
        params={
            "scenario": scenario,
            "round": round_name,
            "division": entry.first("Category", "Division").text(),
            "submission": _plain(entry["ID"])
            or f"{submitter}/{_plain(entry['Platform']) or system}",
            "variant": _other(entry.first("UsedModel", "Model").text(), model),
        },
        # Without an accelerator the processors do the work.
        device=device or CPU,
        chips=_chips(entry, nodes, accelerated=device is not None),
        hosts=nodes,
        dtype=entry["weight_data_types"].text(),
        software=entry.first("Software", "framework").text(),
        source=entry.first("Details", "Location").text(),
        status="invalid" if invalid else "ok",
        reason="MLPerf lists errors with this result" if invalid else None,
        figures=() if invalid else (figure,),
        stated={
            "submitter": submitter,
            "system": system,
            "platform": _plain(entry["Platform"]),
            "availability": _plain(entry["Availability"]),
            "suite": _plain(entry.first("Suite", "SystemType")),
            "processor": _plain(entry.first("Processor", "host_processor_model_name")),
            "processors_per_node": _plain(entry["host_processors_per_node"]),
            "accuracy": _plain(entry["Accuracy"]),
            "power": _plain(entry["Power_Result"]),
            "power_units": _plain(entry["Power_Units"]),
            f"performance, {unit}": value,
        },
    )


def _other(used: str | None, model: str) -> str | None:
    return used if used != model else None


def _chips(entry: Node, nodes: int | None, *, accelerated: bool) -> int | None:
    """All chips: those of a node times nodes, which count whole machines; or as stated."""
    if not accelerated:
        each = _count(entry["host_processors_per_node"])
        return each * nodes if each and nodes else None
    each = _count(entry.first("a#", "accelerators_per_node"))
    if each and nodes:
        return each * nodes
    return _count(entry.first("Total Accelerators", "total_accelerators")) or None


def _count(node: Node) -> int | None:
    """A count; None for what is no number, as in a system of two kinds (``8, 4``)."""
    try:
        return node.count()
    except UsageError:
        if isinstance(node.value, str):
            return None
        raise


def _plain(node: Node) -> Plain:
    """A remark as it is written, where it is a plain value."""
    if isinstance(node.value, str):
        return node.text()
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return None
    return node.value if isinstance(node.value, bool | int | float) else None

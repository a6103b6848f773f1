"""The compiler's estimates for a terminal: the verdict, the times, and what they are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tpubench.reports import definitions, quantity
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, price_words, print_json, records
from tpubench.results.row import Row

_GIB = 2**30


def show(rows: Sequence[Row], store: Path | None, *, as_json: bool, explain: bool = False) -> None:
    """One block a case: its rows, then the parts of each phase; or the rows as JSON."""
    if as_json:
        document: dict[str, Any] = {"rows": records(rows)}
        if store is not None and rows:
            run_ids = list(dict.fromkeys(row.run_id for row in rows))
            document |= {"run_ids": run_ids, "store": str(store)}
        print_json(document)
        return
    out = console()
    for run_id in dict.fromkeys(row.run_id for row in rows):
        own = [row for row in rows if row.run_id == run_id]
        compiled = json.loads(own[0].environment)["compiled"]
        params = json.loads(own[0].params)
        label = " ".join(f"{key}={value}" for key, value in params.items() if key != "seed")
        title = f"{own[0].workload} {own[0].preset} on {compiled['topology']}: {label}"
        out.print(_figures(title, own))
        out.print(_phases(compiled))
        for note in _notes(compiled):
            out.print(note, soft_wrap=True)
        out.print()
    for words in dict.fromkeys(filter(None, map(price_words, rows))):
        out.print(words, soft_wrap=True, markup=False)
    definitions.show(out, (row for row in rows if row.value is not None), explain=explain)
    if store is not None:
        out.print(f"stored in {store}", soft_wrap=True, markup=False)


def _figures(title: str, rows: Iterable[Row]) -> FoldingTable:
    table = FoldingTable(title=title)
    for heading in ("metric", "compiled", "note"):
        table.add_column(heading)
    for row in rows:
        value = "-" if row.value is None else quantity.quantity(row.value, row.unit)
        table.add_row(row.metric, value, row.reason or "")
    return table


def _phases(compiled: dict[str, Any]) -> FoldingTable:
    table = FoldingTable(title="parts of each phase, one run")
    for heading in (
        "phase",
        "memory a device",
        "dense",
        "bound by",
        "attention, added",
        "collectives, added",
        "cycles",
    ):
        table.add_column(heading)
    for name, phase in compiled["phases"].items():
        memory = _memory(phase["bytes_a_device"])
        if not phase["fits"]:
            available = _memory(phase["available_bytes"])
            table.add_row(name, f"{memory} of {available}", *["-"] * 5)
            continue
        times = (phase["dense_s"], phase["attention_s"], phase["collectives_s"])
        dense, attention, collectives = (quantity.quantity(each, "s") for each in times)
        table.add_row(
            name, memory, dense, phase["bound"], attention, collectives, f"{phase['cycles']:.4g}"
        )
    return table


def _memory(size: float) -> str:
    """Bytes in GiB to two digits, where verdicts are close; smaller programs in their own unit."""
    return f"{size / _GIB:.2f} GiB" if size >= _GIB else quantity.quantity(size, "byte")


def _notes(compiled: dict[str, Any]) -> list[str]:
    libtpu = compiled["versions"]["libtpu"]
    notes = [
        f"The estimate of the TPU compiler (libtpu {libtpu}) at"
        f" {compiled['clock_hz'] / 1e9:.2f} GHz; nothing was run."
    ]
    if any(phase["attention"]["calls"] for phase in compiled["phases"].values()):
        notes.append(f"Layers compiled: {compiled['layers']}. Attention: {compiled['attention']}.")
    for name, phase in compiled["phases"].items():
        if phase["fits"]:
            uncovered = ", ".join(f"{n} {what}" for what, n in sorted(phase["uncovered"].items()))
            calls = sum(phase["custom_calls"].values())
            notes.append(
                f"{name}: {phase['attention']['calls']} attentions added, {calls} custom calls;"
                f" without cycles: {uncovered or 'nothing'}"
            )
    return notes

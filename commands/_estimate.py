"""The two ways to an estimate behind ``tpubench estimate``: closed forms, or the TPU compiler.

Neither stores anything unless a store is named: an estimate is not the latest thing measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What both methods take, as typed."""

    workload: str
    preset: str | None
    devices: list[str]
    chips: int | None
    settings: list[str]
    price: str | None
    usd_per_chip_hour: float | None
    prices: list[Path]
    store: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling:
    """What only the compiler takes."""

    topology: str | None
    full: bool
    python: Path | None
    timeout_s: float


def run(method: str, asked: Asked, compiling: Compiling, *, as_json: bool, explain: bool) -> bool:
    """Estimate, store and print every case; False when one does not fit the device's memory."""
    if method == "roofline":
        return _roofline(asked, compiling, as_json=as_json, explain=explain)
    if method == "compile":
        return _compile(asked, compiling, as_json=as_json, explain=explain)
    raise UsageError(f"unknown method {method[:40]!r}; known: roofline, compile")


def _roofline(asked: Asked, compiling: Compiling, *, as_json: bool, explain: bool) -> bool:
    from tpubench.costs.price_files import all_prices, chosen_price
    from tpubench.estimates.modelled import examine
    from tpubench.estimates.request import parse
    from tpubench.reports.terminal import estimate as terminal_estimate
    from tpubench.results.row import Row
    from tpubench.results.store import prepare, write

    for option, given in (
        ("--topology", compiling.topology),
        ("--full", compiling.full),
        ("--python", compiling.python),
    ):
        if given:
            raise UsageError(f"{option} belongs to --method compile")
    if asked.preset is None:
        raise UsageError("give --preset: a model, or a size such as 13b or 80b-a3b")
    requests = [
        parse(
            workload=asked.workload,
            preset=asked.preset,
            device=device,
            chips=asked.chips,
            settings=asked.settings,
            price=chosen_price(asked.price, asked.usd_per_chip_hour, asked.prices),
            table=all_prices(asked.prices),
        )
        for device in asked.devices
    ]
    rows: list[Row] = []
    notes: list[str] = []
    for request in requests:
        found = examine(request)
        if asked.store is not None and found.rows:
            prepare(asked.store)
            name = f"{request.workload}-roofline-{request.device}-000"
            write(asked.store, name, list(found.rows))
        rows += found.rows
        notes += [note for note in found.notes if note not in notes]
    terminal_estimate.show(rows, notes, asked.store, as_json=as_json, explain=explain)
    return all(row.status == "ok" for row in rows)


def _compile(asked: Asked, compiling: Compiling, *, as_json: bool, explain: bool) -> bool:
    from tpubench.costs.price_files import all_prices, chosen_price
    from tpubench.estimates.compiled import estimate
    from tpubench.estimates.compiled.request import parse
    from tpubench.reports.terminal import compiled as terminal_compiled
    from tpubench.results.row import Row
    from tpubench.results.store import prepare, write

    requests = [
        request
        for device in asked.devices
        for request in parse(
            workload=asked.workload,
            device=device,
            preset=asked.preset,
            settings=asked.settings,
            chips=1 if asked.chips is None else asked.chips,
            topology=compiling.topology,
            full=compiling.full,
            python=compiling.python,
            timeout_s=compiling.timeout_s,
            price=chosen_price(asked.price, asked.usd_per_chip_hour, asked.prices),
            table=all_prices(asked.prices),
        )
    ]
    if asked.store is not None:
        prepare(asked.store)
    rows: list[Row] = []
    for request in requests:
        found = estimate(request)
        if asked.store is not None:
            write(asked.store, request.case.key, found)
        rows += found
    terminal_compiled.show(rows, asked.store, as_json=as_json, explain=explain)
    return all(row.status == "ok" for row in rows)

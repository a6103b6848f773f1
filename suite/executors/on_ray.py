"""The cells of a sweep as tasks of a Ray cluster, each on a node that has what it wants.

Nodes need this package and the store under the same name: a shared folder, or object storage. A
task whose node dies is given to another one, where only the repetitions that are missing are run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, interruption
from tpubench.results.sweep_report import CellReport, SweepReport, Watch
from tpubench.suite.executors.jobs import Group
from tpubench.suite.sweep_spec import Sweep

INSTALL = "pip install 'tpubench[ray]'"
RETRIES = 5
"""How often a cell is given to another node when its own dies."""
_CHILD = (
    "from tpubench.suite.lifeline import die_with_parent; die_with_parent();"
    " from tpubench.cli import main; main()"
)
_EPSILON = 0.001
"""Of a resource that only says which nodes will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What a node is told. text: of the file of the sweep; None for one that ships with us."""

    spec: str
    text: str | None
    store: str
    device: str | None


def execute(
    sweep: Sweep,
    entries: Sequence[CellReport],
    groups: Sequence[Group],
    shipped: Shipped,
    watch: Watch,
    address: str | None,
) -> SweepReport:
    """Run what is missing on the nodes of a cluster. address: of its head; None for the one that
    this machine is in.

    RunFailedError without Ray or a cluster. Cells that no node has room for stay ``elsewhere``.
    """
    ray = _ray()
    with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a node is gone
        try:
            ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            line = str(error).strip().partition("\n")[0]
            raise RunFailedError(f"no Ray cluster to run on: {line[:200]}") from None
        try:
            return _execute(ray, sweep, entries, groups, shipped, watch)
        finally:
            ray.shutdown()


def _execute(
    ray: Any,
    sweep: Sweep,
    entries: Sequence[CellReport],
    groups: Sequence[Group],
    shipped: Shipped,
    watch: Watch,
) -> SweepReport:
    by_id = {entry.id: entry for entry in entries}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    running: dict[Any, CellReport] = {}
    task = ray.remote(run_cell)
    for group in groups:
        options = wanted(group, nodes)
        lacking = _lacking(options, nodes)
        for cell in group.ids:
            entry = by_id[cell]
            if lacking is not None:
                entry.state, entry.reason = "elsewhere", f"no node of the cluster has {lacking}"
                continue
            call = task.options(**options, max_retries=RETRIES, name=f"tpubench {cell}")
            running[call.remote(cell, shipped)] = entry
    total, number, began = len(running), 0, time.monotonic()
    cut_short = None
    try:
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            entry = running.pop(done)
            number += 1
            _ended(ray, done, entry)
            entry.took_s = time.monotonic() - began
            watch(entry, number, total, None)
    except KeyboardInterrupt as error:
        cut_short = interruption(error)
        for reference, entry in running.items():
            ray.cancel(reference, force=True)
            entry.state = "not begun"
    return SweepReport(
        name=sweep.name, store=Path(shipped.store), entries=entries, cut_short=cut_short
    )


def _ended(ray: Any, reference: Any, entry: CellReport) -> None:
    """Take over what the node said of its cell."""
    try:
        said: Mapping[str, Any] = ray.get(reference)
    except ray.exceptions.RayError as error:
        line = str(error).strip().partition("\n")[0]
        entry.state, entry.reason = "failed", f"{type(error).__name__}: {line[:200]}"
        return
    entry.state, entry.reason = said["state"], said["reason"]
    entry.run_id = said["run_id"]


def wanted(group: Group, nodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Resources that a cell takes, as options of a task.

    A cell without an accelerator takes all cores of a node, so that nothing else is measured.
    """
    options: dict[str, Any] = {"num_cpus": 1}
    resources: dict[str, float] = {}
    if group.kind == "gpu":
        options["num_gpus"] = group.chips
    elif group.kind == "tpu":
        resources["TPU"] = group.chips
    else:
        options["num_cpus"] = max((node.get("CPU", 0.0) for node in nodes), default=1.0)
    if group.names is not None and group.names.ray is not None:
        resources[f"accelerator_type:{group.names.ray}"] = _EPSILON
    return {**options, "resources": resources}


def _lacking(options: Mapping[str, Any], nodes: Sequence[Mapping[str, float]]) -> str | None:
    """What no node has, in words."""
    needs = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0), **options["resources"]}
    if any(all(node.get(name, 0.0) >= n for name, n in needs.items()) for node in nodes):
        return None
    return " and ".join(
        f"{name}" if n == _EPSILON else f"{n:g} {name}" for name, n in needs.items() if n
    )


def run_cell(cell: str, shipped: Shipped) -> dict[str, Any]:
    """On a node: run the cell by a command of its own, and say how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        spec = shipped.spec
        if shipped.text is not None and not Path(spec).is_file():
            spec = str(Path(folder, "sweep.toml"))
            Path(spec).write_text(shipped.text, encoding="utf-8")
        command = [sys.executable, "-P", "-c", _CHILD, "sweep", spec, "--resume", "--json"]
        command += ["--cell", cell, "--store", shipped.store]
        if shipped.device is not None:
            command += ["--device", shipped.device]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ)
        )
    try:
        (said,) = json.loads(done.stdout)["cells"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        why = lines[-1][:300] if lines else f"tpubench ended with {done.returncode}"
        return {"state": "failed", "reason": why, "run_id": None}
    return {name: said[name] for name in ("state", "reason", "run_id")}


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise RunFailedError(f"--executor ray needs Ray: {INSTALL}") from None

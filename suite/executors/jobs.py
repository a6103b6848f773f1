"""The cells that are still to be run, in groups that want the same kind of node."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpubench.devices.clusters import OnClusters, on_clusters
from tpubench.devices.sheets import GOOGLE, devices
from tpubench.results.sweep_report import CellReport
from tpubench.suite.sweep_spec import Cell, Sweep

Kind = Literal["gpu", "tpu", "cpu"]
_KINDS: dict[str, Kind] = {"cuda": "gpu", "xla": "tpu", "tpu": "tpu"}
"""Of backends, where a cell names no device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cells for nodes of one kind. limit_s: the longest that one of them may take."""

    kind: Kind
    device: str | None
    chips: int
    ids: tuple[str, ...]
    limit_s: float

    @property
    def name(self) -> str:
        """``h100-sxm-8``, ``cpu-1``: fit for a file name and for a Kubernetes object."""
        return f"{(self.device or self.kind).partition('-')[2] or self.kind}-{self.chips}"

    @property
    def names(self) -> OnClusters | None:
        """What clusters call its device."""
        return on_clusters().get(self.device or "")


def groups(sweep: Sweep, entries: Sequence[CellReport]) -> list[Group]:
    """Cells that are missing here or belong on another machine, by the node that they want."""
    cells = {cell.id: cell for cell in sweep.cells}
    by_machine: dict[tuple[Kind, str | None, int], list[tuple[Cell, CellReport]]] = {}
    for entry in entries:
        if entry.state in {"missing", "elsewhere"}:
            cell = cells[entry.id]
            key = (_kind(cell), cell.device, cell.chips)
            by_machine.setdefault(key, []).append((cell, entry))
    return [
        Group(
            kind=kind,
            device=device,
            chips=chips,
            ids=tuple(cell.id for cell, _ in members),
            limit_s=max(cell.timeout_s * entry.missing for cell, entry in members),
        )
        for (kind, device, chips), members in by_machine.items()
    ]


def _kind(cell: Cell) -> Kind:
    sheet = devices().get(cell.device or "")
    if sheet is not None:
        return "tpu" if sheet.vendor == GOOGLE else "gpu"
    return _KINDS.get(cell.backend, "cpu")


def command(spec: str, store: str | Path, device: str | None) -> str:
    """A line of a shell that runs the cell in ``$cell``, which may be run again."""
    words = ["tpubench", "sweep", spec, "--resume", "--store", str(store)]
    if device is not None:
        words += ["--device", device]
    return f'{shlex.join(words)} --cell "$cell"'

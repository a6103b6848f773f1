"""A sweep written down: the cells of a buyer's matrix, for ``tpubench sweep SPEC``.

    name = "split"
    repeats = 3

    [[cells]]
    workload = "llama-infer"
    backend = ["cuda", "xla"]
    preset = ["llama-3.1-8b", "llama-3.1-70b"]
    chips = [1, 8]

    [cells.set]
    batch = [1, 8, 64]
    dtype = ["bfloat16", "fp8"]

Every list is crossed with every other of its table. A cell is one command, which may be run again,
and on any machine that sees the store.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tpubench.costs.userfile import Checked, read_toml
from tpubench.devices.names import canonical
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.results.fingerprint import canonical_json
from tpubench.results.object_storage import is_url, located
from tpubench.suite.request import DEFAULT_TIMEOUT_S, Request

Value = int | float | str
Texts = str | Annotated[list[str], Field(min_length=1)]
MOST_CELLS = 10_000
NAMED = Path(__file__).with_name("sweeps")
"""Sweeps that ship with tpubench, one file each."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CellTable(Checked):
    """One ``[[cells]]``: lists are crossed. ``device``: only a machine that has it runs it."""

    workload: Texts
    backend: Texts = "auto"
    preset: Texts | None = None
    chips: int | Annotated[list[int], Field(min_length=1)] = 1
    compile_mode: Texts | None = None
    weights: Texts | None = None
    device: Texts | None = None
    python: str | None = None
    repeats: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    usd_per_chip_hour: float | None = Field(default=None, gt=0)
    settings: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(
        default_factory=dict, alias="set"
    )


class SweepFile(Checked):
    """The whole file."""

    name: str
    store: str | None = None
    repeats: int = Field(default=3, ge=1)
    timeout: float = Field(default=DEFAULT_TIMEOUT_S, gt=0)
    cells: Annotated[list[CellTable], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One entry of the matrix. ``repeats``: repetitions that must be ok for it to be done."""

    workload: str
    backend: str
    preset: str | None
    chips: int
    compile_mode: str | None
    weights: Path | None
    device: str | None
    python: str | None
    repeats: int
    timeout_s: float
    usd_per_chip_hour: float | None
    settings: Mapping[str, str]

    @property
    def id(self) -> str:
        """Ten hex digits that follow from what is run, wherever the cell stands in its file."""
        what = [
            self.workload, self.backend, self.preset, self.chips, self.compile_mode,
            None if self.weights is None else self.weights.name, self.device,
            dict(sorted(self.settings.items())),
        ]  # fmt: skip
        return hashlib.sha256(canonical_json(what).encode()).hexdigest()[:10]

    def label(self) -> str:
        """``llama-infer llama-3.1-8b batch=8 on 8 chips of cuda (blocks)``."""
        model = self.preset or (self.weights.name if self.weights else "")
        chips = f"{self.chips} chips of " if self.chips > 1 else ""
        where = f"on {chips}{self.backend}" + (f", {self.device}" if self.device else "")
        mode = f"({self.compile_mode})" if self.compile_mode else ""
        settings = " ".join(f"{key}={value}" for key, value in self.settings.items())
        return " ".join(filter(None, (self.workload, model, settings, where, mode)))

    def request(self, repeats: int) -> Request:
        """What ``tpubench run`` would be asked for so many repetitions of it."""
        from tpubench.devices import prices

        price = self.usd_per_chip_hour
        return Request(
            workload=self.workload,
            backend=self.backend,
            preset=self.preset,
            overrides={key: [value] for key, value in self.settings.items()},
            repeats=repeats,
            weights=self.weights,
            python=self.python,
            compile_mode=self.compile_mode,
            timeout_s=self.timeout_s,
            chips=self.chips,
            price=None if price is None else prices.given(price),
        )

    def command(self, store: Path) -> str:
        """The same as a line of a shell."""
        words = ["tpubench", "run", "--workload", self.workload, "--backend", self.backend]
        for option, value in (
            ("--preset", self.preset),
            ("--weights", self.weights),
            ("--compile-mode", self.compile_mode),
            ("--python", self.python),
            ("--usd-per-chip-hour", self.usd_per_chip_hour),
        ):
            if value is not None:
                words += [option, str(value)]
        if self.chips > 1:
            words += ["--chips", str(self.chips)]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        words += ["--repeats", str(self.repeats), "--timeout", f"{self.timeout_s:g}"]
        return shlex.join([*words, "--store", str(store)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Cells in the order of their file, each once."""

    name: str
    store: Path | None
    cells: tuple[Cell, ...]


def on_device(sweep: Sweep, name: str | None) -> Sweep:
    """The same cells for a device, those that name none; UsageError for no device."""
    if name is None:
        return sweep
    device = _device("--device", name)
    cells = [replace(cell, device=cell.device or device) for cell in sweep.cells]
    return replace(sweep, cells=tuple(cells))


def named() -> list[str]:
    """Sweeps that ship with tpubench."""
    return sorted(path.stem for path in NAMED.glob("*.toml"))


def read(spec: str) -> Sweep:
    """The sweep in a file, or the one of that name that ships with tpubench.

    UsageError with file, key and reason for one that makes no sense.
    """
    path, here = Path(spec).expanduser(), Path.cwd()
    if spec in named():
        path = NAMED / f"{spec}.toml"
    elif path.suffix != ".toml" and not path.exists():
        raise UsageError(f"{spec!r} is no sweep: give a TOML file, or one of {', '.join(named())}")
    else:
        here = path.absolute().parent
    file = read_toml(path, SweepFile)
    if not _NAME.fullmatch(file.name):
        raise UsageError(
            f"{path}: name: {file.name[:70]!r} will not do: letters, digits, . _ - and at most 64"
        )
    cells: dict[str, Cell] = {}
    for number, table in enumerate(file.cells):
        if table.preset is not None and table.weights is not None:
            raise UsageError(f"{path}: cells[{number}]: preset and weights exclude each other")
        for cell in _crossed(path, number, table, file, here):
            cells.setdefault(cell.id, cell)
            if len(cells) > MOST_CELLS:
                raise UsageError(f"{path}: more than {MOST_CELLS} cells")
    store = None if file.store is None else _store(file.store, here)
    return Sweep(name=file.name, store=store, cells=tuple(cells.values()))


def _crossed(path: Path, number: int, table: CellTable, file: SweepFile, here: Path) -> list[Cell]:
    where = f"{path}: cells[{number}]"
    axes: dict[str, list[Any]] = {
        name: _several(getattr(table, name))
        for name in (
            "workload", "backend", "preset", "chips", "compile_mode", "weights", "device",
        )
    }  # fmt: skip
    for name, values in axes.items():
        if any(isinstance(value, str) and not value.strip() for value in values):
            raise UsageError(f"{where}.{name} is empty: give it a value, or leave it out")
    if any(count < 1 for count in axes["chips"]):
        raise UsageError(f"{where}.chips: {min(axes['chips'])} is below 1")
    axes["device"] = [None if d is None else _device(f"{where}.device", d) for d in axes["device"]]
    weights = [None if w is None else here / Path(w).expanduser() for w in axes["weights"]]
    settings = {key: [str(v) for v in _several(value)] for key, value in table.settings.items()}
    return [
        Cell(
            **dict(zip(axes, [*chosen[:5], chosen[5], chosen[6]], strict=True)),
            python=table.python,
            repeats=table.repeats or file.repeats,
            timeout_s=table.timeout or file.timeout,
            usd_per_chip_hour=table.usd_per_chip_hour,
            settings=dict(zip(settings, values, strict=True)),
        )
        for chosen in itertools.product(
            *(axes[name] for name in list(axes)[:5]), weights, axes["device"]
        )
        for values in itertools.product(*settings.values())
    ]


def _store(text: str, here: Path) -> Path:
    return located(text) if is_url(text) else here / Path(text).expanduser()


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _device(where: str, name: str) -> str:
    device = canonical(name) or name
    if device not in devices():
        raise UsageError(f"{where}: {name!r} is no device: tpubench list devices names them")
    return device

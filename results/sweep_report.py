"""A sweep as it stands: plain values for whoever shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpubench.errors import RunFailedError

State = Literal["done", "missing", "ran", "failed", "refused", "elsewhere", "not begun"]
Basis = Literal["its own", "cells like it", "at least"]
"""Where an expected time comes from: repetitions of the cell itself, of others with its workload,
preset and backend, or the shortest that a repetition can be."""


@dataclass(slots=True, kw_only=True)
class CellReport:
    """A cell and what is known of it. ``missing``: repetitions that are still to be run.

    command: what runs it, as a line of a shell. expected_s: of the missing repetitions.
    needed_bytes: least memory on each chip. usd_per_chip_hour: price of the cell; at_list_price:
    nobody gave it, it is the list price of its device.
    """

    id: str
    label: str
    command: str
    chips: int
    usd_per_chip_hour: float | None
    state: State
    missing: int
    at_list_price: bool = False
    reason: str | None = None
    expected_s: float | None = None
    basis: Basis | None = None
    needed_bytes: int | None = None
    run_id: str | None = None
    took_s: float | None = None

    @property
    def to_run(self) -> bool:
        """Whether it would be run, here or on another machine."""
        return self.state in {"missing", "elsewhere"}

    @property
    def usd(self) -> float | None:
        """What the missing repetitions will cost; None without a price, or with none to run."""
        price = self.usd_per_chip_hour
        if price is None or self.expected_s is None or not self.to_run:
            return None
        return price * self.chips * self.expected_s / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """Entries in the order of their file. ``cut_short``: why it ended before its last cell."""

    name: str
    store: Path
    entries: Sequence[CellReport]
    cut_short: str | None = None

    @property
    def exit_code(self) -> int:
        bad = any(entry.state in {"failed", "refused"} for entry in self.entries)
        return RunFailedError.exit_code if bad or self.cut_short else 0


Watch = Callable[[CellReport, int, int, float | None], None]
"""Called when a cell begins and when it has ended: entry, its number from 1, how many there are,
and the seconds left by what is expected of the rest."""

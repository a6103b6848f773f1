"""What a run says while it goes and at its end: plain values for whoever shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpubench.results.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A case of a round started, entered a phase, or ended. Sent only while no window is open."""

    kind: Literal["start", "phase", "end"]
    case: str
    repetition: int
    done: int
    total: int
    phase: str | None = None
    expected_s: float | None = None
    left_s: float | None = None
    """Seconds until the run ends, going by the cases so far; None before the first has ended."""
    status: str | None = None
    reason: str | None = None
    log: str | None = None
    """End of what the child printed; shown when it failed, never stored."""


Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Tokens that a prompt led to; ``text`` is None without a tokenizer."""

    ids: list[int]
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A finished run: its facts, and what was decided on the user's behalf."""

    run_id: str
    store: Path
    rows: list[Row]
    notes: list[str]
    failed: int
    generated: Generated | None = None
    store_s: float = 0.0
    """What turning outcomes into rows and storing them took."""
    cut_short: str | None = None
    """Why it stopped before its plan was done; None when it did not."""
    missed: str | None = None
    """That what was asked for is not so (no rate keeps the service level); None when it is."""

    @property
    def exit_code(self) -> int:
        return 5 if self.failed or self.cut_short else 0

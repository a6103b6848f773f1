"""What a section of the page consists of. Plain text only: the template alone writes HTML.

A section module cannot inject anything, because it has no way to hand over markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tpubench.reports.figure import Chart

Tone = Literal["info", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A table cell or card label that stands out: the evidence of a number, a status."""

    text: str
    tone: str
    """measured, published, compiled, modelled, or a :data:`Tone`."""


Cell = str | Badge


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something to know, with the command that would change it."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = "info"
    items: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph, or a list in large type."""

    kind: ClassVar[str] = "text"
    text: str = ""
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Heading of a table column; numbers are set to the right."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells. A row of one cell is a heading across the table."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    foot: str = ""
    folded: str = ""
    """When set, the table is folded under this line until the reader opens it."""
    stacks: bool = False
    """Long texts: on a narrow screen each row becomes a list of its cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One key figure in large type."""

    label: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The key figures of one program on one device."""

    kind: ClassVar[str] = "cards"
    title: str
    evidence: Badge
    subtitle: str
    cards: tuple[Card, ...]
    foot: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart with what the reader should look at in it."""

    kind: ClassVar[str] = "drawing"
    chart: Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One figure; ``exact`` is its value in the metric's own unit."""

    work: str
    model: str
    device: str
    chips: str
    precision: str
    case: str
    metric: str
    value: str
    exact: float | None
    interval: str
    count: str
    evidence: Badge
    price: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureTable:
    """Every figure in one table, to be sorted, filtered and saved."""

    kind: ClassVar[str] = "figures"
    summary: str
    open: bool
    rows: tuple[FigureRow, ...]


Block = Note | Text | Table | Cards | Drawing | FigureTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page. ``lead`` says in plain words what it answers."""

    title: str
    lead: str
    blocks: tuple[Block, ...] = field(default=())

    def charts(self) -> list[Chart]:
        """The charts in it, in order."""
        return [block.chart for block in self.blocks if isinstance(block, Drawing)]


def columns(*names: str) -> tuple[Column, ...]:
    """Columns from their headings; a heading that ends in ``#`` is numeric."""
    return tuple(Column(name=name.rstrip("#"), numeric=name.endswith("#")) for name in names)

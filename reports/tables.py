"""Tables of a terminal in which nothing is cut off: what is too wide goes on in the next line."""

from __future__ import annotations

from typing import Any

from rich.console import OverflowMethod, RenderableType
from rich.table import Table as RichTable


class FoldingTable(RichTable):
    """A table whose columns fold; rich's own would end a long word in an ellipsis, and so cut the
    digits off a number.
    """

    def add_column(
        self,
        header: RenderableType = "",
        footer: RenderableType = "",
        *,
        overflow: OverflowMethod = "fold",
        **settings: Any,
    ) -> None:
        """As rich's, with another default."""
        super().add_column(header, footer, overflow=overflow, **settings)

"""Lines of the tables of defects: each check's error as a multiple of what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from tpubench.suite.parity import Parity


def header(columns: Sequence[str]) -> str:
    return f"| | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}"


def row(columns: Sequence[str], name: str, checks: Sequence[Parity]) -> str:
    """One line of a table: a check that catches is bold."""
    shares = {check.name: check.share for check in checks}
    return f"| {name} | {' | '.join(_cell(shares[column]) for column in columns)} |"


def _cell(share: float) -> str:
    text = f"{share:.2g}" if share < 10 else f"{share:.0f}" if share < 1000 else "> 1000"
    return f"**{text}**" if share > 1 else text

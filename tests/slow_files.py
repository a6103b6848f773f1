"""Writes slow_files.txt: the test files that ``make check`` leaves to ``make test``.

    make test WORKERS="-n 2 --junitxml=times.xml"; python tests/slow_files.py times.xml

The quickest files are kept, as many as fit into ``BUDGET_S`` of one processor.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from junitparser import JUnitXml, TestCase

BUDGET_S = 60.0
HERE = Path(__file__).parent


def slow(report: Path, budget_s: float = BUDGET_S) -> list[str]:
    """Files by their path in ``tests/``, of a report of all of them."""
    spent: Counter[str] = Counter()
    for suite in JUnitXml.fromfile(str(report)):
        for case in suite:
            if isinstance(case, TestCase):
                spent[_file(case.classname or "")] += case.time or 0.0
    left, out = budget_s, []
    for name, seconds in sorted(spent.items(), key=lambda entry: entry[1]):
        left -= seconds
        if left < 0:
            out.append(name)
    return sorted(out)


def _file(dotted: str) -> str:
    parts = dotted.split(".")
    while parts and not (path := HERE.joinpath(*parts[1:]).with_suffix(".py")).is_file():
        parts.pop()
    return str(path.relative_to(HERE)) if parts else dotted


if __name__ == "__main__":
    text = "\n".join(slow(Path(sys.argv[1])))
    (HERE / "slow_files.txt").write_text(text + "\n", encoding="utf-8")

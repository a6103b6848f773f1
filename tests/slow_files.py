"""Where the time of the tests goes, by a report of a whole run.

    make test WORKERS="-n 2 --dist worksteal --junitxml=times.xml"
    python tests/slow_files.py times.xml

writes the table by rooms into CONTRIBUTING.md, and slow_files.txt: the test files that ``make
check`` leaves to ``make test``. The quickest are kept, as many as fit into ``BUDGET_S`` of one
processor.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from junitparser import JUnitXml, TestCase

BUDGET_S = 60.0
HERE = Path(__file__).parent
BEGINS, ENDS = "<!-- times: tests/slow_files.py -->", "<!-- end of times -->"


def cases(report: Path) -> list[tuple[str, float]]:
    """The file of each test, by its path in ``tests/``, and its seconds."""
    return [
        (_file(case.classname or ""), case.time or 0.0)
        for suite in JUnitXml.fromfile(str(report))
        for case in suite
        if isinstance(case, TestCase)
    ]


def slow(timed: Iterable[tuple[str, float]], budget_s: float = BUDGET_S) -> list[str]:
    """The files that the budget has no room for."""
    spent: Counter[str] = Counter()
    for name, seconds in timed:
        spent[name] += seconds
    left, out = budget_s, []
    for name, seconds in sorted(spent.items(), key=lambda entry: entry[1]):
        left -= seconds
        if left < 0:
            out.append(name)
    return sorted(out)


def table(timed: Iterable[tuple[str, float]]) -> str:
    """Tests and seconds of each room, the longest first, with the files that take the most."""
    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    tests: Counter[str] = Counter()
    for name, seconds in timed:
        room = f"`{name.partition('/')[0]}/`" if "/" in name else "commands"
        rooms[room][name] += seconds
        tests[room] += 1
    lines = ["| room | tests | seconds | most of it |", "|---|---|---|---|"]
    for room, files in sorted(rooms.items(), key=lambda entry: -entry[1].total()):
        most = ", ".join(f"`{Path(name).name}` {s:.0f}" for name, s in files.most_common(3))
        lines.append(f"| {room} | {tests[room]:,} | {files.total():,.0f} | {most} |")
    total = sum(files.total() for files in rooms.values())
    return "\n".join([*lines, f"| all | {tests.total():,} | {total:,.0f} | |"])


def _file(dotted: str) -> str:
    parts = dotted.split(".")
    while parts and not (path := HERE.joinpath(*parts[1:]).with_suffix(".py")).is_file():
        parts.pop()
    return str(path.relative_to(HERE)) if parts else dotted


def main() -> None:
    timed = cases(Path(sys.argv[1]))
    (HERE / "slow_files.txt").write_text("\n".join(slow(timed)) + "\n", encoding="utf-8")
    page = HERE.parent / "CONTRIBUTING.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGINS)
    after = rest.partition(ENDS)[2]
    page.write_text(f"{before}{BEGINS}\n{table(timed)}\n{ENDS}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

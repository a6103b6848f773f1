"""Writes the generated part of the documentation: ``python docs/_make.py``.

A test fails when the files differ from what this writes.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import typer.main
from typer.cli import get_docs_for_click

from tpubench import cli
from tpubench.results.metrics import METRICS
from tpubench.results.row import COLUMNS, arrow_schema

HERE = Path(__file__).parent


def metrics() -> str:
    """``docs/metrics.md``: every metric, from its one definition."""
    lines = [
        "# Metrics",
        "",
        "Generated from `results/metrics.py` by `python docs/_make.py`. *Value* says how the",
        "samples of one repetition become its value; several repetitions are combined by a",
        "geometric mean.",
        "",
        "| name | unit | better | value | definition |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS.values():
        value = metric.aggregate.replace("_", " ")
        lines.append(
            f"| `{metric.name}` | {metric.unit} | {metric.better} | {value} | {metric.formula} |"
        )
    return "\n".join(lines) + "\n"


def columns() -> str:
    """``docs/columns.md``: every column of the stored row."""
    lines = [
        "# The stored row",
        "",
        "Generated from `results/row.py` by `python docs/_make.py`. One row for each run × case ×",
        "repetition × metric, in immutable Parquet files under `<store>/<run_id>/`.",
        "",
        "| column | type | null | meaning |",
        "|---|---|---|---|",
    ]
    for field in arrow_schema():
        null = "yes" if field.nullable else "no"
        lines.append(f"| `{field.name}` | {field.type} | {null} | {COLUMNS[field.name]} |")
    return "\n".join(lines) + "\n"


ROOMS = {
    "commands": "the command line, one file a group",
    "estimates": "figures of a device nobody ran on",
    "workloads": "the standard programs",
    "suite": "processes, clock, parity, backends",
    "reports": "terminal, page, Markdown, pictures",
    "costs": "prices, contracts, the plan and its verdict",
    "results": "rows, store, statistics, gate, importers",
    "devices": "what hardware is, is called and costs",
}
"""The rooms from the top of the house down; devices is the ground."""
WIDTH, ROW, BOX_W, BOX_H = 860, 92, 250, 54


def room_imports() -> set[tuple[str, str]]:
    """Which room imports which, from the imports themselves."""
    edges: set[tuple[str, str]] = set()
    for room in ROOMS:
        for path in (HERE.parent / room).rglob("*.py"):
            targets = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    targets |= {
                        name.split(".")[1] for name in names if name.startswith("tpubench.")
                    }
            edges |= {(room, target) for target in targets & ROOMS.keys() - {room}}
    return edges


def levels(edges: set[tuple[str, str]]) -> dict[str, int]:
    """How far each room stands above the ground: one more than the highest that it imports."""
    below = {room: {to for frm, to in edges if frm == room} for room in ROOMS}
    height: dict[str, int] = {}
    while len(height) < len(ROOMS):
        ready = [room for room in ROOMS if room not in height and below[room] <= height.keys()]
        assert ready, f"rooms that import each other: {sorted(ROOMS.keys() - height.keys())}"
        height |= {room: 1 + max((height[to] for to in below[room]), default=-1) for room in ready}
    return height


def direct(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without the arrows that follow from others: A to C where A reaches C through B."""
    below = {room: {to for frm, to in edges if frm == room} for room in ROOMS}

    def reached(room: str) -> set[str]:
        return below[room] | {far for near in below[room] for far in reached(near)}

    return {
        (frm, to) for frm, to in edges if not any(to in reached(near) for near in below[frm] - {to})
    }


def house() -> str:
    """``docs/house.svg``: the rooms, and which imports which."""
    edges = room_imports()
    height = levels(edges)
    edges = direct(edges)
    top = max(height.values())
    place: dict[str, tuple[float, float]] = {}
    for level in range(top + 1):
        here = [room for room in ROOMS if height[room] == level]
        for index, room in enumerate(here):
            x = WIDTH * (index + 1) / (len(here) + 1) - BOX_W / 2
            place[room] = (
                x + (60 if level % 2 else -60) * (len(here) == 1),
                (top - level) * ROW + 14,
            )
    total = (top + 1) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img"'
        ' font-family="system-ui, sans-serif" aria-label="Which room imports which">',
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#567"/></marker></defs>',
    ]
    for frm, to in sorted(edges):
        (x1, y1), (x2, y2) = place[frm], place[to]
        start, end = (x1 + BOX_W / 2, y1 + BOX_H), (x2 + BOX_W / 2, y2 - 3)
        far = height[frm] - height[to] > 1
        bend = 0 if not far else (-1 if x1 <= x2 else 1) * (BOX_W / 2 + 24)
        middle = (start[0] + end[0]) / 2 + bend, (start[1] + end[1]) / 2
        parts.append(
            f'<path d="M{start[0]:.0f} {start[1]:.0f} Q{middle[0]:.0f} {middle[1]:.0f}'
            f' {end[0]:.0f} {end[1]:.0f}" fill="none" stroke="#567" marker-end="url(#a)"'
            f' stroke-opacity=".55"><title>{frm} imports {to}</title></path>'
        )
    for room, (x, y) in place.items():
        parts += [
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_W}" height="{BOX_H}" rx="6" fill="#eef4fb"'
            ' stroke="#345"/>',
            f'<text x="{x + BOX_W / 2:.0f}" y="{y + 23:.0f}" text-anchor="middle" font-size="16"'
            f' font-weight="600">{room}</text>',
            f'<text x="{x + BOX_W / 2:.0f}" y="{y + 42:.0f}" text-anchor="middle" font-size="11"'
            f' fill="#345">{escape(ROOMS[room])}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


STATIONS = (
    ("cli.py", "words to values"),
    ("suite/request.py", "what is asked"),
    ("suite/run.py", "the plan"),
    ("suite/rounds.py", "a process a round"),
    ("suite/child.py", "build, compile, time, check"),
    ("suite/facts.py", "outcome to rows"),
    ("results/store.py", "immutable Parquet"),
    ("reports/", "table, page, verdict"),
)
"""The way of a measured figure, by the files that it passes."""


def way() -> str:
    """``docs/way.svg``: the way of a figure from the command line to the page."""
    for name, _ in STATIONS:
        assert (HERE.parent / name).exists(), name
    columns, box_w, box_h, gap = 4, 190, 52, 24
    wide = columns * (box_w + gap) + gap
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} 170" role="img"'
        ' font-family="system-ui, sans-serif" aria-label="The way of a measured figure">',
        f'<rect width="{wide}" height="170" fill="#fff"/>',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#567"/></marker></defs>',
    ]
    spots = []
    for number, (name, words) in enumerate(STATIONS):
        row, column = divmod(number, columns)
        column = column if row % 2 == 0 else columns - 1 - column  # to and fro, as one reads a path
        x, y = gap + column * (box_w + gap), 18 + row * (box_h + 30)
        spots.append((x, y, row))
        parts += [
            f'<rect x="{x}" y="{y}" width="{box_w}" height="{box_h}" rx="6" fill="#eef4fb"'
            ' stroke="#345"/>',
            f'<text x="{x + box_w / 2:.0f}" y="{y + 22}" text-anchor="middle" font-size="14"'
            f' font-weight="600">{name}</text>',
            f'<text x="{x + box_w / 2:.0f}" y="{y + 40}" text-anchor="middle" font-size="11"'
            f' fill="#345">{escape(words)}</text>',
        ]
    for (x1, y1, row1), (x2, y2, row2) in pairwise(spots):
        if row1 != row2:
            line = (x1 + box_w / 2, y1 + box_h, x2 + box_w / 2, y2 - 2)
        elif x2 > x1:
            line = (x1 + box_w, y1 + box_h / 2, x2 - 2, y2 + box_h / 2)
        else:
            line = (x1, y1 + box_h / 2, x2 + box_w + 2, y2 + box_h / 2)
        parts.append(
            '<line x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}" stroke="#567"'
            ' marker-end="url(#a)"/>'.format(*line)
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def command_line() -> str:
    """``docs/cli.md``: every command with its arguments and options, as Typer documents them."""
    group = typer.main.get_command(cli.app)
    context = group.make_context("tpubench", [], resilient_parsing=True)
    # Whoever printed --help before has escaped the brackets in it.
    text = get_docs_for_click(obj=group, ctx=context, name="tpubench").replace("\\[", "[")
    lines = []
    inside = [group]
    for line in text.splitlines():
        if line.startswith("#"):
            names = line.strip("# `").split()[1:]
            inside = [group]
            for name in names:
                inside.append(inside[-1].commands[name])
        listed = re.fullmatch(r"\* `([a-z-]+)`: .*\.\.\.", line)
        if listed:  # cut for a terminal; a page has room
            whole = inside[-1].commands[listed[1]].help.split("\n\n")[0]
            line = f"* `{listed[1]}`: {' '.join(whole.split())}"
        lines.append(line.rstrip())
    title = [
        "# The command line",
        "",
        "Generated from the commands by `python docs/_make.py`; `--help` of each says the same.",
        "With `--json` one JSON document stands on stdout, and nothing else.",
        "",
        "Exit codes: 0 done, or yes · 1 the answer is no · 2 wrong usage or input ·",
        "3 inconclusive · 4 not comparable · 5 a run failed, or what it needs is missing.",
        "",
    ]
    return "\n".join([*title, *lines[2:]]).rstrip() + "\n"


PAGES = {
    "metrics.md": metrics,
    "cli.md": command_line,
    "columns.md": columns,
    "house.svg": house,
    "way.svg": way,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")

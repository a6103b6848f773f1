"""What a project's tree says of itself, by its own files: its name and what it offers tpubench."""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GROUPS = ("tpubench.workloads", "tpubench.backends")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project as its metadata would be; ``name`` None where only running its setup would tell."""

    name: str | None = None
    version: str = "0"
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By group, then name: what it offers tpubench; empty where it offers nothing."""


def read(tree: Path) -> Project:
    """The project of ``tree``: pyproject.toml (PEP 621, or Poetry's table), else setup.cfg."""
    table = _toml(tree / "pyproject.toml")
    old = _setup_cfg(tree / "setup.cfg")
    stated, poetry = _table(table, "project"), _table(table, "tool", "poetry")
    return Project(
        name=_text(stated, "name") or _text(poetry, "name") or old.name,
        version=_text(stated, "version") or _text(poetry, "version") or old.version,
        entry_points=(
            _groups(_table(stated, "entry-points"))
            or _groups(_table(poetry, "plugins"))
            or old.entry_points
        ),
    )


def _setup_cfg(path: Path) -> Project:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return Project()
    groups = {}
    if parser.has_section("options.entry_points"):
        for group, lines in parser["options.entry_points"].items():
            pairs = [line.partition("=") for line in lines.splitlines() if "=" in line]
            groups[group] = {name.strip(): value.strip() for name, _, value in pairs}
    return Project(
        name=parser.get("metadata", "name", fallback=None),
        version=parser.get("metadata", "version", fallback="0"),
        entry_points=_groups(groups),
    )


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}  # who builds the project complains


def _groups(table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    groups = {}
    for group in GROUPS:
        entries = table.get(group)
        if isinstance(entries, Mapping) and entries:
            groups[group] = {str(name): str(value) for name, value in entries.items()}
    return groups


def _table(table: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inner = table.get(key)
        if not isinstance(inner, Mapping):
            return {}
        table = inner
    return table


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    return value if isinstance(value, str) and value else None

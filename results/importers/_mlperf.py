"""What MLPerf's inference and training submissions have in common: a tree, and system files.

``<division>/<submitter>/results/<system>/<benchmark>/…`` holds the logs (training has no division
folder), ``<division>/<submitter>/systems/<system>.json`` says what the system is. A log is read
also without its tree; then less is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, one_line, read_json
from tpubench.results.importers._names import device_in

CPU = "cpu"
"""Device of a system without accelerators: its processors do the work and are counted."""
_NONE = {"", "-", "--", "n/a", "na", "none", "null", "no", "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a submission says of its machines. Chips are accelerators as MLPerf counts them."""

    name: str | None = None
    device: str | None = None
    chips: int | None = None
    hosts: int | None = None
    software: str | None = None
    submitter: str | None = None
    division: str | None = None
    availability: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a log stands in its tree: parts of the path after ``results``, and the tree's root."""

    top: Path
    system: str
    rest: tuple[str, ...]


def place(log: Path) -> LogPlace | None:
    """The place of a log by the last ``results`` folder above it; None outside of a tree."""
    parts = log.absolute().parts
    for index in range(len(parts) - 3, 0, -1):
        if parts[index] == "results":
            return LogPlace(
                top=Path(*parts[:index]), system=parts[index + 1], rest=parts[index + 2 :]
            )
    return None


def system_of(place: LogPlace | None) -> System:
    """The system of a log, from its file; only its name where there is none."""
    if place is None:
        return System()
    path = place.top / "systems" / f"{place.system}.json"
    if not path.is_file() or path.is_symlink():
        return System(name=place.system, device=device_in(place.system), submitter=place.top.name)
    return read_system(path)


def read_system(path: Path) -> System:
    """One ``systems/*.json``. UsageError when a count is no number."""
    root = read_json(path)
    if not isinstance(root.value, dict):
        raise root.error("is not a description of a system")
    nodes = _count(root["number_of_nodes"])
    each = _count(root["accelerators_per_node"])
    device = accelerator(root["accelerator_model_name"])
    if device is None and not each:
        device, each = CPU, _count(root["host_processors_per_node"])
    return System(
        name=path.stem,
        device=device,
        chips=nodes * each if nodes and each else None,
        hosts=nodes,
        software=_software(root),
        submitter=root["submitter"].text(),
        division=root["division"].text(),
        availability=root["status"].text(),
    )


def accelerator(node: Node) -> str | None:
    """Name of an accelerator; None for the words that submissions write where there is none.

    v6.0's summary writes how many there are behind the name, ``NVIDIA GB200 (x72)``; two kinds of
    accelerator in one system stay two, and so no known device.
    """
    name = node.text() if isinstance(node.value, str) else None
    if name is None or name.lower() in _NONE:
        return None
    several = re.fullmatch(r"([^()]+?)\s*\(x ?\d+\)", name)
    return several[1] if several else name


def _count(node: Node) -> int | None:
    """A count; submissions write 8, "8", "" and "N/A"."""
    try:
        return node.count()
    except UsageError:
        if isinstance(node.value, str):
            return None
        raise


def _software(root: Node) -> str | None:
    stack = root["other_software_stack"].value
    framework = root["framework"].value
    words = [framework] if isinstance(framework, str) and framework else []
    if isinstance(stack, dict):
        words += [f"{name} {version}" for name, version in stack.items()]
    elif isinstance(stack, list):
        words += [
            f"{name} {version}"
            for part in stack
            if isinstance(part, dict)
            for name, version in part.items()
        ]
    elif isinstance(stack, str) and stack and stack not in words:
        words.append(stack)
    return one_line(", ".join(words)) or None


def round_of(path: Path) -> str | None:
    """The round, if a folder above is named for it (``…_v5.1``)."""
    for part in reversed(path.absolute().parts):
        # A download of the repository adds its branch: …_v5.1-main.
        match = re.search(r"_v(\d+\.\d+)(?![\d.])", part)
        if match:
            return f"v{match[1]}"
    return None


def source(place: LogPlace) -> str:
    """Where a log stands, from the division or round downwards."""
    return "/".join((*place.top.parts[-2:], "results", place.system, *place.rest))

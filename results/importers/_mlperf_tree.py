"""A tree of MLPerf Inference submissions: which of its logs are results, and in what precision.

Beside the performance runs that are scored, a submission holds accuracy runs, compliance runs
(``TEST01``, ``TEST04``, ``TEST06`` …) and, with a power measurement, ranging runs, all with a log
of the same name. Up to v5.1 compliance runs stand in ``compliance/`` and precisions in
``measurements/<system>/<benchmark>/<scenario>/*.json``; from v6.0 both stand under ``results/``,
precisions in ``measurements.json``. (mlcommons/inference, tools/submission/submission_checker/
constants.py, read 2026-11-28.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, one_line, read_json
from tpubench.results.importers._mlperf import LogPlace
from tpubench.results.importers._names import precision_in

_TEST = re.compile(r"TEST\d{2}", re.I)
_MOST_NOTES = 20
"""JSON files beside a measurement that are looked at; submissions have one to three."""


def no_result(log: Path, root: Path | None = None) -> str | None:
    """Why a log is none of a scored performance run, by where it stands; None if it is one.

    ``root`` is the folder that was asked for: above it, and above a submission's ``results`` or
    ``compliance``, folders may be called anything.
    """
    folders = log.absolute().parts[:-1]
    known = [i for i, part in enumerate(folders) if part.lower() in {"results", "compliance"}]
    if known:
        below = folders[known[-1] :]
    elif root is not None:
        below = log.absolute().relative_to(root.absolute()).parts[:-1]
    else:
        below = folders[-4:]
    test = next((part for part in below if _TEST.fullmatch(part)), None)
    if test is not None:
        return f"a compliance run ({test.upper()}), not the result"
    words = {part.lower() for part in below}
    if "compliance" in words:
        return "a compliance run, not the result"
    if "accuracy" in words:
        return "an accuracy run, not the performance run"
    if "ranging" in words:
        return "the ranging run before a power measurement, not the result"
    return None


def outside_of_results(log: Path, root: Path) -> bool:
    """Whether a log below ``root`` stands in no ``results`` folder: a tool's or a trial's log."""
    return "results" not in log.absolute().parts[len(root.absolute().parts) - 1 :]


def precision(log: Path, place: LogPlace | None) -> tuple[str | None, str | None]:
    """Weights' precision of a log and, if there is none, why; from notes, else from names."""
    if place is None:
        return None, None
    said: dict[str, None] = {}
    for path in _notes(log, place):
        try:
            words = _weights(read_json(path)["weight_data_types"])
        except UsageError as error:
            return None, one_line(error)
        if words is not None:
            said[words] = None
    if len(said) > 1:
        return None, f"the measurements differ: {', '.join(said)}"
    named = (precision_in(name) for name in (*place.rest[:1], place.system))
    return next(iter(said), None) or next((word for word in named if word), None), None


def _notes(log: Path, place: LogPlace) -> Iterator[Path]:
    """Files that may state the precision, the nearest kind alone."""
    for folder in list(log.absolute().parents)[:4]:
        if folder == place.top / "results":
            break
        beside = [folder / "measurements.json", folder / f"{place.system}.json"]
        paths = [path for path in beside if _plain(path)]
        if paths:
            yield from paths
            return
    if not place.rest:
        return
    folder = place.top / "measurements" / place.system / place.rest[0]
    scenario = place.rest[1].lower() if len(place.rest) > 1 else None
    inner = [path for path in _listed(folder) if path.is_dir() and path.name.lower() == scenario]
    for place_of_notes in (*inner, folder):
        paths = [path for path in _listed(place_of_notes) if path.suffix.lower() == ".json"]
        paths = [path for path in paths if _plain(path)]
        if paths:
            yield from islice(paths, _MOST_NOTES)
            return


def _listed(folder: Path) -> list[Path]:
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _weights(node: Node) -> str | None:
    """Precisions as a text, also where they are stated part by part or as a list."""
    if isinstance(node.value, dict):
        return ", ".join(f"{one_line(k)}: {one_line(v)}" for k, v in node.value.items()) or None
    if isinstance(node.value, list):
        return ", ".join(one_line(part) for part in node.value) or None
    return node.text()

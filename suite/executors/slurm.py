"""Scripts of job arrays for Slurm, one for each kind of node: ``sbatch FILE``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from tpubench.suite.executors.jobs import Group, command

MOST_IN_AN_ARRAY = 1000
"""Slurm's MaxArraySize is 1001 unless a site says otherwise."""


def scripts(
    name: str,
    groups: list[Group],
    *,
    spec: str,
    store: Path | str,
    device: str | None,
    at_once: int | None,
) -> Iterator[tuple[str, str]]:
    """File name and text of each script. at_once: cells of an array that run at the same time."""
    for group in groups:
        for start in range(0, len(group.ids), MOST_IN_AN_ARRAY):
            ids = group.ids[start : start + MOST_IN_AN_ARRAY]
            part = f"-{start // MOST_IN_AN_ARRAY + 1}" if start else ""
            lines = [*_head(name, group, len(ids), at_once), *_body(ids, spec, store, device)]
            yield f"{name}-{group.name}{part}.sbatch", "\n".join([*lines, ""])


def _head(name: str, group: Group, count: int, at_once: int | None) -> Iterator[str]:
    minutes = -(-int(group.limit_s + 60) // 60)
    yield "#!/bin/bash"
    yield f"#SBATCH --job-name=tpubench-{name}"
    yield f"#SBATCH --array=0-{count - 1}" + (f"%{at_once}" if at_once else "")
    yield "#SBATCH --nodes=1"
    yield "#SBATCH --ntasks=1"
    if group.kind == "cpu":
        yield "#SBATCH --exclusive"  # what else runs there would be measured too
    else:
        model = f":{group.names.gres}" if group.names else ""
        yield f"#SBATCH --gres={group.kind}{model}:{group.chips}"
    yield f"#SBATCH --time={minutes // 60}:{minutes % 60:02}:00"
    yield "#SBATCH --requeue"
    yield "#SBATCH --output=%x-%A_%a.log"


def _body(ids: tuple[str, ...], spec: str, store: Path | str, device: str | None) -> Iterator[str]:
    yield "set -euo pipefail"
    yield f"cells=({shlex.join(ids)})"
    yield "cell=${cells[$SLURM_ARRAY_TASK_ID]}"
    yield f"exec {command(spec, store, device)}"

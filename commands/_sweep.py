"""What ``tpubench sweep`` does with its options and its file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.errors import UsageError

if TYPE_CHECKING:
    from tpubench.results.sweep_report import CellReport
    from tpubench.suite.sweep_spec import Sweep

EXECUTORS = ("local", "ray", "slurm", "kubernetes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Options that say where cells run."""

    executor: str
    out: Path | None
    at_once: int | None
    image: str | None
    queue: str | None
    claim: str | None
    address: str | None


def sweep(
    spec: str,
    *,
    resume: bool,
    dry_run: bool,
    ids: Sequence[str],
    usd_per_chip_hour: float | None,
    device: str | None,
    cluster: ExecutorOptions,
    store: Path | None,
    as_json: bool,
) -> int:
    """Survey, run and print; the exit code. UsageError before anything runs, where nothing can."""
    from tpubench.reports import progress
    from tpubench.reports.terminal import sweep as terminal_sweep
    from tpubench.results.store import default_store
    from tpubench.results.sweep_report import SweepReport
    from tpubench.suite import processes, sweep, sweep_spec

    _check(cluster)
    if usd_per_chip_hour is not None and not 0 < usd_per_chip_hour < math.inf:
        raise UsageError(f"--usd-per-chip-hour {usd_per_chip_hour:g} is no price")
    wanted = sweep_spec.on_device(sweep_spec.read(spec), device)
    wanted = sweep.chosen(wanted, ids)
    priced = [
        replace(cell, usd_per_chip_hour=cell.usd_per_chip_hour or usd_per_chip_hour)
        for cell in wanted.cells
    ]
    wanted = replace(wanted, cells=tuple(priced))
    where = store or wanted.store or default_store()
    entries = sweep.survey(wanted, where, anew=not resume and cluster.executor == "local")
    if dry_run:
        report = SweepReport(name=wanted.name, store=where, entries=entries)
        terminal_sweep.show(report, as_json=as_json, planned=True)
        return 0
    watch = terminal_sweep.watcher(show=not as_json)
    if cluster.executor in {"slurm", "kubernetes"}:
        return _written(spec, wanted, entries, device, cluster, where, as_json=as_json)
    if cluster.executor == "ray":
        from tpubench.results import object_storage
        from tpubench.suite.executors import jobs, on_ray

        path = None if spec in sweep_spec.named() else Path(spec).expanduser().absolute()
        shipped = on_ray.Shipped(
            spec=str(path or spec),
            text=None if path is None else path.read_text(encoding="utf-8"),
            store=object_storage.name_of(where),
            device=device,
        )
        groups = jobs.groups(wanted, entries)
        report = on_ray.execute(wanted, entries, groups, shipped, watch, cluster.address)
    else:
        processes.adopt_orphans()
        with progress.observer(show=not as_json) as observe:
            report = sweep.execute(wanted, entries, where, observe, watch)
    terminal_sweep.show(report, as_json=as_json, planned=False)
    return report.exit_code


def _check(cluster: ExecutorOptions) -> None:
    if cluster.executor not in EXECUTORS:
        raise UsageError(f"--executor {cluster.executor!r} is none of {', '.join(EXECUTORS)}")
    written = cluster.executor in {"slurm", "kubernetes"}
    if written != (cluster.out is not None):
        raise UsageError(
            f"--executor {cluster.executor} {'needs' if written else 'takes no'} --out FOLDER"
        )
    if cluster.executor == "kubernetes" and cluster.image is None:
        raise UsageError("--executor kubernetes needs --image: docs/clusters.md has a recipe")
    only = {"image": "kubernetes", "queue": "kubernetes", "claim": "kubernetes", "address": "ray"}
    for name, executor in only.items():
        if getattr(cluster, name) is not None and cluster.executor != executor:
            raise UsageError(f"--{name} is for --executor {executor}")
    if cluster.at_once is not None and not written:
        raise UsageError("--at-once is for --executor slurm and kubernetes")


def _written(
    spec: str,
    wanted: Sweep,
    entries: Sequence[CellReport],
    device: str | None,
    cluster: ExecutorOptions,
    store: Path,
    *,
    as_json: bool,
) -> int:
    """Write what a scheduler takes, a file for each kind of node."""
    from tpubench.reports.terminal import sweep as terminal_sweep
    from tpubench.results import object_storage
    from tpubench.suite import sweep_spec
    from tpubench.suite.executors import jobs, kubernetes, slurm

    assert cluster.out is not None
    path = None if spec in sweep_spec.named() else Path(spec).expanduser().absolute()
    groups = jobs.groups(wanted, entries)
    left_out: dict[str, str] = {}
    if cluster.executor == "kubernetes":
        assert cluster.image is not None
        if cluster.claim is None and object_storage.of(store) is None:
            raise UsageError(
                "--executor kubernetes needs --claim NAME, or --store s3://… or gs://…: a pod's own"
                " disk goes with it"
            )
        why = {group: kubernetes.impossible(group) for group in groups}
        left_out = {cell: said for group, said in why.items() if said for cell in group.ids}
        owner = kubernetes.Cluster(
            image=cluster.image,
            queue=cluster.queue,
            claim=cluster.claim,
            at_once=cluster.at_once or 1,
        )
        texts = kubernetes.files(
            wanted.name,
            [group for group in groups if not why[group]],
            owner,
            spec=spec,
            spec_file=path,
            store=kubernetes.STORE_FOLDER if cluster.claim else object_storage.name_of(store),
            device=device,
        )
    else:
        texts = dict(
            slurm.scripts(
                wanted.name,
                groups,
                spec=str(path or spec),
                store=object_storage.name_of(store),
                device=device,
                at_once=cluster.at_once,
            )
        )
    for entry in entries:
        if entry.id in left_out:
            entry.state, entry.reason = "elsewhere", left_out[entry.id]
    grouped = {cell for group in groups for cell in group.ids} - left_out.keys()
    left = [entry for entry in entries if entry.id not in grouped]
    try:
        cluster.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (cluster.out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {cluster.out}: {error.strerror}") from None
    terminal_sweep.show_written([cluster.out / name for name in texts], left, as_json=as_json)
    return 0

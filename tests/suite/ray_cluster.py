"""A sweep on a real Ray cluster of several nodes of this machine, one killed in the middle.

Usage: python ray_cluster.py SPEC STORE. Prints one JSON object. Two nodes have the same
GPU: the one that runs its cell is killed once that has stored a repetition, and the other must run
the rest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from tpubench.results.store import files
from tpubench.suite import sweep, sweep_spec
from tpubench.suite.executors import jobs, on_ray


def main(spec: str, store: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    gpu = {"num_cpus": 1, "num_gpus": 1, "resources": {"accelerator_type:H100": 1}}
    twins: list[Any] = [cluster.add_node(**gpu) for _ in range(2)]
    cluster.add_node(num_cpus=2)
    cluster.add_node(num_cpus=1, resources={"TPU": 4, "accelerator_type:TPU-V6E": 1})
    cluster.wait_for_nodes(timeout=120)
    wanted = sweep_spec.read(spec)
    entries = sweep.survey(wanted, store)
    (group,) = jobs.groups(wanted, entries)
    # The programs are the fake backend's; what they are scheduled by is real.
    kinds = [
        ("gpu", "nvidia-h100-sxm"),
        ("tpu", "tpu-v6e"),
        ("cpu", None),
        ("gpu", "nvidia-b200-sxm"),
    ]
    groups = [
        replace(group, kind=kind, device=device, ids=(cell,))
        for (kind, device), cell in zip(kinds, group.ids, strict=True)
    ]
    killed: dict[str, object] = {}

    def kill() -> None:
        """The node of the cell on a GPU, as soon as that has stored a repetition."""
        (gpu_cell,) = groups[0].ids
        while not killed:
            time.sleep(0.05)
            if any(path.name.startswith("gemm") for path in files(store)):
                ancestors = _ancestors_of_the_process_of(gpu_cell)
                for node in twins:
                    raylet = node.all_processes["raylet"][0].process.pid
                    if raylet in ancestors:
                        before = {str(path): path.read_bytes() for path in files(store)}
                        cluster.remove_node(node, allow_graceful=False)
                        killed.update(node=node.unique_id, before=before)
                        return

    shipped = on_ray.Shipped(spec=spec, text=Path(spec).read_text(), store=str(store), device=None)
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    report = on_ray.execute(wanted, entries, groups, shipped, lambda *said: None, cluster.address)
    thread.join(10)
    before = killed.get("before", {})
    assert isinstance(before, dict)
    print(
        json.dumps(
            {
                "killed": killed.get("node"),
                "stored_before": len(before),
                "lost": [p for p, data in before.items() if Path(p).read_bytes() != data],
                "states": {entry.label: entry.state for entry in report.entries},
                "reasons": [entry.reason for entry in report.entries],
                "left": [e.state for e in sweep.survey(wanted, store) if e.state != "done"],
            }
        )
    )
    cluster.shutdown()


def _ancestors_of_the_process_of(cell: str) -> set[int]:
    """Process ids above the command that runs a cell."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if f"--cell\0{cell}\0".encode() in (entry / "cmdline").read_bytes():
                above: set[int] = set()
                pid = int(entry.name)
                while pid > 1:
                    stat = Path(f"/proc/{pid}/stat").read_text()
                    pid = int(stat.rpartition(")")[2].split()[1])
                    above.add(pid)
                return above
    return set()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(400, exit=True)
    main(sys.argv[1], Path(sys.argv[2]))

"""Faults that an exchange among ranks can have, put into both of two ranks on purpose.

    python benchmarks/collective_defects.py [--ranks 2]

Each rank is a process of its own over gloo, as in a run; the checks are those that rank 0 gives.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from llama_defects import around, means
from parity_table import header, row

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Device, Weights

COLUMNS = ("window", "other values")
OPERATIONS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
KIB = 12  # which three ranks divide too

Defect = Callable[[Any, int], None]
"""Changes a built step of one rank."""


def none(step: Any, rank: int) -> None:
    """The exchange as it is."""


def _rank_left_out(step: Any, rank: int) -> None:
    """The last rank brings nothing."""

    def exchange(plain: Callable[[], None]) -> None:
        if rank == dist.get_world_size() - 1:
            step.x.zero_()
        plain()

    around(step, "_exchange", exchange)


def _element_of_another_rank(step: Any, rank: int) -> None:
    def exchange(plain: Callable[[], None]) -> None:
        plain()
        if rank == dist.get_world_size() - 1:
            step.y[-3] += 1

    around(step, "_exchange", exchange)


def _parts_in_another_order(step: Any, rank: int) -> None:
    """The second half stands first."""

    def exchange(plain: Callable[[], None]) -> None:
        plain()
        step.y.copy_(step.y.roll(len(step.y) // 2))

    around(step, "_exchange", exchange)


def _narrow_on_the_way(step: Any, rank: int) -> None:
    """Sent in half of the bytes: bfloat16 for float32, fp8 for bfloat16."""
    narrow = torch.bfloat16 if step.x.dtype is torch.float32 else torch.float8_e4m3fn

    def exchange(plain: Callable[[], None]) -> None:
        kept = step.x.clone()
        step.x.copy_(kept.to(narrow))
        plain()
        if step.x.data_ptr() != step.y.data_ptr():
            step.x.copy_(kept)

    around(step, "_exchange", exchange)


def _no_exchange(step: Any, rank: int) -> None:
    """Each rank keeps what it has."""

    def exchange(plain: Callable[[], None]) -> None:
        step.y.copy_(step.x.repeat(dist.get_world_size())[: len(step.y)])

    around(step, "_exchange", exchange)


def _nothing_the_second_time(step: Any, rank: int) -> None:
    step.run(lambda *_: None)
    around(step, "_exchange", lambda plain: None)


def _read_too_early(step: Any, rank: int) -> None:
    def run(plain: Callable[[Any], None], mark: Any) -> None:
        plain(mark)
        step.y.fill_(float("nan"))

    around(step, "run", run)


DEFECTS: Mapping[str, Defect] = {
    "a rank left out": _rank_left_out,
    "an element wrong on another rank": _element_of_another_rank,
    "parts in another order": _parts_in_another_order,
    "narrow on the way": _narrow_on_the_way,
    "each keeps its own": _no_exchange,
    "nothing the second time": _nothing_the_second_time,
    "read too early": _read_too_early,
}


def judged(ranks: int, dtype: str = "float32", steps: int = 1) -> dict[str, list[Parity]]:
    """What the checks say of every operation, right and with each defect, by ``label``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": "lo",  # whatever interface carries the host's name
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--folder", folder, "--dtype", dtype]
        command.append(f"--steps={steps}")
        processes = [
            subprocess.Popen([*command, f"--ranks={ranks}", f"--rank={rank}"], env=environment)
            for rank in range(ranks)
        ]
        codes = [process.wait(timeout=300) for process in processes]
        assert codes == [0] * ranks, codes
        document = json.loads((Path(folder) / "checks.json").read_text())
    return {name: [Parity(**check) for check in checks] for name, checks in document.items()}


def label(operation: str, defect: str) -> str:
    return f"{operation}: {defect}"


def _take_part(rank: int, ranks: int, dtype: str, steps: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    workload = registry.workload("collective")
    by_case = {}
    for operation in OPERATIONS:
        settings = {"kib": [str(KIB)], "dtype": [dtype], "steps": [str(steps)]}
        case = workload.on_devices(workload.cases(operation, settings)[0], ranks)
        device = Device(torch_device="cpu", rank=rank, ranks=ranks)
        lent = replace(means(workload, lambda step: None, ReferenceCache(folder)), device=device)
        for name, defect in {"correct": none, **DEFECTS}.items():
            step = workload.build(case, device, Weights())
            checks = workload.checks(case, step, lent)
            defect(step, rank)
            step.run(lambda *_: None)
            by_case[label(operation, name)] = [asdict(check) for check in checks()]
    if rank == 0:
        (folder / "checks.json").write_text(json.dumps(by_case))
    dist.barrier()
    os._exit(0)  # the threads of gloo may abort an orderly exit, after all is done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.rank is not None:
        _take_part(asked.rank, asked.ranks, asked.dtype, asked.steps, asked.folder)
    print(f"\n### `collective`, {asked.ranks} ranks\n\n{header(COLUMNS)}")
    for name, checks in judged(asked.ranks, asked.dtype, asked.steps).items():
        print(row(COLUMNS, name, checks))


if __name__ == "__main__":
    main()

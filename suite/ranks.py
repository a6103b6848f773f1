"""Many processes that run one program together: one for each device, over torch.distributed.

A run on several chips of one machine starts its ranks itself: the child process is rank 0 and
starts the others, in its own process group. Under torchrun (its variables are set) every process
is a rank already, on this machine or another; then this process is one of them and starts none.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpubench.errors import RunFailedError
from tpubench.suite import processes

if TYPE_CHECKING:
    from torch import nn

_LOOPBACK = "127.0.0.1"
_JOIN_TIMEOUT = dt.timedelta(seconds=600)
_LAST_WORDS_S = 5.0
"""How long a rank that lost its peers waits to learn which of them died."""
_store: Any = None
"""Rank 0's meeting point, held as long as the process lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among all that run the program."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    hosts: int = 1


ALONE = World()


def from_environment() -> World:
    """The place that torchrun's variables give this process; alone without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if "RANK" not in os.environ or size == 1:
        return ALONE
    on_this_host = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    return World(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        hosts=math.ceil(size / on_this_host),
    )


class Peers:
    """The ranks that this process, rank 0, started."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._dead: str | None = None
        self._found = threading.Event()

    def watch(self, tell: Callable[[str], None]) -> None:
        """Call ``tell`` with what happened, from a thread, as soon as a rank dies of a fault."""
        for rank, process in enumerate(self._processes, start=1):
            threading.Thread(target=self._wait, args=(rank, process, tell), daemon=True).start()

    def _wait(
        self, rank: int, process: subprocess.Popen[bytes], tell: Callable[[str], None]
    ) -> None:
        code = process.wait()
        if code and not self._found.is_set():
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._dead = f"rank {rank} of {len(self._processes) + 1} died: {how}"
            self._found.set()
            tell(self._dead)

    def last_words(self) -> str | None:
        """What happened to a peer, waiting a moment for it; None when all are well."""
        self._found.wait(_LAST_WORDS_S)
        return self._dead


def start(job: str, size: int) -> Peers:
    """Start ranks 1 … size − 1 of a job on this machine, and make this process rank 0."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    global _store
    _store = TCPStore(
        _LOOPBACK, 0, size, is_master=True, wait_for_workers=False, timeout=_JOIN_TIMEOUT
    )
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(_store.port),
    }
    started = []
    for rank in range(1, size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(
            processes.command(None, "tpubench.suite.child", "-"),
            stdin=subprocess.PIPE,
            env=processes.environment(shared, place),
        )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(job.encode() + b"\n")
        started.append(process)
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    return Peers(started)


def join(world: World, collectives: str, meeting: str, code: str) -> None:
    """Meet the other ranks; ``meeting`` is the same on all, and used once.

    code: what this rank runs, in a word. RunFailedError where another runs something else: each
    machine has an installation of its own.
    """
    import torch.distributed as dist
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    store = _store
    if store is None:
        # torchrun's agent keeps the store; without an agent rank 0 does.
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        started_here = os.environ["MASTER_ADDR"] == _LOOPBACK and world.rank > 0
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            world.size,
            is_master=world.rank == 0 and not agent and not started_here,
            wait_for_workers=False,
            timeout=_JOIN_TIMEOUT,
        )
    place = PrefixStore(meeting, store)
    place.set(f"code/{world.rank}", code)
    others = [rank for rank in range(world.size) if place.get(f"code/{rank}").decode() != code]
    place.set(f"read/{world.rank}", "")
    if others:
        if world.rank == 0:  # which may hold the meeting point: it goes last
            place.wait([f"read/{rank}" for rank in range(world.size)])
        raise RunFailedError(
            f"rank {others[0]} of {world.size} runs other code than rank {world.rank}: install the"
            " same tpubench, torch and workload on every machine"
        )
    dist.init_process_group(
        collectives,
        store=place,
        rank=world.rank,
        world_size=world.size,
        timeout=_JOIN_TIMEOUT,
    )


def gathered(value: float, device: str, size: int) -> list[float]:
    """The value of every rank, by rank; the same list on all."""
    import torch
    import torch.distributed as dist

    held = torch.tensor([value], dtype=torch.float32, device=device)
    parts = [torch.empty_like(held) for _ in range(size)]
    dist.all_gather(parts, held)
    return [float(one.cpu()[0]) for one in parts]


def leave() -> None:
    """Return when every rank is done: one that is gone early takes its last messages along."""
    import torch.distributed as dist

    dist.barrier()


def agreed(value: float, device: str) -> float:
    """Rank 0's value, on every rank: so that all go on, or stop, together."""
    import torch
    import torch.distributed as dist

    held = torch.tensor([value], dtype=torch.float32, device=device)
    dist.broadcast(held, src=0)
    return float(held.cpu()[0])


def fsdp(device: str, size: int, dtype: str) -> Callable[[nn.Module], None]:
    """What spreads a unit's parameters over all ranks: arithmetic in ``dtype``, sums in float32."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (size,))
    policy = MixedPrecisionPolicy(param_dtype=getattr(torch, dtype), reduce_dtype=torch.float32)

    def shard(unit: nn.Module) -> None:
        fully_shard(unit, mesh=mesh, mp_policy=policy)

    return shard

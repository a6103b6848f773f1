"""One rank of a sharded training: ``python train_ranks.py RANK RANKS FOLDER DTYPE [HASTY]``.

HASTY is a rank whose learning rate is a fifth too high.
TRAINED names another workload than llama-pretrain; OPTIONS asks for clipping, a schedule and parts;
FAULT is one of the timed program alone, which its twin does not have: ``silent`` (the last rank's
sequences have no gradient) or ``summed`` (gradients of ranks are summed, not averaged).
Writes the losses of three steps, and the parity checks after them, to ``FOLDER/RANKS-RANK.pt``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from tpubench.suite import registry
from tpubench.suite.parity_means import means_of
from tpubench.suite.workload import Device, Weights
from tpubench.workloads.llama_pretrain.step import TrainStep


def main(rank: int, ranks: int, folder: Path, dtype: str, hasty: int = -1) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{ranks}", rank=rank, world_size=ranks
    )
    mesh = init_device_mesh("cpu", (ranks,))
    policy = MixedPrecisionPolicy(param_dtype=getattr(torch, dtype), reduce_dtype=torch.float32)

    def shard(unit: nn.Module) -> None:
        fully_shard(unit, mesh=mesh, mp_policy=policy)

    workload = registry.workload(os.environ.get("TRAINED", "llama-pretrain"))
    settings = {"batch": ["4"], "seq_len": ["48"], "dtype": [dtype]}
    if os.environ.get("OPTIONS"):
        settings |= {"clip": ["0.1"], "schedule": ["cosine"], "warmup": ["2"], "accumulate": ["2"]}
    (case,) = workload.cases("tiny", settings)
    device = Device(torch_device="cpu", rank=rank, ranks=ranks, shard=shard if ranks > 1 else None)
    case = workload.prepare(case, Weights())
    step = workload.build(case, device, Weights())
    assert isinstance(step, TrainStep)
    fault = os.environ.get("FAULT")
    if fault == "silent" and rank == ranks - 1:
        loud = step.summed_loss
        step.summed_loss = lambda *given: _without_gradient(loud(*given))  # type: ignore[method-assign]
    if fault == "summed":
        averaged = step.loss_and_gradients

        def summed(*given: torch.Tensor) -> torch.Tensor:
            loss = averaged(*given)
            for _, parameter in step.trained():
                assert parameter.grad is not None
                parameter.grad.mul_(ranks)
            return loss

        step.loss_and_gradients = summed  # type: ignore[method-assign]
    if rank == hasty:
        step.optimizer.param_groups[0]["lr"] *= 1.2
    held = sum(_local(p).numel() for p in step.model.parameters())
    means = means_of(workload, registry.backend("cpu"), device, "eager")
    checks = workload.checks(case, step, means)
    losses = []
    for _ in range(3):
        step.run(lambda output=None: None)
        loss = step.losses[-1].clone()
        dist.all_reduce(loss)
        losses.append(float(loss) / ranks)
    parity = [asdict(check) for check in checks()]
    outcome = {"losses": losses, "parity": parity, "held": held}
    torch.save(outcome, folder / f"{ranks}-{rank}.pt")
    dist.barrier()
    os._exit(0)  # the threads of gloo may abort an orderly exit, after all is done


def _without_gradient(loss: torch.Tensor) -> torch.Tensor:
    """The same value; what comes back is nothing, from every weight."""
    return loss.detach() + 0 * loss


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


if __name__ == "__main__":
    main(
        int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:])
    )

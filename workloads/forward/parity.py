"""Parity of a model that is run forward: its code, its answers, every sample of the batch.

- ``float32 twin``: the same code, built and compiled the same way, as a small model in float32
  against the library's module on the host. Any fault of the code shows, however small.
- ``outputs``: the first and the last sample as the last timed pass left them, at full size and in
  the precision of the case, against float32 on the host; allowed is 1.5 times what the same module
  errs when it is run as written in that precision.
- ``other inputs``: a sample that was never seen before, put in front of the others.
- ``every sample``: the others, one place further on, must give what they gave before.

Weights come from their source and not from the program, so whatever a backend does to them shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Checks, Means, Parity
from tpubench.workloads.forward.identity import program_sha256
from tpubench.workloads.forward.step import ForwardStep, drawn
from tpubench.workloads.forward.weights import filled

if TYPE_CHECKING:
    from tpubench.suite.workload import Step
    from tpubench.workloads.forward import Forward

_TWIN_TOLERANCE = 1e-4
"""Worst sample of the twin; correct: 1e-6."""
_EAGER_SHARE = 1.5
"""How much more than a program run as written in the same precision may err."""
_LEAST = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 1e-2}
_MOST = 0.1
"""Allowed at least and at most, by the precision of the products: two ways to compute a short model
may round differently, and a deep one must still show a missing layer."""
_UNSEEN = 7919
"""Added to the seed for the sample that no pass has seen."""


def checks(workload: Forward, case: Case, step: Step, means: Means) -> Checks:
    """The checks of a built step, called before it is compiled."""
    assert isinstance(step, ForwardStep)
    identity = program_sha256(workload, step.model)
    return lambda: _checked(workload, case, step, means, identity)


def _checked(
    workload: Forward, case: Case, step: ForwardStep, means: Means, identity: str
) -> list[Parity]:
    seed, batch = case.number("seed"), case.number("batch")
    dtype: torch.dtype = getattr(torch, case.dtype)
    whole = drawn(workload.inputs(case), batch, seed, dtype)
    unseen = drawn(workload.inputs(case), 1, seed + _UNSEEN, dtype)
    ends = sorted({0, batch - 1})
    watched = [torch.cat([given[ends], new]) for given, new in zip(whole, unseen, strict=True)]
    means.flush()
    means.barrier()
    before = _on_host(step.y)
    step.move_on(unseen)
    means.barrier()
    step.run(lambda *_: None)
    means.flush()
    means.barrier()
    after = _on_host(step.y)
    step.move_on([given[:1] for given in whole])  # an input of the case again
    expected, eager_error = _reference(workload, case, watched, means, identity)
    allowed = _allowed(case, eager_error, means)
    worst = "relative L2 error of the worst sample"
    against = f"{worst} against float32, where a run as written errs by {eager_error:.2g}"
    checks = [
        _twin(workload, case, means),
        Parity(name="outputs", error=_apart(before[ends], expected[:-1]), tolerance=allowed,
               what=against),
        Parity(name="other inputs", error=_apart(after[:1], expected[-1:]), tolerance=allowed,
               what=against),
    ]  # fmt: skip
    if batch > 1:
        moved = _apart(after[1:], before[:-1])
        what = f"{worst} against itself at another place of the batch"
        checks.append(Parity(name="every sample", error=moved, tolerance=allowed, what=what))
    return checks


def _twin(workload: Forward, case: Case, means: Means) -> Parity:
    small = workload.twin(case)
    with means.exact_float32():
        step = means.build(small)
        assert isinstance(step, ForwardStep)
        step.run(lambda *_: None)
        means.flush()
        means.barrier()
        given = _on_host(step.y)
    inputs = drawn(
        workload.inputs(small), small.number("batch"), small.number("seed"), torch.float32
    )
    expected = _run(workload, small, inputs, held=torch.float32, computed=torch.float32)
    return Parity(
        name="float32 twin",
        error=_apart(given, expected),
        tolerance=_TWIN_TOLERANCE,
        what="relative L2 error of the worst sample of a small model in float32",
    )


def _reference(
    workload: Forward, case: Case, inputs: list[Tensor], means: Means, identity: str
) -> tuple[Tensor, float]:
    """What the module gives in float32 on the host, and how far it is off as written."""
    key: Mapping[str, Any] = {
        "workload": workload.source_sha256(),
        "program": identity,
        "params": dict(case.params),
        "shape": dict(case.shape),
    }
    kept = means.references.recall(key)
    if kept is None:
        dtype: torch.dtype = getattr(torch, case.dtype)
        expected = _run(workload, case, inputs, held=dtype, computed=torch.float32)
        written = expected
        if dtype is not torch.float32:
            written = _run(workload, case, inputs, held=dtype, computed=dtype)
        kept = {"expected": expected, "written": written}
        means.references.keep(key, kept)
    return kept["expected"], _apart(kept["written"], kept["expected"])


@torch.no_grad()
def _run(
    workload: Forward, case: Case, inputs: list[Tensor], *, held: torch.dtype, computed: torch.dtype
) -> Tensor:
    """The module as its library has it, on the host, with weights as they are when ``held``."""
    module = filled(lambda: workload.module(case), case.number("seed"), "cpu", held, computed)
    given = [one.to(computed) if one.is_floating_point() else one for one in inputs]
    return _on_host(workload.formula(module, given))


def _allowed(case: Case, eager_error: float, means: Means) -> float:
    stated = means.float32_precision if case.dtype == "float32" else case.dtype
    if stated == "float32" and means.device.torch_device.startswith("cuda"):
        stated = "tf32"  # cuDNN's convolutions, unless they are told otherwise
    return min(max(_EAGER_SHARE * eager_error, _LEAST[stated]), _MOST)


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone()


def _apart(given: Tensor, expected: Tensor) -> float:
    """Relative L2 distance of the worst sample; NaN where a sample has one."""
    a, b = given.double().flatten(1), expected.double().flatten(1)
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp_min(1e-300)).max())

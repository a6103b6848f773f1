"""``gemm``: dense matrix multiplication, the arithmetic limit of a device.

C[m, n] = A[m, k] · B[n, k]ᵀ, the layout of a linear layer. Shapes are those of the Llama-3.1-8B
layers for 512 tokens, and squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Laps,
    Mark,
    Means,
    Parameter,
    Parity,
    Phase,
    Program,
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)
from tpubench.workloads._row_checks import judged, precision, worst

if TYPE_CHECKING:
    from torch import Tensor

_LAYERS_8B: dict[str, tuple[int, int, int]] = {
    "8b-qkv": (512, 6144, 4096),
    "8b-out": (512, 4096, 4096),
    "8b-gate-up": (512, 28672, 4096),
    "8b-down": (512, 4096, 14336),
    "8b-head": (512, 128256, 4096),
}
_SQUARES = {f"square-{n}": (n, n, n) for n in (512, 1024, 2048, 4096, 8192)}
_SHAPES = {**_SQUARES, **_LAYERS_8B}
_CPU_SETS = ("square-512", "square-1024", "square-2048", "8b-out")


class Gemm(Workload):
    """One matrix multiplication after another."""

    name = "gemm"
    version = 2
    summary = "dense matrix multiplication: the arithmetic limit"
    presets: ClassVar[Mapping[str, str]] = {
        "standard": "squares 512 … 8192, the 8B layers (a CPU: the smaller); bfloat16, float32",
        "all": "every shape, whatever the device",
        **{name: f"m={m} n={n} k={k}" for name, (m, n, k) in _SHAPES.items()},
    }
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "m": Parameter(default=1024, minimum=1, doc="rows of A: tokens"),
        "n": Parameter(default=1024, minimum=1, doc="rows of B: output features"),
        "k": Parameter(default=1024, minimum=1, doc="inner dimension: input features"),
        "steps": Parameter(default=1, minimum=1, doc="multiplications a pass"),
        "dtype": Parameter(default="bfloat16", choices=tuple(DTYPES), doc="precision of A, B, C"),
        "seed": Parameter(default=0, minimum=0, doc="seed of the operands"),
    }
    primary_metric = "flop_s"
    fractions: ClassVar[Mapping[str, str]] = {"mfu": "pass"}

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        names: Sequence[str] = (preset,)
        if preset in {"standard", "all"}:
            names = tuple(_SHAPES) if accelerator or preset == "all" else _CPU_SETS
        return [
            {"m": m, "n": n, "k": k, "dtype": dtype}
            for dtype in ("bfloat16", "float32")
            for m, n, k in (_SHAPES[name] for name in names)
        ]

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        return _build(case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        return lambda: _checked(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        return {"gemm": Phase(runs=case.number("steps"))}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase, depth
        return _program(case, chips)

    def work(self, case: Case) -> Work:
        m, n, k, steps = (case.number(key) for key in ("m", "n", "k", "steps"))
        size = DTYPES[case.dtype]
        return Work(
            items=steps,
            unit="multiplication",
            flops=2 * m * n * k * steps,
            bytes=(m * k + n * k + m * n) * size * steps,
        )

    def memory_bytes(self, case: Case) -> int:
        m, n, k = (case.number(key) for key in ("m", "n", "k"))
        return (m * k + n * k + m * n) * DTYPES[case.dtype]

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        steps, work = case.number("steps"), self.work(case)
        pass_s = windows["pass"].passes_s
        return Laps(
            samples={
                "step_time_s": [t / steps for t in pass_s],
                "flop_s": [work.flops / t for t in pass_s],
            }
        )


def _build(case: Case, device: Device) -> Step:
    import torch

    from tpubench.workloads._bound import Bound  # which needs torch

    n, k, steps = (case.number(key) for key in ("n", "k", "steps"))
    a_MK, b_NK = (operand.to(device.torch_device) for operand in _operands(case))

    class GemmStep(Step):
        marks = ("gemm",)

        def __init__(self) -> None:
            self.a_MK, self.c_MN = a_MK, torch.empty(0)
            linear = torch.nn.Linear(k, n, bias=False, device="meta", dtype=b_NK.dtype)
            linear.weight = torch.nn.Parameter(b_NK, requires_grad=False)
            # In a container, so that a backend can swap the layer as it would a model's.
            self.module = self.layer = torch.nn.Sequential(linear)
            self.multiply: Callable[[], Tensor] = lambda: self.layer(self.a_MK)

        def to_capture(self) -> torch.nn.Module:
            self.multiply = bound = Bound(self.layer, self.a_MK)
            return bound

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            for _ in range(steps):
                self.c_MN = self.multiply()
                self.flush()
            mark(self.c_MN)

        @torch.no_grad()
        def change_operand(self, by: int) -> None:
            """A's rows ``by`` further down with their signs changed, in place: so is C then."""
            self.a_MK.copy_(-self.a_MK.roll(by, 0))

        @torch.no_grad()
        def vary(self, by: int) -> bool:
            """Every element of A ``by`` places on."""
            self.a_MK.copy_(self.a_MK.view(-1).roll(by).view_as(self.a_MK))
            return True

    return GemmStep()


def _program(case: Case, chips: int) -> Program:
    import torch

    m, n, k = (case.number(key) for key in ("m", "n", "k"))
    if n % chips:
        raise UsageError(f"n={n} does not divide among {chips} chips")
    dtype: torch.dtype = getattr(torch, case.dtype)
    return Program(
        module=torch.nn.Linear(k, n, bias=False, device="meta", dtype=dtype),
        inputs=(torch.empty(m, k, device="meta", dtype=dtype),),
        split={"weight": 0},
        result=1,
    )


def _operands(case: Case) -> tuple[Tensor, Tensor]:
    """A and B on the CPU, in the precision of the case."""
    import torch

    m, n, k = (case.number(key) for key in ("m", "n", "k"))
    dtype: torch.dtype = getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(case.number("seed"))
    a_MK = torch.randn(m, k, generator=generator).to(dtype)
    return a_MK, torch.randn(n, k, generator=generator).to(dtype)


_ROWS = 16
"""Rows, evenly spaced, that are compared with the same product on the host."""
_TOLERANCE = {
    # a row of the product; any one element, as a share of the root mean square of its row
    "float32": (1e-5, 1e-4),
    "tf32": (2e-3, 1.5e-2),
    "bfloat16 products": (6e-3, 4e-2),
    "float16": (1e-3, 1e-2),
    "bfloat16": (6e-3, 5e-2),
}
"""Rounding both operands to p bits after the point errs by about 2^-p/2.4 of a row, rounding the
result by 2^-p/4.8: 4e-4 for TF32 (p = 10), 2.3e-3 for float32 multiplied in bfloat16 (p = 7),
1.6e-3 for a bfloat16 result; the worst of 10^8 elements by six times as much. Allowed is 2.5 times
that and more, since partial sums may be rounded too; a row or an element left out errs by 1."""


def _checked(case: Case, step: Any, means: Means) -> list[Parity]:
    """What the last timed pass left: some rows held against the host, all against the device.

    Then what one more pass makes of another A, since a product that is not computed again would be
    right too.
    """
    import torch
    import torch.nn.functional as F

    means.barrier()
    with torch.no_grad():
        a_MK, b_NK = (operand.float() for operand in _operands(case))
        where = step.c_MN.device
        rows = torch.arange(0, len(a_MK), max(1, len(a_MK) // _ROWS))
        expected = F.linear(a_MK[rows].double(), b_NK.double())
        given = step.c_MN.to("cpu", torch.float32)
        row_error = worst((given[rows] - expected).norm(dim=1) / expected.norm(dim=1))
        with means.exact_float32():
            # With a bias, if one of zeros: a device that records would take a product alone for
            # the timed one, and use what it compiled for that in another precision.
            zeros_N = torch.zeros(len(b_NK), device=where)
            whole = F.linear(a_MK.to(where), b_NK.to(where), zeros_N)
            means.flush()
            means.barrier()
            whole = whole.cpu()
        spread = whole.square().mean(dim=1, keepdim=True).sqrt()
        element_error = worst((given - whole).abs() / spread)
        step.change_operand(1)
        step.run(lambda *_: None)
        means.barrier()
        given = -step.c_MN.to("cpu", torch.float32).roll(-1, 0)
        other_error = worst((given - whole).abs() / spread)
        step.change_operand(-1)
    stated = precision(case, means)
    return judged(
        row=row_error,
        element=element_error,
        other=other_error,
        tolerance=_TOLERANCE[stated],
        rows=f"{len(rows)} rows",
        stated=stated,
    )

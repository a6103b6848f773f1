"""``gemm``: dense matrix multiplication, the arithmetic limit of a device.

C[m, n] = A[m, k] · B[n, k]ᵀ, the layout of a linear layer. Shapes are those of the Llama-3.1-8B
layers for 512 tokens, and squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Device,
    Laps,
    Mark,
    Parameter,
    Phase,
    Program,
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)

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
    import torch.nn.functional as F

    m, n, k, steps = (case.number(key) for key in ("m", "n", "k", "steps"))
    dtype: torch.dtype = getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(case.number("seed"))

    def operand(rows: int, columns: int) -> Tensor:
        values = torch.randn(rows, columns, generator=generator, dtype=torch.float32)
        return values.to(device.torch_device, dtype)

    class GemmStep(Step):
        marks = ("gemm",)

        def __init__(self) -> None:
            self.a_MK = operand(m, k)
            linear = torch.nn.Linear(k, n, bias=False, device="meta", dtype=dtype)
            linear.weight = torch.nn.Parameter(operand(n, k), requires_grad=False)
            # In a container, so that a backend can swap the layer as it would a model's.
            self.module = self.layer = torch.nn.Sequential(linear)

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            for _ in range(steps):
                self.c_MN = self.layer(self.a_MK)
                self.flush()
            mark(self.c_MN)

        @torch.no_grad()
        def probe(self) -> Tensor:
            c_MN: Tensor = self.layer(self.a_MK)
            return c_MN[:_PARITY_ROWS].to("cpu", torch.float32)

        @torch.no_grad()
        def reference(self) -> Tensor:
            a_MK = self.a_MK[:_PARITY_ROWS].to("cpu", torch.float32)
            b_NK = next(self.layer.parameters()).to("cpu", torch.float32)
            return F.linear(a_MK, b_NK)

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


_PARITY_ROWS = 16
"""Rows of the product compared with the reference."""

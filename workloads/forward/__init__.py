"""What every workload that runs a model forward over a batch shares; a model adds its own shape.

A model is a subclass of :class:`Forward`, here or in anybody's package (docs/add-your-own.md), that
says how its module is built and what it takes; what one sample costs is counted, or told. Weights
and inputs are drawn from a seed, the same on every device (``weights.py``); the step and its parity
checks are the same for all (``step.py``, ``parity.py``).
Nothing here imports torch before a program is built.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Laps,
    Means,
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
    from torch import Tensor, nn

_INDEX_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One tensor that a model takes, without its batch dimension.

    below: whole numbers from 0 up to it, for each place of the last dimension where it is a
    sequence; None for standard normal values in the precision of the case.
    """

    shape: tuple[int, ...]
    below: int | Sequence[int] | None = None

    def bytes(self, dtype: str) -> int:
        """Bytes of one sample."""
        size = DTYPES[dtype] if self.below is None else _INDEX_BYTES
        for length in self.shape:
            size *= length
        return size


@dataclass(slots=True, kw_only=True)
class Tally:
    """FLOPs of one sample and weights of a model, added up layer by layer.

    A multiply-add is two FLOPs; norms, activations and sums are not counted, as in torch's counter.
    read: weights that every pass reads whole. tables: weights of which samples read ``looked_up``.
    """

    flops: int = 0
    read: int = 0
    tables: int = 0
    looked_up: int = 0

    @property
    def weights(self) -> int:
        """All of them."""
        return self.read + self.tables

    def linear(self, rows: int, width: int, out: int, *, bias: bool = True) -> None:
        """``rows`` vectors of one sample through one projection."""
        self.flops += 2 * rows * width * out
        self.read += width * out + (out if bias else 0)

    def conv(self, side: int, channels: int, out: int, kernel: int, *, bias: bool = True) -> None:
        """A square convolution whose result has ``side`` × ``side`` pixels."""
        self.flops += 2 * side * side * channels * out * kernel * kernel
        self.read += channels * out * kernel * kernel + (out if bias else 0)

    def norm(self, width: int) -> None:
        """Scale and shift."""
        self.read += 2 * width

    def attend(self, queries: int, keys: int, width: int) -> None:
        """All heads together, every query to every key."""
        self.flops += 4 * queries * keys * width

    def table(self, rows: int, width: int, lookups: int) -> None:
        """An embedding of which one sample takes ``lookups`` rows."""
        self.tables += rows * width
        self.looked_up += lookups * width


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """A library that a model comes from, and the extra that brings it."""

    modules: tuple[str, ...] = ()
    extra: str = ""


class Forward(Workload):
    """One pass of a model over a batch, again and again."""

    unit: ClassVar[str] = "sample"
    """What one of a batch is called."""
    needs: ClassVar[Needs] = Needs()
    shapes: ClassVar[Mapping[str, Mapping[str, int | str | tuple[int, ...]]]]
    """Shape of each preset's model; ``tiny``, else the first, is that of the float32 twin."""
    batches: ClassVar[Mapping[str, tuple[int, ...]]] = {"*": (1, 8, 64)}
    """Batches of the standard cases on accelerators, ``*`` for presets that are not named."""
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "batch": Parameter(default=1, minimum=1, doc="samples a pass"),
        "dtype": Parameter(
            default="bfloat16", choices=("float32", "bfloat16"), doc="precision of weights and sums"
        ),
        "seed": Parameter(default=0, minimum=0, doc="seed of random weights and inputs"),
    }
    primary_metric = "samples_s"
    exported_parallelism = "dp"
    fractions: ClassVar[Mapping[str, str]] = {"mfu": "pass"}

    @abstractmethod
    def module(self, case: Case) -> nn.Module:
        """The model, on whatever device torch's default is; its values do not matter.

        Called with one tensor for each of :meth:`inputs`, it returns one tensor [batch, …].
        """

    @abstractmethod
    def inputs(self, case: Case) -> Sequence[Input]:
        """What the module takes, in order."""

    def formula(self, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """What the module's weights give for a batch by an independent way, on the host.

        The default is the library's own module, which nothing has compiled; a model that is
        written here is computed from its formulas instead.
        """
        answer: Tensor = module(*inputs)
        return answer

    def tally(self, case: Case) -> Tally:
        """FLOPs of one sample and weights: counted on tensors without memory, which takes torch.

        The workloads of this repository give closed forms instead, and are held to the count.
        """
        from tpubench.workloads.forward.step import counted

        return counted(self, case).tally

    def outputs(self, case: Case) -> int:
        """Numbers that the module returns for one sample; counted likewise."""
        from tpubench.workloads.forward.step import counted

        return counted(self, case).outputs

    def shape(self, preset: str) -> Mapping[str, object]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.shapes[preset].items()
        }

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"batch": 2}]
        if not accelerator:
            return [{"batch": 1}]
        return [{"batch": batch} for batch in self.batches.get(preset, self.batches["*"])]

    def twin(self, case: Case) -> Case:
        """The case whose program, in float32, stands for this one's code."""
        params = {**case.params, "batch": 2, "dtype": "float32"}
        small = "tiny" if "tiny" in self.shapes else next(iter(self.shapes))
        return replace(case, preset=small, shape=self.shape(small), params=params)

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        self.require()
        from tpubench.workloads.forward.step import ForwardStep

        return ForwardStep(self, case, device)

    def require(self) -> None:
        """UsageError when the library that the model comes from is not installed."""
        lacking = [name for name in self.needs.modules if find_spec(name) is None]
        if lacking:
            raise UsageError(
                f"{self.name} needs {' and '.join(lacking)}:"
                f" pip install 'tpubench[{self.needs.extra}]'"
            )

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.forward.parity import checks

        return checks(self, case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        del case
        return {"forward": Phase()}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase
        if case.number("batch") % chips:
            batch = case.number("batch")
            raise UsageError(f"batch={batch} does not divide among {chips} devices")
        self.require()
        from tpubench.workloads.forward.step import program

        return program(self, self.with_depth(case, depth))

    def with_depth(self, case: Case, depth: int) -> Case:
        """The case with so many of its identical layers."""
        del depth
        return case

    def work(self, case: Case) -> Work:
        """Every weight that is read, the rows looked up, what comes in and goes out, once."""
        batch, size, tally = case.number("batch"), DTYPES[case.dtype], self.tally(case)
        given = sum(one.bytes(case.dtype) for one in self.inputs(case))
        moved = (tally.looked_up + self.outputs(case)) * size + given
        return Work(
            items=batch,
            unit=self.unit,
            flops=batch * tally.flops,
            bytes=tally.read * size + batch * moved,
        )

    def memory_bytes(self, case: Case) -> int:
        given = sum(one.bytes(case.dtype) for one in self.inputs(case))
        return self.tally(case).weights * DTYPES[case.dtype] + case.number("batch") * given

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        batch, pass_s = case.number("batch"), windows["pass"].passes_s
        return Laps(samples={"step_time_s": pass_s, "samples_s": [batch / t for t in pass_s]})


def size(case: Case, key: str) -> int:
    """A whole number of the case's shape."""
    value = case.shape[key]
    assert isinstance(value, int)
    return value


def sizes(case: Case, key: str) -> list[int]:
    """A list of whole numbers of the case's shape."""
    value = case.shape[key]
    assert isinstance(value, list | tuple)
    return [int(one) for one in value]

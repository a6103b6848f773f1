"""What a standard workload is: a program, its cases, the work it does and its parity check.

A folder of ``workloads/`` offers one or several, each a :class:`Workload`.
Its definition imports no torch, so a plan, a price or a dry run needs none; the program itself is
imported by :meth:`Workload.build`, in the child process that runs it.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tpubench.errors import UsageError as UsageError
from tpubench.results.metrics import METRICS
from tpubench.results.metrics import Metric as Metric
from tpubench.results.regular_file import open_regular as open_regular
from tpubench.results.regular_file import read_bounded as read_bounded
from tpubench.suite import definition
from tpubench.suite import processes as processes
from tpubench.suite.case import DTYPES as DTYPES
from tpubench.suite.case import Case as Case
from tpubench.suite.case import Device as Device
from tpubench.suite.case import Phase as Phase
from tpubench.suite.case import Program as Program
from tpubench.suite.case import Weights as Weights
from tpubench.suite.case import Work as Work
from tpubench.suite.decoder import Decoder as Decoder
from tpubench.suite.decoders import find_decoder as find_decoder
from tpubench.suite.decoders import public_sizes as public_sizes
from tpubench.suite.definition import sha256_of as sha256_of
from tpubench.suite.parameter import Parameter as Parameter
from tpubench.suite.parity import Checks as Checks
from tpubench.suite.parity import Means as Means
from tpubench.suite.parity import Parity as Parity
from tpubench.suite.parity import largest as largest
from tpubench.suite.parity import move_error as move_error
from tpubench.suite.parity import relative_l2 as relative_l2
from tpubench.suite.windows import Laps as Laps
from tpubench.suite.windows import Mark as Mark
from tpubench.suite.windows import Timed as Timed
from tpubench.suite.windows import Wait as Wait
from tpubench.suite.windows import Window as Window

if TYPE_CHECKING:
    import torch


_NOT_FOR_BUILDING = frozenset({"prepare", "encode", "decode", "program"})
"""Methods of a workload that what is timed does not come from."""


class Step(ABC):
    """A built program: weights and inputs on the device, ready to be compiled and timed."""

    module: torch.nn.Module | None = None
    """What a backend may repack or compile in place; None when there is nothing to compile."""

    static_shapes: bool = False
    """Set by a backend for which a new tensor shape would cost a recompilation."""

    reads_filled: bool = False
    """Set by a backend whose compiler has an attention that reads the filled blocks of a static
    cache alone (FlexAttention); a program without one goes on as it is."""

    trains: bool = False
    """Whether a pass changes the weights: then nothing may repack or freeze them."""

    batch: tuple[torch.Tensor, ...] = ()
    """Inputs whose first dimension is the batch, which one process may spread over its chips."""

    barrier: Wait = staticmethod(lambda: None)
    """Waits for the device. Set by the child process; ``probe`` calls it between several passes."""

    flush: Wait = staticmethod(lambda: None)
    """Submits what was recorded so far, without waiting; set by the child process. A step calls it
    after each piece of work that must run by itself, with its result still held: a backend that
    records would merge equal pieces, and leave out what nobody can read."""

    marks: tuple[str, ...]
    """Phase that ends at each call of ``mark`` during one pass."""

    @abstractmethod
    def run(self, mark: Mark) -> None:
        """One pass: the work, calling ``mark`` at the end of each phase in ``marks``.

        Nothing in it may wait for the device. What a compiled call returned is overwritten by its
        next call: a result that is kept is cloned, on the device, right away.
        """

    def to_capture(self) -> torch.nn.Module | None:
        """What a backend captures that captures whole calls; called once ``module`` is compiled.

        By default ``module``. A step may give a module around it that keeps the state of a pass in
        its own buffers, so that a call is given no tensor, and from then on run by its calls alone.
        """
        return self.module

    def vary(self, by: int) -> bool:
        """Move the inputs on by ``by`` steps, in place and on the device, each time to values that
        they did not have before, and back by as many where ``by`` is negative.

        Whether there are inputs to change: by default not, and in training every pass has new
        weights. Otherwise latency windows change them before each pass, and a few passes on other
        inputs are held against those of the window: see :mod:`.other_inputs`.
        """
        del by
        return False

    def excerpt(self) -> Window:
        """A pass, or a shorter one that has all of its phases and begins with the same marks."""
        return Window(run=self.run, marks=tuple(self.marks))

    def windows(self) -> Mapping[str, Window]:
        """What is timed besides the pass, by name: the time to a first result, a phase alone…"""
        return {}

    def probe(self) -> torch.Tensor:
        """Output of the compiled program on the parity input, float32 on the CPU.

        What it keeps from one call to the next it clones: a replay writes into the same tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} has no probe: see Workload.checks")

    def reference(self) -> torch.Tensor:
        """The same from a float32 computation on the CPU with the same weights.

        Called before the backend compiles, while the weights are as the checkpoint has them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no reference: see Workload.checks")

    def splits(self) -> list[tuple[torch.Tensor, int]]:
        """Tensors that one process may spread over many devices, and the dimension to cut.

        What is not named is whole on every device. Only for a backend that spreads them itself;
        a step built for several ranks holds its part from the start.
        """
        return []

    def written(self) -> list[torch.Tensor]:
        """Tensors that a pass overwrites in place, and that must not be copied for it."""
        return []

    def generated(self) -> list[int] | None:
        """Token ids produced by the last pass for the first sequence; None if there are none."""
        return None


class Workload(ABC):
    """A standard program. One subclass for each file in ``workloads/``."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever results stop being comparable with older ones."""
    summary: ClassVar[str]
    presets: ClassVar[Mapping[str, str]]
    """Preset name to a one-line description."""
    parameters: ClassVar[Mapping[str, Parameter]]
    shorthands: ClassVar[Mapping[str, Mapping[str, Mapping[str, int | str]]]] = {}
    """``--set`` keys that stand for several parameters at once: for each of their values, what the
    parameters then are. A case holds the parameters alone."""
    fractions: ClassVar[Mapping[str, str]] = {}
    """Which of mfu and mbu means something here, and over which phase (``pass`` for all of it)."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Files beside this one that define the program too and that no import leads to: a table, a
    kernel in C. What is imported need not be named."""
    parallelism: ClassVar[str | None] = None
    """How it is spread over many chips: ``tp`` (each holds a part of every layer) or ``fsdp`` (each
    holds a part of the weights and takes a part of the batch); None when it runs on one."""
    exported_parallelism: ClassVar[str] = "tp"
    """How an exported program is spread over devices by a workload that itself runs on one."""
    trains: ClassVar[bool] = False
    """Whether a pass changes the weights."""
    takes_prompt: ClassVar[bool] = False
    """Whether a checkpoint and a prompt mean anything to this workload."""
    primary_metric: ClassVar[str]
    """The metric under which a repetition that failed is recorded."""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    """Metrics of this workload's own, beside those of ``tpubench list metrics``: what ``measure``
    gives under another name must be declared here. Each row carries its definition."""
    tolerance: ClassVar[Mapping[str, float]] = {
        "float32": 1e-3,
        "bfloat16": 5e-2,
        "float16": 1e-2,
    }
    """Largest relative error against the float32 reference, by precision."""

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, shared or this workload's own; None when there is none."""
        own = {metric.name: metric for metric in self.metrics}
        return METRICS.get(name) or own.get(name)

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        """Preset to use when none is named, and why."""
        del accelerator
        (name, *_) = self.presets
        return name, "the only size" if len(self.presets) == 1 else "the first listed"

    def shape(self, preset: str) -> Mapping[str, object]:
        """Shape of the preset's model, as JSON values."""
        del preset
        return {}

    def decoder(self, preset: str) -> Decoder | None:
        """The decoder that a preset is, so that an estimate can use what is known of others like
        it; None for other programs, of which :meth:`work` says all. Also asked for names that are
        no preset, where sizes of larger models may be known: ``find_decoder`` has public ones."""
        del preset
        return None

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        """Parameter overrides of each standard case of a preset."""
        del preset, accelerator
        return [{}]

    def cases(
        self, preset: str, overrides: Mapping[str, Sequence[str]], *, accelerator: bool = False
    ) -> list[Case]:
        """The cases to run: the standard ones with ``overrides`` applied, crossed and deduplicated.

        ``overrides`` maps a key to one or more values as typed (``batch`` → ``["1", "8"]``).
        UsageError for an unknown preset or key, or a value that does not fit.
        """
        if preset not in self.presets:
            raise UsageError(
                f"{self.name} has no preset {preset!r}; it has {', '.join(self.presets)}"
            )
        for key in overrides:
            if key not in self.parameters and key not in self.shorthands:
                known = ", ".join([*self.parameters, *self.shorthands])
                raise UsageError(f"{self.name} has no parameter {key!r}; it has {known}")
        fixed: list[dict[str, int | str]] = [{}]
        for key, texts in overrides.items():
            settings = [self._settings(key, text, overrides) for text in texts]
            fixed = [{**chosen, **setting} for chosen in fixed for setting in settings]
        defaults = {key: parameter.default for key, parameter in self.parameters.items()}
        cases: dict[str, Case] = {}
        for standard in self.standard(preset, accelerator):
            for chosen in fixed:
                case = Case(
                    workload=self.name,
                    workload_version=self.version,
                    preset=preset,
                    params={**defaults, **standard, **chosen},
                    shape=self.shape(preset),
                )
                cases.setdefault(case.key, case)
        return list(cases.values())

    def _settings(
        self, key: str, text: str, overrides: Mapping[str, Sequence[str]]
    ) -> Mapping[str, int | str]:
        """What ``key=text`` sets; UsageError when a shorthand says what another key says too."""
        if key not in self.shorthands:
            return {key: self.parameters[key].parse(key, text)}
        values = self.shorthands[key]
        if text not in values:
            raise UsageError(f"{key}={text[:40]!r} is not one of {', '.join(values)}")
        twice = [name for name in values[text] if name in overrides]
        if twice:
            raise UsageError(f"{key}={text} sets {twice[0]} too: give one of them")
        return values[text]

    def validate(self, case: Case) -> None:
        """UsageError when the parameters of ``case`` contradict each other."""
        del case

    def prepare(self, case: Case, weights: Weights) -> Case:
        """The case as it will run with these weights (a checkpoint names its own shape).

        UsageError when parameters contradict each other, or the weights cannot be read.
        """
        if weights.path is not None or weights.prompt_ids is not None:
            raise UsageError(f"{self.name} has no weights: drop --weights and --prompt")
        self.validate(case)
        return case

    def on_devices(self, case: Case, devices: int) -> Case:
        """The case as so many devices run it together, where their number is part of it."""
        del devices
        return case

    def encode(self, prompt: str, weights: Weights) -> tuple[int, ...]:
        """Token ids of ``prompt``, by the checkpoint's own tokenizer and chat template; UsageError
        where there is none, or it does not take the prompt."""
        del prompt, weights
        raise UsageError(f"{self.name} takes no prompt")

    def decode(self, ids: Sequence[int], weights: Weights) -> str | None:
        """Text of ``ids`` by the checkpoint's own tokenizer; None when there is none."""
        del ids, weights
        return None

    @abstractmethod
    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        """Weights and inputs on ``device``, ready to compile. Imports torch."""

    def phases(self, case: Case) -> Mapping[str, Phase]:
        """The phases that can be exported, in the order of a pass; empty when none can be."""
        del case
        return {}

    def depth(self, case: Case) -> int:
        """Identical layers of the exported programs; 1 when there is nothing to repeat."""
        del case
        return 1

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        """One phase with ``depth`` layers, to be spread over ``chips``. Imports torch.

        UsageError when the shape does not divide among so many chips.
        """
        del case, depth, chips
        raise UsageError(f"{self.name} has no program of a phase {phase!r} to export")

    def memory_bytes(self, case: Case) -> int | None:
        """Least memory that the built program holds, all chips together; None when not known.

        What must be there whatever a compiler does: weights, caches, operands, optimizer state.
        """
        del case
        return None

    @abstractmethod
    def work(self, case: Case) -> Work:
        """What one pass must do, by closed form; per phase where phases differ."""

    @abstractmethod
    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        """The samples of each metric: from ``windows["pass"]``, and what the step named besides.

        A compiled estimate gives, besides the pass, each phase as a window of its own.
        """

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        """The parity checks of a built step, to be called once its window has closed.

        Called before the backend compiles the step. The default is the simplest that works: what
        :meth:`Step.probe` returns, held against :meth:`Step.reference`.
        """
        del means
        expected = step.reference()
        return lambda: [self.check(case, expected, step.probe())]

    def check(self, case: Case, expected: torch.Tensor, actual: torch.Tensor) -> Parity:
        """Relative L2 distance of the program's output to the float32 reference."""
        return Parity(
            error=relative_l2(expected, actual),
            tolerance=self.tolerance[case.dtype],
            what="relative L2 error against the float32 CPU reference",
        )

    def source_sha256(self) -> str:
        """SHA-256 of the files that define this workload, as :mod:`tpubench.suite.definition` says:
        part of the fingerprint."""
        files = definition.modules(self._kinds())
        own = files.pop(type(self).__module__)
        return definition.digest([own, *files.values(), *self._besides()])

    def source_modules(self) -> list[str]:
        """Names of the modules that building and checking the program may import."""
        return list(definition.modules(self._kinds(), leaving=_NOT_FOR_BUILDING))

    def _kinds(self) -> list[type]:
        """This class and those of the workloads that it extends."""
        bases = type(self).__mro__
        return [kind for kind in bases if issubclass(kind, Workload) and kind is not Workload]

    def _besides(self) -> list[Path]:
        return [
            Path(inspect.getfile(kind)).parent / name
            for kind in self._kinds()
            for name in vars(kind).get("sources", ())
        ]

"""What is asked of the compiler, and the facts that come back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpubench.devices.list_price import device_price
from tpubench.devices.prices import Price
from tpubench.errors import UsageError
from tpubench.estimates.compiled.hlo import ProgramCost
from tpubench.estimates.compiled.targets import Target, target
from tpubench.estimates.compiled.timing import AttentionCost, StepTime
from tpubench.results import cache_folder
from tpubench.suite import config, registry
from tpubench.suite.request import overrides
from tpubench.suite.workload import Case, Weights

DEFAULT_TIMEOUT_S = 900.0


def default_cache() -> Path:
    """Where exported and compiled programs are kept: the user's cache. UsageError without one."""
    folder = cache_folder.root()
    if folder is None:
        raise UsageError(f"no home folder to keep programs in: set {cache_folder.VARIABLE}")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileRequest:
    """One case on one slice.

    phases: those wanted, None for all. full: compile every layer instead of one and two.
    python: interpreter of the children.
    """

    case: Case
    target: Target
    phases: tuple[str, ...] | None = None
    full: bool = False
    python: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    price: Price | None = None
    price_rule: str | None = None
    """By which rule the price was chosen; None for one that was named."""
    cache: Path = field(default_factory=default_cache)

    @property
    def depths(self) -> list[int]:
        """Numbers of layers that are compiled: all, or one and two where there are more."""
        layers = registry.workload(self.case.workload).depth(self.case)
        return [layers] if self.full or layers <= 2 else [1, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """The compiler's own verdict on memory, bytes of one device.

    available: None when it fits, for then the compiler does not say.
    """

    fits: bool
    needed: int
    available: int | None
    words: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEstimate:
    """One phase of the pass: the compiler's figures and what was added to them."""

    phase: str
    fit: MemoryFit
    cost: ProgramCost | None
    attention: AttentionCost
    flops: float
    time: StepTime | None
    compile_time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """Everything known of one case on one slice. ``versions``: of what exported and compiled."""

    request: CompileRequest
    phases: tuple[PhaseEstimate, ...]
    versions: Mapping[str, str]
    kernel: bool
    """Whether attention was compiled as TorchTPU's own kernel, or its place was held."""
    notes: Mapping[str, Any] = field(default_factory=dict)


def parse(
    *,
    workload: str,
    device: str,
    preset: str | None,
    settings: Sequence[str],
    chips: int,
    topology: str | None,
    full: bool,
    python: Path | None,
    timeout_s: float,
    price: Price | None,
    table: Mapping[str, Price] | None = None,
) -> list[CompileRequest]:
    """The requests behind the options of ``tpubench compile``, one a case.

    UsageError for what makes no sense. Without a ``price`` the device's own in ``table`` is taken,
    by the rule of :mod:`tpubench.devices.list_price`. Without ``python``, the configuration's
    Python of the ``tpu`` backend compiles, or this one.
    """
    if not math.isfinite(timeout_s) or not 0 < timeout_s <= 1e7:
        raise UsageError(f"--timeout {timeout_s:g} is not a positive number of seconds")
    slice_ = target(device, chips, topology)
    if topology is not None and chips not in {1, slice_.chips}:
        raise UsageError(f"--topology {topology} has {slice_.chips} chips, --chips says {chips}")
    chosen = registry.workload(workload)
    name = preset or chosen.default_preset(accelerator=True)[0]
    cases = chosen.cases(name, overrides(settings), accelerator=True)
    for case in cases:
        chosen.validate(case)
    if chosen.trains:  # of fewer layers than the preset's, which the preset's name then says
        cases = [chosen.prepare(case, Weights()) for case in cases]
    cases = [chosen.on_devices(case, slice_.devices) for case in cases]
    asked = device_price(slice_.generation.device, table) if price is None else None
    path = config.executable(python, "--python") if python else config.interpreter("tpu").path
    return [
        CompileRequest(
            case=case,
            target=slice_,
            full=full,
            python=path,
            timeout_s=timeout_s,
            price=asked.price if asked else price,
            price_rule=asked.rule if asked else None,
        )
        for case in cases
    ]

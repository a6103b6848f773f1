"""A serving run as asked for, and all that is decided before anything is sent."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.costs.imported import CPU, NOT_STATED, UNKNOWN_DEVICE, precision
from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.prices import Price, today
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.suite.serving import engine, generator
from tpubench.suite.serving.endpoint import AUTO, WANTED
from tpubench.suite.serving.key import OPTION, Key
from tpubench.suite.serving.key import read as read_key
from tpubench.suite.serving.load import Load
from tpubench.suite.serving.rows import case_params
from tpubench.suite.serving.service import Service
from tpubench.suite.serving.slo import Slo

DEFAULT_REPEATS = 3
MOST_POWER_W, MOST_CHIPS = 1e9, 1_000_000
MOST_TOKENS = 200_000_000
"""Of all prompts of a load, which are held in memory at once: 662 of 8k are 5.4 million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRequest:
    """A serving run as typed. None means: choose, and say why."""

    service: Service
    settings: Mapping[str, Sequence[str]]
    slo: Slo
    timeout_s: float
    server: str | None = None
    engine: str | None = None
    model: str | None = None
    weights: Path | None = None
    preset: str | None = None
    repeats: int | None = None
    seed: int | None = None
    python: str | None = None
    """Interpreter of the load generator."""
    device: str | None = None
    chips: int | None = None
    dtype: str | None = None
    price: Price | None = None
    power_w: float | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    """Variable that holds the key which the server asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """What will run. engine: None where the server runs already, at ``server``."""

    run_id: str
    service: Service
    loads: list[Load]
    slo: Slo
    repeats: int
    timeout_s: float
    server: str | None
    engine: engine.Engine | None
    model: str | None
    generator: generator.Generator | None
    """None in a plan that is only looked at."""
    device: str
    chips: int
    dtype: str
    price: Price | None
    notes: list[str]
    power_w: float | None = None
    endpoint: str = AUTO
    key: Key | None = None

    @property
    def searches(self) -> bool:
        """Whether the rate is to be looked for: nothing says one."""
        return any(load.undecided for load in self.loads)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "run_id": self.run_id,
            "workload": self.service.name,
            "workload_version": self.service.version,
            "server": self.server,
            "engine": None if self.engine is None else self.engine.name,
            "model": self.model,
            "endpoint": self.endpoint,
            "power_w": self.power_w,
            "api_key_env": None if self.key is None else self.key.variable,
            "device": self.device,
            "chips": self.chips,
            "repeats": self.repeats,
            "timeout_s": self.timeout_s,
            "slo": str(self.slo) or None,
            "searches": self.searches,
            "price": None if self.price is None else self.price.dated(today()),
            "notes": self.notes,
            "cases": [case_params(load, self.slo) for load in self.loads],
        }


def make_plan(request: ServingRequest, *, look_only: bool = False) -> ServingPlan:
    """Everything decided before anything is sent. UsageError or RunFailedError, never a surprise.

    look_only: a plan that is shown and not run needs no generator.
    """
    service = request.service
    if (request.server is None) == (request.engine is None):
        raise UsageError(f"{service.name} needs one of --server URL and --engine {engine.NAMES}")
    if request.weights is not None and request.engine is None:
        raise UsageError("--weights goes with --engine: a server that runs has its own")
    if request.chips is not None and not 1 <= request.chips <= MOST_CHIPS:
        raise UsageError(f"--chips {request.chips} is not a count of 1 to {MOST_CHIPS:,}")
    endpoint = request.endpoint or AUTO
    if endpoint not in WANTED:
        raise UsageError(f"--endpoint {endpoint!r} is not one of {', '.join(WANTED)}")
    key = read_key(request.api_key_env)
    if key is not None and request.server is None:
        raise UsageError(f"{OPTION} goes with --server URL: an engine started here asks for none")
    if request.power_w is not None and not 0 < request.power_w < MOST_POWER_W:
        raise UsageError(f"--power-w {request.power_w:g} is not a power of a server in watts")
    notes = []
    preset = request.preset
    if preset is None:
        preset = next(iter(service.presets))
        notes.append(f"preset {preset}: the first listed")
    loads = service.loads(preset, _settings(request))
    for load in loads:
        _check(load, request.slo)
    started = engine.find(request) if request.engine is not None else None
    device, chips = _place(request, started)
    driver = None if look_only else generator.find(request.python)
    if driver is not None and not driver.tested:
        notes.append(f"AIPerf {driver.version}: its log is read as {generator.TESTED} writes it")
    plan = ServingPlan(
        run_id=f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        service=service,
        loads=loads,
        slo=request.slo,
        repeats=request.repeats or DEFAULT_REPEATS,
        timeout_s=request.timeout_s,
        server=request.server,
        engine=started,
        model=request.model,
        generator=driver,
        device=device,
        chips=chips,
        dtype=precision(request.dtype) if request.dtype else NOT_STATED,
        price=request.price,
        notes=notes,
        power_w=request.power_w,
        endpoint=endpoint,
        key=key,
    )
    if plan.searches and not request.slo.goals:
        raise UsageError(
            "give --set request_rate=R or --set concurrency=N; or --slo NAME=SECONDS, to look for"
            " the highest rate that keeps it"
        )
    if request.price is not None and not chips:
        raise UsageError("a price needs --device NAME --chips N: what the server runs on")
    return plan


def _settings(request: ServingRequest) -> dict[str, Sequence[str]]:
    settings = dict(request.settings)
    if request.seed is not None:
        if "seed" in settings:
            raise UsageError("give --seed or --set seed, not both")
        settings["seed"] = [str(request.seed)]
    return settings


def _check(load: Load, slo: Slo) -> None:
    """UsageError for a load that could prove nothing, or would not fit in memory."""
    tokens = (load.requests + load.warm_up) * load.input_len
    if tokens > MOST_TOKENS or load.output_len > MOST_TOKENS:
        raise UsageError(
            f"{load.requests:,} requests of {load.input_len:,} tokens and answers of"
            f" {load.output_len:,} are more than a load may have: {MOST_TOKENS:,} tokens"
        )
    if load.requests < slo.least_requests:
        raise UsageError(
            f"--slo {slo} needs {slo.least_requests} requests, {load.shape} has {load.requests}:"
            f" give --set requests={slo.least_requests}, or a lower percentile"
        )
    if load.concurrency is not None and load.requests < 2 * load.concurrency:
        raise UsageError(
            f"concurrency {load.concurrency} needs at least {2 * load.concurrency} requests, not"
            f" {load.requests}: give --set requests=N"
        )


def _place(request: ServingRequest, started: engine.Engine | None) -> tuple[str, int]:
    """Canonical device and physical chips of the server; ``unknown`` and 0 where nobody says."""
    if request.device is None:
        if started is None:
            return UNKNOWN_DEVICE, request.chips or 0
        return started.device, request.chips or 1
    name = CPU if request.device == CPU else canonical(request.device)
    if name is None:
        raise UsageError(
            f"--device {request.device!r} is no known device; known: cpu, {', '.join(devices())}"
        )
    return name, request.chips or chips_in_slice(request.device) or 1

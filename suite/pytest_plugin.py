"""A tpubench workload under pytest-benchmark: the fixture ``tpubench_workload``.

    def test_gemm(tpubench_workload):
        tpubench_workload("gemm", preset="square-512", settings={"steps": 2})

builds, compiles and warms the program once, checks its output against the float32 reference, and
hands one pass (closed by the device's barrier) to pytest-benchmark's ``benchmark``. Save the data
(``--benchmark-json FILE --benchmark-save-data``) from several runs of pytest, and ``tpubench
import pytest-benchmark`` turns them into rows that the gate can judge.

pytest loads this module in every project that has tpubench installed, so it imports nothing else
until the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest


@pytest.fixture
def tpubench_workload(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a case of a workload under ``benchmark``; returns what one pass returns (nothing)."""
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.fail("tpubench_workload needs pytest-benchmark: pip install pytest-benchmark", False)
    benchmark = request.getfixturevalue("benchmark")

    def run(
        workload: str,
        *,
        preset: str | None = None,
        settings: Mapping[str, int | str] | None = None,
        backend: str = "auto",
        compile_mode: str | None = None,
    ) -> Any:
        return _run(benchmark, workload, preset, settings or {}, backend, compile_mode)

    return run


def _run(
    benchmark: Any,
    name: str,
    preset: str | None,
    settings: Mapping[str, int | str],
    backend_name: str,
    compile_mode: str | None,
) -> Any:
    from tpubench.errors import UsageError
    from tpubench.suite import timing
    from tpubench.suite.duets.sides import DUET_PACE
    from tpubench.suite.parity import worst
    from tpubench.suite.parity_means import means_of
    from tpubench.suite.prepared import clockwork, pass_window
    from tpubench.suite.request import Request
    from tpubench.suite.run import make_plan

    overrides = {key: [str(value)] for key, value in settings.items()}
    plan = make_plan(
        Request(
            workload=name,
            backend=backend_name,
            preset=preset,
            overrides=overrides,
            compile_mode=compile_mode,
        )
    )
    if len(plan.cases) != 1:
        labels = "; ".join(case.label() for case in plan.cases)
        raise UsageError(f"{name} {preset or ''} has {len(plan.cases)} cases, name one: {labels}")
    (case,) = plan.cases
    backend, workload = plan.backend, plan.workload
    device = backend.open(plan.compile_mode)
    step = workload.build(case, device, plan.weights)
    step.barrier, step.flush = backend.barrier, backend.flush
    backend.barrier()
    checks = workload.checks(case, step, means_of(workload, backend, device, plan.compile_mode))
    backend.compile(step, plan.compile_mode)
    warm = timing.warm_up(clockwork(backend), pass_window(step), DUET_PACE)
    checked = worst(checks())
    assert checked is None or checked.ok, checked.fault()
    benchmark.extra_info["tpubench"] = {
        "workload": case.workload,
        "workload_version": case.workload_version,
        "preset": case.preset,
        "params": dict(case.params),
        "backend": backend.name,
        "device": backend.device_name(),
        "compile_mode": plan.compile_mode,
        "steadiness": warm.steadiness,
        "description": backend.describe(),
    }
    compiled = backend.recompiles()

    def submitted(output: object = None) -> None:
        """Marks are not timed here: the pass is, from its start until the device is done."""
        backend.flush()

    def one_pass() -> None:
        step.run(submitted)
        backend.barrier()

    result = benchmark(one_pass)
    assert backend.recompiles() == compiled, "recompiled while it was timed"
    return result

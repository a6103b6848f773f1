"""What ``tpubench run`` does with a workload that is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpubench.errors import MissedError, RunFailedError, UsageError

ONLY_SERVED = (
    "server",
    "engine",
    "model",
    "endpoint",
    "api_key_env",
    "power_w",
    "slo",
    "device",
    "dtype",
)
"""Options of ``tpubench run`` that mean something to such a workload alone."""
_MEANINGLESS = ("backend", "prompt", "prompt_ids", "compile_mode")


def served(name: str | None) -> bool:
    """Whether a workload of that name runs against a server."""
    from tpubench.suite import registry

    return name in registry.services()


def refuse(asked: Mapping[str, Any]) -> None:
    """UsageError for options of a served workload where another one is asked for."""
    from tpubench.suite import registry

    for option in ONLY_SERVED:
        if asked[option] not in (None, []):
            names = ", ".join(registry.services())
            raise UsageError(f"--{option.replace('_', '-')} goes with --workload {names}")


def run(asked: Mapping[str, Any]) -> int:
    """Run, store and print; the exit code. asked: the options by name, None where not said."""
    from tpubench.costs.price_files import chosen_price
    from tpubench.reports import progress, terminal
    from tpubench.reports.terminal import serving
    from tpubench.results.store import default_store
    from tpubench.suite import processes, registry, request
    from tpubench.suite.serving import plan as serving_plan
    from tpubench.suite.serving import run as serving_run
    from tpubench.suite.serving import slo

    for option in _MEANINGLESS:
        if asked[option]:
            raise UsageError(f"--{option.replace('_', '-')} means nothing to a served workload")
    wanted = serving_plan.ServingRequest(
        service=registry.services()[asked["workload"]],
        settings=request.overrides(asked["settings"] or []),
        slo=slo.parse(asked["slo"] or []),
        timeout_s=request.timeout(asked["timeout"]),
        server=asked["server"],
        engine=asked["engine"],
        model=asked["model"],
        weights=asked["weights"],
        preset=asked["preset"],
        repeats=request.at_least_one(asked["repeats"]),
        seed=asked["seed"],
        python=None if asked["python"] is None else str(asked["python"]),
        device=asked["device"],
        chips=asked["chips"],
        dtype=asked["dtype"],
        power_w=asked["power_w"],
        endpoint=asked["endpoint"],
        api_key_env=asked["api_key_env"],
        price=chosen_price(asked["price"], asked["usd_per_chip_hour"], asked["prices"] or []),
    )
    processes.adopt_orphans()
    plan = serving_plan.make_plan(wanted, look_only=bool(asked["dry_run"]))
    if asked["dry_run"]:
        serving.show_plan(plan.describe(), as_json=asked["as_json"])
        return 0
    where = asked["store"] or default_store()
    with progress.observer(show=not asked["as_json"]) as observe:
        report = serving_run.execute(plan, where, observe)
    if asked["as_json"]:
        terminal.show_run(report, as_json=True)
    else:
        serving.show_run(report)
    if report.cut_short is not None:
        raise RunFailedError(report.cut_short)
    if report.missed is not None:
        raise MissedError(report.missed)
    return report.exit_code

"""What ``tpubench run`` does with its options and its run file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError


def run(file: Path | None, given: Mapping[str, Any]) -> int:
    """Run, store and print; the exit code. given: the options by name, None where not said.

    UsageError or RunFailedError before anything runs, where nothing can.
    """
    from tpubench.costs.price_files import chosen_price
    from tpubench.reports import progress, terminal
    from tpubench.results.store import default_store
    from tpubench.suite import processes, ranks, request
    from tpubench.suite import run as suite_run

    asked = dict(given)
    if file is not None:
        from tpubench.suite.run_file import with_file

        asked = with_file(file, given)
    if asked["workload"] is None:
        missing = "it names no workload" if file else "nothing says what to run"
        raise UsageError(f"{missing}: give --workload NAME; tpubench list workloads names them")
    from tpubench.commands import _serve

    if _serve.served(asked["workload"]):
        return _serve.run(asked)
    _serve.refuse(asked)
    wanted = request.Request(
        workload=asked["workload"],
        backend=asked["backend"] or "auto",
        preset=asked["preset"],
        overrides=request.overrides(asked["settings"] or []),
        repeats=asked["repeats"],
        weights=asked["weights"],
        prompt=asked["prompt"],
        prompt_ids=request.token_ids(asked["prompt_ids"]),
        python=request.interpreter(asked["python"]),
        compile_mode=asked["compile_mode"],
        timeout_s=request.timeout(asked["timeout"]),
        chips=1 if asked["chips"] is None else asked["chips"],
        price=chosen_price(asked["price"], asked["usd_per_chip_hour"], asked["prices"] or []),
        seed=asked["seed"],
    )
    processes.adopt_orphans()
    plan = suite_run.make_plan(wanted)
    where = asked["store"] or default_store()
    if asked["dry_run"]:
        terminal.show_plan(plan.describe(), as_json=asked["as_json"])
        return 0
    leader = ranks.from_environment().rank == 0  # under torchrun one rank speaks for all
    with progress.observer(show=leader and not asked["as_json"]) as observe:
        outcome = suite_run.execute(plan, where, observe)
    if leader:
        terminal.show_run(outcome, as_json=asked["as_json"], explain=asked["explain"])
    if outcome.cut_short is not None:
        raise RunFailedError(outcome.cut_short)
    return outcome.exit_code

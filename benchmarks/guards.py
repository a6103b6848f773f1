"""What broke in use, by kind: what was seen on 2026-11-28, and whether its guards hold now.

    python benchmarks/guards.py            # runs the guards of every kind, prints the table
    python benchmarks/guards.py --list     # the table without running anything

Each kind is one or several tests that fail on the fault as it was seen. "before" was seen on the
commit 1a1da65; "now" is what the tests say.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault, how it was seen, and the tests that would have caught it."""

    name: str
    before: str
    guards: tuple[str, ...]


def _kind(name: str, before: str, *guards: str) -> Kind:
    return Kind(name=name, before=before, guards=guards)


KINDS = (
    _kind("a gate that compares a tree with itself", "2 × the work was ok",
          "suite/test_proof.py::test_the_forward_pass_twice_is_a_regression"),
    _kind("a child that imports the working directory", "a stranger's json.py ran",
          "suite/test_processes.py::test_no_child_sees_the_working_directory",
          "suite/test_processes.py::test_every_interpreter_that_the_product_starts_is_started_safely"),
    _kind("a repository whose git hooks run", "asking git ran them",
          "suite/test_processes.py::test_asking_git_runs_nothing_that_a_repository_names"),
    _kind("the machine's own limits gated as results", "a nightly job red on an unchanged CPU",
          "test_gate_cli.py::test_what_measured_the_machine_is_not_gated_and_no_headline",
          "test_gate_cli.py::test_without_selectors_the_first_run_is_the_baseline_of_later_ones"),
    _kind("a unit that a summary states wrongly", "whisper at 42,755.7 samples/s",
          "results/test_mlperf_inference.py::test_the_summary_of_v5_1_says_samples_for_whispers_tokens",
          "results/test_published.py::test_what_a_summary_called_samples_is_shipped_as_the_tokens_that_it_counts"),
    _kind("a run in which nothing succeeded", "latencies of 0.0 s, ok",
          "results/test_nothing_succeeded.py"),
    _kind("logs of another run taken as results", "accuracy and compliance logs counted",
          "results/test_mlperf_inference.py::test_a_tree_takes_performance_runs_alone_and_names_the_rest",
          "results/test_mlperf_inference.py::test_the_log_says_the_scenario_whatever_its_folder_is_called"),
    _kind("a device, a count or a precision in a name", "0 chips, precision not stated",
          "results/test_file_names.py",
          "costs/test_imported.py::test_devices_in_brackets_are_known_and_unknown_ones_are_named"),
    _kind("a rate beyond the hardware", "imported without a word",
          "costs/test_imported.py::test_a_figure_beyond_the_hardware_says_so_in_its_row_and_in_a_note"),
    _kind("a shipped figure that nobody checked", "7 of the table wrong",
          "results/test_published.py::test_every_second_source_states_the_shipped_figure_and_is_another_document"),
    _kind("one odd file that hides a store", "113 of 677 mutated files: traceback, hang, > 1 GB",
          "results/test_untrusted_store.py"),
    _kind("a checkpoint that lies", "9 of 219: traceback, hang, > 1 GB",
          "workloads/test_checkpoint_fuzz.py", "workloads/test_untrusted_checkpoint.py"),
    _kind("a child that floods or talks nonsense", "3.9 GB in 13 s",
          "suite/test_conversation.py::test_what_a_child_says_is_bounded_and_named"),
    _kind("what outlives a run that was killed", "grandchildren held the device",
          "suite/test_conversation.py::test_a_kill_of_the_run_ends_what_its_children_have_started"),
    _kind("a disk that fills up", "what had ended was lost, no JSON",
          "suite/test_run.py::test_a_disk_that_fills_up_keeps_what_had_ended_and_still_prints_it"),
    _kind("stored text that gives a terminal orders", "escapes reached terminal and CSV",
          "reports/test_plain_text.py"),
    _kind("an option given twice or empty", "all but the last dropped in silence",
          "test_strict_options.py"),
    _kind("a run that is called steady and is not", "passes of 140 ms and 0.22 ms",
          "suite/test_timing.py"),
    _kind("a run from the future", "hid the others as latest",
          "results/test_select.py::test_latest_says_so_when_a_run_from_the_future_hides_others"),
    _kind("a third party's broken package", "broke every command",
          "suite/test_registry.py::test_a_third_party_is_found_by_its_name_and_hinders_nothing"),
    _kind("metrics that only a workload knows", "dropped",
          "suite/test_own_metrics.py::test_a_workloads_own_metric_is_stored_shown_and_verified"),
    _kind("two prices for one thing", "the last won: $4.22 or $3.67 by order of lines",
          "costs/test_catalogue_conflicts.py"),
    _kind("two rules for a list price", "$2.69 or $6.155 for an H100",
          "results/test_published.py::test_the_list_price_is_the_middle_of_the_providers"),
    _kind("a contract's minimum and cap", "break-even 66.7 % for 100 %",
          "costs/test_money.py"),
    _kind("a verdict that is not about the plan", "plan 83 % GPU, verdict TPU",
          "costs/test_given_plans.py"),
    _kind("delays that overlap", "multiplied: 20 chips for 10", "costs/test_given_plans.py"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="run nothing")
    asked = parser.parse_args()
    print("| kind | before | guards | now |\n|---|---|---|---|")
    failed = False
    for kind in KINDS:
        now = "not run" if asked.list else held(kind)
        failed |= now.startswith("FAILED")
        guards = ", ".join(f"`{guard}`" for guard in kind.guards)
        print(f"| {kind.name} | {kind.before} | {guards} | {now} |", flush=True)
    sys.exit(failed)


def held(kind: Kind) -> str:
    """How many tests guard it, all passed; or what failed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", *(f"tests/{g}" for g in kind.guards)],
        cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode == 0 and passed:
        return f"{passed[1]} passed"
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return f"FAILED: {'; '.join(lines)[:200] or done.stdout[-200:]}"


if __name__ == "__main__":
    main()

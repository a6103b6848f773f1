"""What is gated and how strictly, declared before anything is measured.

Defaults suit most; a team writes its own down in a TOML file that lives beside the code::

    metrics = ["output_tok_s", "ttft_s"]      # gated metrics; the workload's headline otherwise
    margin = 1.01                             # what must be exceeded to be called a regression
    limit = 1.05                              # what must be excluded to be called ok

    [metric.ttft_s]                           # a metric of its own
    limit = 1.10

    [workload.llama-infer]                    # a workload whose pairs are heavy-tailed
    test = "sign"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tpubench.errors import UsageError
from tpubench.results.gate.tests import PairedTest
from tpubench.results.metrics import METRICS, metric
from tpubench.results.toml_file import read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The two claims, their error rates and the test. Ratios above 1 are worse."""

    margin: float = 1.01
    """*Regressed* needs proof that the candidate is worse by more than this."""
    limit: float = 1.05
    """*Ok* needs proof that the candidate is not worse by as much as this."""
    alpha: float = 0.01
    ok_alpha: float = 0.05
    test: PairedTest = "signed-rank"


TAIL = Policy(margin=1.05, limit=1.20)
"""Tail metrics scatter more and are gated apart."""

HEADLINES = ("goodput_req_s", "output_tok_s", "samples_s", "bandwidth_bytes_s", "flop_s",
             "step_time_s")  # fmt: skip
"""Where no metric is declared, the first of these that a case has is gated, and its $ metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Policies by metric and workload, and the declared metrics (None: each case's headline)."""

    metrics: tuple[str, ...] | None = None
    default: Policy = field(default_factory=Policy)
    by_metric: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_workload: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def policy(self, workload: str, metric_name: str, *, tail: bool = False) -> Policy:
        """The policy of one figure: defaults, then the workload's, then the metric's."""
        base = replace(TAIL, test=self.default.test) if tail else self.default
        name = f"{metric_name}.p99" if tail else metric_name
        return replace(
            base, **{**self.by_workload.get(workload, {}), **self.by_metric.get(name, {})}
        )


def load(path: Path | None, *, strict: bool = True) -> Rules:
    """Rules from a TOML file; the defaults without one. UsageError naming what is wrong.

    Not strict: metrics may be a workload's own; :func:`check` them against the rows.
    """
    if path is None:
        return Rules()
    document = read_document(path)
    metrics = document.pop("metrics", None)
    by_metric = _tables(path, document.pop("metric", {}), "metric")
    by_workload = _tables(path, document.pop("workload", {}), "workload")
    rules = Rules(
        metrics=None if metrics is None else _names(path, metrics),
        default=replace(Policy(), **_checked(path, document, "the top")),
        by_metric=by_metric,
        by_workload=by_workload,
    )
    if strict:
        check(rules)
    return rules


def check(rules: Rules, own: Collection[str] = ()) -> None:
    """UsageError for a metric that is none and not among ``own``, those of the rows at hand."""
    for name in (*(rules.metrics or ()), *(key.removesuffix(".p99") for key in rules.by_metric)):
        if name not in own:
            metric(name)


def declared(rules: Rules, names: list[str]) -> Rules:
    """``rules`` gating ``names`` instead, where any are given."""
    return replace(rules, metrics=tuple(names)) if names else rules


def headline(present: set[str]) -> tuple[str, ...]:
    """The metrics gated by default among those a case has."""
    first = next((name for name in HEADLINES if name in present), None)
    if first is None:
        return ()
    costs = [name for name, known in METRICS.items() if known.usd_of == first and name in present]
    return (first, *costs)


def _names(path: Path, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{path}: metrics must be a list of metric names")
    return tuple(value)


def _tables(path: Path, value: object, what: str) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise UsageError(f"{path}: write [{what}.NAME] tables")
    return {name: _checked(path, table, f"{what}.{name}") for name, table in value.items()}


def _checked(path: Path, values: dict[str, Any], where: str) -> dict[str, Any]:
    for key, value in values.items():
        if key == "test":
            if value not in get_args(PairedTest):
                raise UsageError(f"{path}: test in {where} is one of {get_args(PairedTest)}")
        elif key in {"margin", "limit"}:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 10:
                raise UsageError(f"{path}: {key} in {where} is a ratio from 1 to 10, e.g. 1.05")
        else:
            raise UsageError(f"{path}: unknown key {key!r} in {where}; known: margin, limit, test")
    if values.get("margin", 1.0) >= values.get("limit", 10.0):
        raise UsageError(f"{path}: margin must be below limit in {where}")
    return values
